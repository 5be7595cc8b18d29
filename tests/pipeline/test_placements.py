"""Which channel is registered, what is refused, and that a registration is made once."""

from dataclasses import replace

import numpy as np
import pytest

from segpipe.anatomy import Placement, mni152_map
from segpipe.anatomy.template import sample_at, template_lattice
from segpipe.config import AnatomyConfig, RegistrationConfig, parse
from segpipe.data.nifti import write_volume
from segpipe.errors import ConfigError, DataError
from segpipe.observer import Silent
from segpipe.pipeline.placements import (
    check_registration,
    find_placement,
    placement_key,
    registered_channel,
)
from segpipe.pipeline.prepare import run_prepare
from segpipe.pipeline.regions import CaseRegions, scan_regions
from segpipe.volume import Volume


def anatomy(source="template", **registration):
    return AnatomyConfig.model_validate(
        {
            "regions": [{"name": "brain", "source": source, "file": "brain"}],
            "registration": registration,
        }
    )


@pytest.mark.parametrize(
    ("channels", "wanted"),
    [
        (("FLAIR", "T1"), 1),
        (("FLAIR", "T1w", "T1ce"), 1),
        (("T2", "MPRAGE"), 1),
        (("T10", "ST1", "FLAIR"), 0),
        (("acq-3D_T1w", "FLAIR"), 0),
        (("CT",), 0),
    ],
)
def test_a_t1_is_registered_where_there_is_one(channels, wanted):
    assert registered_channel(channels, RegistrationConfig()) == wanted


def test_a_channel_can_be_named_and_must_be_there():
    named = RegistrationConfig(channel="FLAIR")
    assert registered_channel(("T1", "FLAIR"), named) == 1
    with pytest.raises(ConfigError, match="expected one of T1, T2; received 'FLAIR'"):
        registered_channel(("T1", "T2"), named)


def test_what_no_case_could_be_registered_with_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"anatomy\.registration\.channel"):
        check_registration(anatomy(channel="T3"), ("T1",), tmp_path)
    with pytest.raises(DataError, match="image to register to does not exist") as caught:
        check_registration(anatomy(image="flair.nii.gz"), ("T1",), tmp_path)
    assert caught.value.where == str(tmp_path / "flair.nii.gz")
    check_registration(anatomy(transform="none", channel="T3"), ("T1",), tmp_path)
    check_registration(anatomy(source="mask", channel="T3"), ("T1",), tmp_path)


def scan(shift_mm=60.0, channels=1):
    """The template's T1 at 4 mm, moved in the world."""
    grid = template_lattice(4.0)
    array = 900 * sample_at(mni152_map("t1"), grid)
    affine = grid.affine.copy()
    affine[1, 3] += shift_mm
    return Volume(np.stack([array] * channels, -1), affine)


class Counted:
    """A registration that counts its calls and tells what it was given."""

    def __init__(self, placement):
        self.placement = placement
        self.calls = []

    def __call__(self, channel, template, transform, name):
        self.calls.append((channel, template, transform, name))
        return self.placement


@pytest.fixture
def counted(monkeypatch):
    affine = np.eye(4)
    affine[1, 3] = 60.1
    field = Volume(np.full((2, 3, 4, 3), 0.5, np.float32), np.diag([4.0, 4, 4, 1]))
    placement = Placement("bspline", affine, "T1", 0.2, 3.0, 0.9, bend=field, unbend=field)
    made = Counted(placement)
    monkeypatch.setattr("segpipe.anatomy.registration.register", made)
    return made


def test_a_scan_in_the_space_is_not_registered(counted):
    found = find_placement(scan(0.0), ("T1",), anatomy(), "")
    assert found.method == "as is"
    assert found.problem == ""
    assert not counted.calls


def test_without_registration_a_scan_elsewhere_has_no_place(counted):
    found = find_placement(scan(), ("T1",), anatomy(transform="none"), "")
    assert "not in MNI152 space" in found.problem
    assert not counted.calls


def test_regions_from_elsewhere_need_no_place(counted):
    assert find_placement(scan(), ("T1",), anatomy("mask"), "") is None


def test_a_registration_is_made_once_per_content_and_comes_back_whole(counted, tmp_path):
    settings = anatomy(transform="bspline")
    image = scan(channels=2)
    image.array[..., 1] += 1
    first = find_placement(image, ("FLAIR", "T1"), settings, "", tmp_path)
    again = find_placement(image, ("FLAIR", "T1"), settings, "", tmp_path)
    assert len(counted.calls) == 1
    channel, template, transform, name = counted.calls[0]
    assert np.array_equal(channel.array, image.array[..., 1])
    assert template is mni152_map("t1")
    assert (transform, name) == ("bspline", "T1")
    assert again.describe() == first.describe()
    assert np.array_equal(again.affine, first.affine)
    assert np.array_equal(again.bend.array, first.bend.array)
    assert np.array_equal(again.unbend.affine, first.unbend.affine)
    image.array[0, 0, 0, 1] += 1
    find_placement(image, ("FLAIR", "T1"), settings, "", tmp_path)
    assert len(counted.calls) == 2


