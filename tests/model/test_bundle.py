"""A trained model on disk: what is written is what is read, and nothing else is accepted."""

import io
import json
import math
import pickle
import zipfile
from hashlib import sha256

import numpy as np
import pytest

from segpipe.config import OperatingPoint, digest, parse
from segpipe.errors import ModelError
from segpipe.model.arrays import pack_arrays, unpack_arrays
from segpipe.model.bundle import Bundle, load_bundle, load_network, save_bundle, save_weights
from segpipe.model.facts import DatasetFacts
from segpipe.model.priors import load_priors, save_priors
from segpipe.prepare import PreparePlan
from segpipe.volume import Volume


def make(labels=None, features=(4, 8), **model):
    dimensions = model.get("dimensions", 3)
    config = parse(
        {
            "name": "x",
            "data": {"root": "d"},
            "model": {"features": features, **model},
            "train": {"patch": [8] * dimensions},
        }
    )
    plan = PreparePlan(
        spacing_mm=(1, 1.2, 3.3),
        normalise="zscore",
        channels=("t1", "t2"),
        labels=labels or {"a": 1},
    )
    return Bundle(
        name="x",
        segpipe="0.1.0",
        created="2026-01-01T00:00:00+00:00",
        source_revision=None,
        dirty=None,
        config=config,
        config_digest=digest(config),
        plan=plan,
        operating_point=OperatingPoint(threshold=0.1 + 0.2, min_size_mm3=10),
        dataset=DatasetFacts(name="d", digest="e", training_cases=3, validation_cases=1),
        spacing_range_mm=((1, 1, 3), (1, 1.5, 4)),
        validation={"cases": 1, "summary": {"a": {"dice": {"mean": 0.7}}}},
        weights_sha256="",
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    bundle = make()
    network = bundle.build()
    for variable in network.variables:
        variable.assign(np.random.default_rng(3).normal(size=variable.shape))
    bundle = bundle.model_copy(update={"weights_sha256": save_weights(folder, network)})
    save_bundle(folder, bundle)
    return folder, bundle, network


@pytest.fixture
def copied(trained, tmp_path):
    for name in ("bundle.json", "weights.npz"):
        (tmp_path / name).write_bytes((trained[0] / name).read_bytes())
    return tmp_path


def change(folder, **values):
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_bundle_reads_back_as_it_was_written(trained):
    folder, bundle, network = trained
    assert sorted(path.name for path in folder.iterdir()) == ["bundle.json", "weights.npz"]
    assert load_bundle(folder) == bundle
    assert json.loads((folder / "bundle.json").read_text())["schema"] == 1
    assert sha256((folder / "weights.npz").read_bytes()).hexdigest() == bundle.weights_sha256
    loaded = load_network(folder, bundle)
    x = np.random.default_rng(0).normal(size=(1, 8, 8, 8, 2)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(loaded(x)), np.asarray(network(x)))


def test_the_same_weights_are_the_same_bytes(trained, tmp_path):
    folder, bundle, _ = trained
    again = save_weights(tmp_path, load_network(folder, bundle))
    assert again == bundle.weights_sha256


@pytest.mark.parametrize(("labels", "outputs"), [({"a": 7}, 1), ({"a": 1, "b": 2}, 3)])
def test_the_network_has_the_outputs_and_axes_of_its_plan(labels, outputs):
    bundle = make(labels, dimensions=2)
    assert bundle.outputs == outputs
    assert bundle.slice_axis == 2
    network = bundle.build()
    assert tuple(network.input_shape) == (None, 8, 8, 2)
    assert tuple(network.output_shape) == (None, 8, 8, outputs)
    assert make().slice_axis is None


@pytest.mark.parametrize("cut", [0, 1, 200, -1])
def test_a_cut_json_is_refused(copied, cut):
    path = copied / "bundle.json"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"bundle\.json: expected a valid bundle; received"):
        load_bundle(copied)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"schema": 2}, "at schema"),
        ({"code": "import os"}, "at code"),
        ({"operating_point": {"threshold": 2}}, "at operating_point.threshold"),
        ({"spacing_range_mm": [[1, 1], [2, 2]]}, "at spacing_range_mm"),
        ({"plan": {}}, "at plan"),
        ({"weights_sha256": None}, "at weights_sha256"),
        ({"config_digest": "0" * 64}, "expected configuration digest 000.*was changed after"),
    ],
)
def test_json_that_does_not_validate_is_refused(copied, values, said):
    change(copied, **values)
    with pytest.raises(ModelError, match=said):
        load_bundle(copied)


def test_a_changed_configuration_is_refused(copied):
    content = json.loads((copied / "bundle.json").read_text())
    content["config"]["predict"]["overlap"] = 0.25
    change(copied, config=content["config"])
    with pytest.raises(ModelError, match="expected configuration digest"):
        load_bundle(copied)
    del content["config"]["predict"]["overlap"]  # what is deleted is no older setting
    change(copied, config=content["config"])
    with pytest.raises(ModelError, match=r"configuration digest .*was changed after training"):
        load_bundle(copied)


def of_another_version(folder, edit):
    """The bundle as a version wrote it whose configuration was edited like this."""
    content = json.loads((folder / "bundle.json").read_text())
    edit(content["config"])
    digested = sha256(json.dumps(content["config"], sort_keys=True).encode()).hexdigest()
    change(folder, config=content["config"], config_digest=digested, segpipe="0.0.7")