def test_the_key_follows_scan_image_and_transform(tmp_path):
    for name, value in (("a", 1), ("b", 2)):
        array = np.full((3, 3, 3), value, np.float32)
        write_volume(tmp_path / f"{name}.nii.gz", Volume(array, np.eye(4)))
    one, other = scan(), scan(61.0)
    keys = {
        placement_key(volume, image, RegistrationConfig(transform=transform))
        for volume in (one, other)
        for image in (None, tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
        for transform in ("rigid", "affine")
    }
    assert len(keys) == 12
    named = RegistrationConfig(channel="T1", transform="rigid")
    assert placement_key(scan(), None, named) in keys  # the channel's name decides nothing


def test_an_own_image_is_registered_to(counted, tmp_path):
    array = np.arange(-4, 23, dtype=np.float32).reshape(3, 3, 3)
    write_volume(tmp_path / "flair.nii.gz", Volume(array, np.diag([2.0, 2, 2, 1])))
    find_placement(scan(), ("FLAIR",), anatomy(image="flair.nii.gz"), tmp_path)
    assert np.array_equal(counted.calls[0][1].array, np.maximum(array, 0))


def test_a_model_whose_image_is_elsewhere_predicts_without_the_region(counted, tmp_path):
    found = find_placement(scan(), ("FLAIR",), anatomy(image="flair.nii.gz"), tmp_path)
    assert found.problem == "the image to register to, flair.nii.gz, does not exist"
    assert not counted.calls


def test_an_image_without_content_is_refused(tmp_path):
    write_volume(tmp_path / "t.nii.gz", Volume(np.zeros((3, 3, 3), np.float32), np.eye(4)))
    with pytest.raises(DataError, match="no image to register to"):
        find_placement(scan(), ("T1",), anatomy(image="t.nii.gz"), tmp_path)


class Listener(Silent):
    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


@pytest.fixture
def dataset(tmp_path):
    """One case in MNI152 space and one of noise."""
    (tmp_path / "data").mkdir()
    noise = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
    for case, volume in (
        ("inside", scan(0.0).with_array(scan(0.0).array[..., 0])),
        ("noise", Volume(noise, np.eye(4))),
    ):
        write_volume(tmp_path / f"data/{case}.nii.gz", volume)
        write_volume(
            tmp_path / f"data/{case}_lesions.nii.gz",
            volume.with_array(np.zeros(volume.shape, np.uint8)),
        )
    rows = [f"{case},{case}.nii.gz,{case}_lesions.nii.gz" for case in ("inside", "noise")]
    (tmp_path / "data/manifest.csv").write_text("\n".join(["case,T1,reference", *rows]))
    regions = [
        {"name": "brain", "source": "template", "file": "brain"},
        {"name": "outside", "source": "complement"},
    ]
    return parse(
        {
            "name": "x",
            "output": str(tmp_path / "runs"),
            "data": {"root": str(tmp_path / "data")},
            "split": {"folds": 1},
            "prepare": {"workers": 1, "spacing_mm": [4, 4, 4]},
            "anatomy": {"regions": regions},
        }
    )


def test_prepare_tells_how_each_case_was_placed(dataset):
    listener = Listener()
    assert run_prepare(dataset, listener) is False
    told = "\n".join(listener.lines)
    assert "inside: " not in told  # as it lies, with nothing to tell
    assert "noise: region brain: left out, T1 could not be registered to the template: " in told
    assert "noise: region outside: left out, as it is what brain leave over" in told


def test_a_scan_to_predict_keeps_the_record_of_its_placement(dataset):
    from types import SimpleNamespace

    bundle = SimpleNamespace(config=dataset, plan=SimpleNamespace(channels=("T1",)))
    noise = np.random.default_rng(0).random((12, 12, 12, 1)).astype(np.float32)
    found = scan_regions("a", Volume(noise, np.eye(4)), bundle, None)
    assert found.maps == {}
    assert found.registration["method"] == "affine"
    assert found.registration["problem"]
    assert len(found.flags) == 2


@pytest.mark.parametrize(("contrast", "flags"), [(3.0, 0), (1.8, 1)])
def test_a_doubtful_registration_is_a_flag_of_the_case(dataset, monkeypatch, contrast, flags):
    from types import SimpleNamespace

    placed = Placement("affine", scan().affine @ np.linalg.inv(scan(0.0).affine), "T1", 0.1)
    placed = replace(placed, contrast=contrast, overlap=0.9)
    monkeypatch.setattr("segpipe.pipeline.regions.find_placement", lambda *_: placed)
    bundle = SimpleNamespace(config=dataset, plan=SimpleNamespace(channels=("T1",)))
    found = scan_regions("a", scan(), bundle, None)
    assert found.maps
    assert ["doubtful" in flag for flag in found.flags] == [True] * flags


def test_a_prepared_case_is_flagged_where_its_template_was_registered():
    facts = Placement("affine", np.eye(4), "T1", 0.211, 3.2, 0.951).describe()
    told = "template: T1 registered to the template (affine): similarity 0.21, contrast 3.2, "
    assert CaseRegions({}, ("a",), facts).noted == (told + "overlap 0.95", "a")
    assert CaseRegions({}, ("a",), {**facts, "method": "as is"}).noted == ("a",)
    assert CaseRegions({}, ("a",), {**facts, "problem": "no brain"}).noted == ("a",)
    assert CaseRegions({}, (), None).noted == ()