def test_a_bundle_from_before_a_setting_was_there_takes_its_default(trained, copied):
    def older(config):
        del config["predict"]["overlap"]
        del config["evaluate"]["certify"]

    of_another_version(copied, older)
    loaded = load_bundle(copied)
    assert loaded.config == trained[1].config
    assert loaded.segpipe == "0.0.7"
    load_network(copied, loaded)
    point = OperatingPoint(threshold=0.25)
    save_bundle(copied, loaded.model_copy(update={"operating_point": point}))
    again = load_bundle(copied)
    assert (again.operating_point, again.config) == (point, loaded.config)
    content = json.loads((copied / "bundle.json").read_text())["config"]
    assert "overlap" not in content["predict"]
    content["train"]["epochs"] = 7
    change(copied, config=content)
    with pytest.raises(ModelError, match="was changed after training"):
        load_bundle(copied)


@pytest.mark.parametrize(
    "edit",
    [
        lambda config: config["predict"].update(tiles=3),
        lambda config: config["predict"].update(overlap=1.5),
        lambda config: config.pop("name"),
    ],
)
def test_a_bundle_of_another_version_is_told_from_a_changed_one(copied, edit):
    of_another_version(copied, edit)
    with pytest.raises(ModelError, match=r"made by segpipe 0\.0\.7, with other settings"):
        load_bundle(copied)
    change(copied, config_digest="0" * 64)
    with pytest.raises(ModelError, match="damaged or was changed after training"):
        load_bundle(copied)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path, copied):
    for folder in (tmp_path / "none", tmp_path.parent):
        with pytest.raises(ModelError, match=r"expected a bundle with bundle.json and weights.npz"):
            load_bundle(folder)
    bundle = load_bundle(copied)
    (copied / "weights.npz").unlink()
    with pytest.raises(ModelError, match=r"weights.npz: expected the weights"):
        load_network(copied, bundle)


@pytest.mark.parametrize("harm", ["cut", "flip", "exchange"])
def test_weights_other_than_those_that_are_named_are_refused(trained, copied, harm):
    path = copied / "weights.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if harm == "cut":
        content = content[:-10]
    path.write_bytes(content)
    if harm == "exchange":
        save_weights(copied, make().build())
    with pytest.raises(ModelError, match=r"expected SHA-256 .* damaged or was exchanged"):
        load_network(copied, trained[1])


@pytest.mark.parametrize("other", [{"features": (4, 16)}, {"features": (4, 8, 8)}])
def test_weights_of_another_network_are_refused(tmp_path, other):
    bundle = make()
    named = bundle.model_copy(
        update={"weights_sha256": save_weights(tmp_path, make(**other).build())}
    )
    with pytest.raises(ModelError, match="do not belong together"):
        load_network(tmp_path, named)


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def evil_npz():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", pickle.dumps(Evil()))
    return stream.getvalue()


def object_npz():
    stream = io.BytesIO()
    np.savez(stream, a=np.array([Evil()], dtype=object))
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"PK\x03\x04", pickle.dumps(Evil()), object_npz(), evil_npz(), b"\x93NUMPY\x01\x00"],
)
def test_nothing_is_unpickled_even_if_the_digest_says_so(tmp_path, content):
    bundle = make().model_copy(update={"weights_sha256": sha256(content).hexdigest()})
    (tmp_path / "weights.npz").write_bytes(content)
    with pytest.raises(ModelError, match=r"weights\.npz: expected"):
        load_network(tmp_path, bundle)


def test_undefined_figures_are_written_as_json(tmp_path):
    bundle = make().model_copy(update={"validation": {"cases": 0, "dice": None}})
    save_bundle(tmp_path, bundle)

    def refuse(text):
        raise AssertionError(text)

    json.loads((tmp_path / "bundle.json").read_text(), parse_constant=refuse)
    assert load_bundle(tmp_path).validation == {"cases": 0, "dice": None}


def test_arrays_are_packed_in_order_and_bit_by_bit():
    arrays = {
        "0001/b/kernel": np.array([[1.5, math.nan], [-0.0, math.inf]], np.float32),
        "0000/a": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.uint8),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    }
    content = pack_arrays(arrays)
    back = unpack_arrays(content)
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
    assert pack_arrays(arrays) == content
    assert pack_arrays({name: array.copy() for name, array in arrays.items()}) == content


@pytest.mark.parametrize("name", ["often/../../../scans/mine", "..", "a.b", ""])
def test_the_name_of_a_prior_is_no_way_to_another_file(tmp_path, name):
    save_bundle(tmp_path, make().model_copy(update={"priors_sha256": {name: "ab"}}))
    with pytest.raises(ModelError, match="priors_sha256"):
        load_bundle(tmp_path)


def test_lesion_frequency_comes_back_bit_for_bit_and_only_undamaged(tmp_path):
    prior = Volume(
        np.random.default_rng(5).random((5, 4, 3)).astype(np.float32), np.diag([2, 1, 1, 1])
    )
    bundle = make().model_copy(update={"priors_sha256": save_priors(tmp_path, {"often": prior})})
    save_bundle(tmp_path, bundle)
    ((name, loaded),) = load_priors(tmp_path, load_bundle(tmp_path)).items()
    assert name == "often"
    assert loaded.array.tobytes() == prior.array.tobytes()
    assert np.array_equal(loaded.affine, prior.affine)
    path = tmp_path / "prior_often.nii.gz"
    content = bytearray(path.read_bytes())
    content[4] ^= 1  # in the gzip header: the voxels are the same
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"prior_often\.nii\.gz: expected SHA-256"):
        load_priors(tmp_path, bundle)
    path.unlink()
    with pytest.raises(ModelError, match="expected a lesion frequency"):
        load_priors(tmp_path, bundle)
