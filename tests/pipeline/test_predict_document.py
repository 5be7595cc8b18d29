"""predict.json: written case by case, taken up again, and refused to others."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from segpipe.backend import Device
from segpipe.config import EvaluateConfig, OperatingPoint, parse
from segpipe.data.layouts import Case, ChannelFile
from segpipe.errors import ConfigError, DataError, GeometryError
from segpipe.journal import read_journal
from segpipe.model.bundle import Bundle
from segpipe.pipeline.models import Loaded, _adjusted
from segpipe.pipeline.points import bundled_choice, operating_point, used_in_words
from segpipe.pipeline.predict import PredictRequest, _expect_apart, _protect
from segpipe.pipeline.predict_document import PredictDocument, sole_writer
from segpipe.pipeline.regions import region_digests, scan_regions
from segpipe.report.document import read_document
from segpipe.volume import Volume

CONFIG = parse(
    {
        "name": "x",
        "data": {"root": "d"},
        "anatomy": {
            "regions": [
                {"name": "wm", "source": "mask", "file": "wm/{case}.nii.gz", "weight": 0.5},
                {"name": "elsewhere", "source": "complement"},
            ]
        },
    }
)
BUNDLE = SimpleNamespace(
    name="x",
    config=CONFIG,
    config_digest="cd",
    weights_sha256="ab",
    source_revision=None,
    created="2026",
    plan=SimpleNamespace(channels=("t1",), labels={"lesion": 1}),
    operating_point=OperatingPoint(threshold=0.3, min_size_mm3=5.0),
    spacing_range_mm=((0.9, 0.9, 2.0), (1.1, 1.0, 3.0)),
    mirrored=(),
    overlapped=0.5,
    precision="float32",
)


def loaded(weights="ab", overlap=0.5, mirror_axes=()):
    bundle = SimpleNamespace(**{**vars(BUNDLE), "weights_sha256": weights})
    model = SimpleNamespace(bundle=bundle, overlap=overlap, mirror_axes=mirror_axes)
    device = Device("tensorflow", "cpu", "Abacus", "float32", True, False)
    return Loaded((Path("b"),), (bundle,), (model,), device, "keras", CONFIG)


def document(folder, point=BUNDLE.operating_point, **changes):
    return PredictDocument(folder, loaded(**changes), point, 26)


def scan(folder, case, content=b"s"):
    path = folder / f"{case}_scan.nii"
    path.write_bytes(content)
    return Case(case, case, (ChannelFile(path),))


def entry(folder, case, status="predicted"):
    (folder / f"{case}.nii.gz").write_bytes(b"m")
    files = {"mask": f"{case}.nii.gz", "components": f"{case}.nii.gz", "probability": None}
    channels = [{"path": f"{case}_scan.nii", "sha256": hashlib.sha256(b"s").hexdigest()}]
    return {"case": case, "status": status, "files": files, "channels": channels}


def test_every_case_is_kept_as_it_comes_and_the_document_is_sorted(tmp_path):
    made = document(tmp_path)
    for count, case in enumerate(("b", "a"), start=1):
        made.add(entry(tmp_path, case))
        assert len(read_journal(tmp_path / "predict.json")["cases"]) == count
    made.write()
    written = json.loads((tmp_path / "predict.json").read_text())
    assert [c["case"] for c in written["cases"]] == ["a", "b"]
    assert written["schema"] == 1
    assert written["engine"] == "keras"
    assert written["device"].startswith("cpu (Abacus)")
    assert written["bundle"]["weights_sha256"] == "ab"
    assert written["bundle"]["channels"] == ["t1"]
    assert written["settings"] == {
        "threshold": 0.3,
        "min_size_mm3": 5.0,
        "core_threshold": None,
        "largest_only": False,
        "connectivity": 26,
        "overlap": 0.5,
        "mirror_axes": [],
    }


def test_a_kill_loses_no_case_that_was_finished_and_leaves_none_that_is_gone(tmp_path):
    made = document(tmp_path)
    for case in ("a", "b", "c"):
        made.add(entry(tmp_path, case))
    made.forget("a", "b")
    assert not (tmp_path / "a.nii.gz").exists()
    made.add(entry(tmp_path, "d"))
    again = document(tmp_path)  # made.write() never came
    again.keep_earlier(overwrite=False)
    assert list(again.cases) == ["c", "d"]
    assert [again.skip(scan(tmp_path, case)) for case in "abcd"] == [False, False, True, True]
    assert [case.case for case in read_document(tmp_path / "predict.json").cases] == ["c", "d"]


def test_a_case_that_a_kill_cut_is_known_and_predicted_anew(tmp_path):
    made, scans = document(tmp_path), tmp_path / "scans"
    scans.mkdir()
    made.add(entry(tmp_path, "done"))
    for case in ("cut", "new"):
        made.begin(case, {"mask": f"{case}.nii.gz", "probability": None})
    (tmp_path / "cut.nii.gz").write_bytes(b"m")  # and killed before its entry
    (tmp_path / "strange.nii.gz").write_bytes(b"m")
    again = document(tmp_path)
    again.keep_earlier(overwrite=False)
    request = PredictRequest(("b",), (scans,), tmp_path)
    _protect([scan(scans, case) for case in ("done", "cut", "new")], again, request)
    assert [again.skip(scan(scans, case)) for case in ("done", "cut")] == [True, False]
    with pytest.raises(ConfigError, match="does not know it"):
        _protect([scan(scans, "strange")], again, request)
    again.write()
    assert [case.case for case in read_document(tmp_path / "predict.json").cases] == ["done"]
    again.forget("cut")
    assert not (tmp_path / "cut.nii.gz").exists()


def test_a_kill_amid_removing_leaves_files_that_are_known(tmp_path, monkeypatch):
    made = document(tmp_path)
    made.add(entry(tmp_path, "a"))
    made.add({**entry(tmp_path, "b"), "files": {"probability": "b.nii.gz"}})

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            made.forget("a")
        with pytest.raises(KeyboardInterrupt):
            made.begin("b", {"mask": "b_mask.nii.gz", "probability": None})
    left = {case["case"]: case for case in read_journal(tmp_path / "predict.json")["cases"]}
    assert (left["a"]["status"], left["b"]["status"]) == ("begun", "begun")
    assert left["b"]["files"] == {"probability": "b.nii.gz", "mask": "b_mask.nii.gz"}


def test_two_calls_never_predict_into_one_folder_at_once(tmp_path):
    with sole_writer(tmp_path / "out"):
        with (
            pytest.raises(ConfigError, match="another segpipe predict is writing"),
            sole_writer(tmp_path / "out"),
        ):
            pass
        with sole_writer(tmp_path / "other"):
            pass
    assert not list((tmp_path / "out").iterdir())
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(ConfigError, match="expected a folder to write to"),
        sole_writer(tmp_path / "file"),
    ):
        pass


def test_a_scan_that_has_moved_is_known_where_it_lies_now(tmp_path):
    made = document(tmp_path)
    made.add(entry(tmp_path, "a"))
    (tmp_path / "moved").mkdir()
    assert made.skip(scan(tmp_path / "moved", "a"))
    made.write()
    (case,) = read_document(tmp_path / "predict.json").cases
    assert [channel.path for channel in case.channels] == [str(tmp_path / "moved/a_scan.nii")]
    assert case.channels[0].sha256 == hashlib.sha256(b"s").hexdigest()


def test_cases_that_are_done_are_skipped_and_others_are_not(tmp_path):
    first = document(tmp_path)
    for case in ("done", "lost"):
        first.add(entry(tmp_path, case))
    broken = Case("broken", "p", (ChannelFile(tmp_path / "broken.nii", 2),))
    first.fail(broken, DataError("broken.nii", "cut short", fix="Copy it again."), 1.234)
    (tmp_path / "lost.nii.gz").unlink()
    again = document(tmp_path)
    again.keep_earlier(overwrite=False)
    assert again.skip(scan(tmp_path, "done"))
    assert not again.skip(scan(tmp_path, "lost"))
    assert not again.skip(scan(tmp_path, "broken"))
    assert not again.skip(scan(tmp_path, "new"))
    again.write()
    cases = {c["case"]: c for c in json.loads((tmp_path / "predict.json").read_text())["cases"]}
    assert cases["done"]["status"] == "skipped"
    made = {key: cases["broken"].pop(key) for key in again.made}
    assert all(made[key] for key in ("segpipe", "created", "device", "engine"))
    assert cases["broken"] == {
        "case": "broken",
        "status": "failed",
        "channels": [{"path": str(tmp_path / "broken.nii"), "index": 2}],
        "flags": [],
        "seconds": 1.23,
        "error": "broken.nii: cut short. Copy it again.",
    }
    third = document(tmp_path)
    third.keep_earlier(overwrite=False)
    assert third.skip(scan(tmp_path, "done"))


def test_why_a_case_failed_is_kept_without_the_folders_of_its_scans(tmp_path):
    made = document(tmp_path)
    case = Case("a", "p", (ChannelFile(Path("in/Muster; Anna/a_0000.nii")),))
    made.fail(case, GeometryError("in/Muster; Anna/a_0001.nii: not on the same grid"), 1.0)
    assert made.cases["a"]["error"] == "a_0001.nii: not on the same grid"


def test_what_was_not_made_before_is_not_skipped(tmp_path):
    made = document(tmp_path)
    made.add(entry(tmp_path, "done"))
    assert not made.skip(scan(tmp_path, "done"), ["probability"])
    with pytest.raises(ConfigError, match="another scan was predicted as done"):
        made.skip(scan(tmp_path, "done", b"follow-up"))


def test_another_scan_is_refused_whatever_else_is_wanted(tmp_path):
    made, follow_up = document(tmp_path), scan(tmp_path, "a", b"follow-up")
    made.add({**entry(tmp_path, "a"), "region_files": {"wm": "12"}})
    for wanted, regions in (((), None), (["probability"], None), ((), {"wm": "34"})):
        with pytest.raises(ConfigError, match="another scan was predicted as a"):
            made.skip(follow_up, wanted, regions)
    (tmp_path / "a.nii.gz").unlink()
    with pytest.raises(ConfigError, match="another scan was predicted as a"):
        made.skip(follow_up)


def test_overwriting_what_nobody_can_read_leaves_no_mask_of_it(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz", "components/a.nii.gz", "probabilities/a.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"m")
    (tmp_path / "predict.json").write_text("{")
    with pytest.raises(ConfigError, match=r"expected what segpipe predict wrote.*--overwrite"):
        document(tmp_path).keep_earlier(overwrite=False, redone={"a", "b"})
    with pytest.raises(ConfigError, match=r"received others too: b\. Name their scans too"):
        document(tmp_path).keep_earlier(overwrite=True, redone={"a"})
    assert len(list(tmp_path.rglob("*.nii.gz"))) == 4
    made = document(tmp_path)
    made.keep_earlier(overwrite=True, redone={"a", "b"})
    assert not list(tmp_path.rglob("*.nii.gz"))
    made.add(entry(tmp_path, "a"))
    made.write()
    assert [case.case for case in read_document(tmp_path / "predict.json").cases] == ["a"]


def test_a_certificate_holds_at_its_own_point_alone(tmp_path):
    own, other = BUNDLE.operating_point, OperatingPoint(threshold=0.9)
    assert document(tmp_path).head["certificate_void"] is None
    void = document(tmp_path, other).head["certificate_void"]
    assert void == "it was calibrated at another operating point"
    chosen_now = PredictDocument(tmp_path, loaded(), other, 26, of_validation=True)
    assert chosen_now.head["certificate_void"] is None
    assert own != other


def test_overwriting_one_case_keeps_the_others(tmp_path):
    first = document(tmp_path)
    first.add(entry(tmp_path, "a"))
    same, other = document(tmp_path), document(tmp_path, weights="cd")
    same.keep_earlier(overwrite=True)
    other.keep_earlier(overwrite=True, redone={"a"})
    assert list(same.cases) == ["a"]
    assert other.cases == {}


def test_a_mask_never_replaces_a_scan_or_a_strangers_mask(tmp_path):
    own = tmp_path / "p1.nii.gz"
    own.write_bytes(b"s")
    request = PredictRequest(("b",), (own,), tmp_path, overwrite=True)
    with pytest.raises(ConfigError, match="would replace the scan"):
        _expect_apart([Case("p1", "p1", (ChannelFile(own),))], request)
    case = scan(tmp_path / "..", "p1")
    with pytest.raises(ConfigError, match="does not know it"):
        _protect([case], document(tmp_path), replace(request, overwrite=False))
    _protect([case], document(tmp_path), request)
    assert own.read_bytes() == b"s"


def test_without_an_earlier_document_there_is_nothing_to_keep(tmp_path):
    made = document(tmp_path)
    made.keep_earlier(overwrite=False)
    assert made.cases == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "other"},
        {"overlap": 0.25},
        {"mirror_axes": ("R",)},
        {"point": OperatingPoint(threshold=0.31, min_size_mm3=5.0)},
        {"point": OperatingPoint(threshold=0.3)},
    ],
)
def test_predictions_of_another_model_or_setting_are_not_mixed(tmp_path, changes):
    document(tmp_path).add(entry(tmp_path, "a"))
    with pytest.raises(ConfigError, match=r"expected predictions of this bundle.*--overwrite"):
        document(tmp_path, **changes).keep_earlier(overwrite=False)


def test_only_what_differs_is_told(tmp_path):
    document(tmp_path).add(entry(tmp_path, "a"))
    other = document(tmp_path, OperatingPoint(threshold=0.9, min_size_mm3=5.0))
    with pytest.raises(ConfigError, match=r"settings; received threshold 0\.3, now 0\.9\. Give"):
        other.keep_earlier(overwrite=False)
    with pytest.raises(ConfigError, match=r"received those of another model \(x\)\. Give"):
        document(tmp_path, weights="other").keep_earlier(overwrite=False)


def test_overwriting_removes_the_files_of_what_is_done_anew_and_of_nothing_else(tmp_path):
    made = document(tmp_path)
    for case in ("a", "b"):
        made.add(entry(tmp_path, case))
    again = document(tmp_path)
    again.keep_earlier(overwrite=True, redone={"a"})
    again.forget("a")
    again.forget("new")
    left = read_journal(tmp_path / "predict.json")["cases"]
    assert [one["case"] for one in left] == ["b"]
    assert not (tmp_path / "a.nii.gz").exists()  # should the prediction fail, no old mask stands in
    assert (tmp_path / "b.nii.gz").exists()


def test_masks_of_two_settings_never_lie_in_one_folder(tmp_path):
    made = document(tmp_path)
    for case in ("a", "b"):
        made.add(entry(tmp_path, case))
    other = OperatingPoint(threshold=0.9)
    with pytest.raises(ConfigError, match=r"does not predict anew: b\. Name their scans too"):
        document(tmp_path, other).keep_earlier(overwrite=True, redone={"a", "c"})
    assert (tmp_path / "a.nii.gz").exists()
    whole = document(tmp_path, other)
    whole.keep_earlier(overwrite=True, redone={"a", "b", "c"})
    assert whole.cases == {}
    assert json.loads((tmp_path / "predict.json").read_text())["settings"]["threshold"] == 0.9
    assert not list(tmp_path.glob("*.nii.gz"))


def test_files_outside_the_folder_are_never_removed(tmp_path):
    scan_file = tmp_path / "scan.nii.gz"
    scan_file.write_bytes(b"s")
    (tmp_path / "out").mkdir()
    made = document(tmp_path / "out")
    made.add({**entry(tmp_path / "out", "a"), "files": {"mask": "../scan.nii.gz"}})
    made.forget("a")
    assert scan_file.exists()


def test_other_region_files_are_a_reason_to_predict_anew(tmp_path):
    made = document(tmp_path)
    made.add({**entry(tmp_path, "a"), "region_files": {"wm": "12"}})
    again = document(tmp_path)
    again.keep_earlier(overwrite=False)
    case = scan(tmp_path, "a")
    assert not again.skip(case, regions={})
    assert not again.skip(case, regions={"wm": "34"})
    assert again.skip(case, regions={"wm": "12"})
    assert again.skip(case)  # none given: as it was


def test_digests_are_of_the_region_files_that_are_there(tmp_path):
    assert region_digests("a", BUNDLE, tmp_path) == {}
    (tmp_path / "wm").mkdir()
    (tmp_path / "wm/a.nii.gz").write_bytes(b"s")
    assert region_digests("a", BUNDLE, tmp_path) == {"wm": hashlib.sha256(b"s").hexdigest()}


def test_the_image_to_register_to_is_a_file_of_regions_too_and_a_shipped_map_is_none(tmp_path):
    anatomy = {
        "regions": [{"name": "tissue", "source": "template", "file": "wm"}],
        "registration": {"image": "own.nii.gz"},
    }
    config = parse({**CONFIG.model_dump(mode="json"), "anatomy": anatomy})
    bundle = SimpleNamespace(config=config)
    (tmp_path / "wm").write_bytes(b"astray")
    assert region_digests("a", bundle, tmp_path) == {}
    (tmp_path / "own.nii.gz").write_bytes(b"s")
    digest = hashlib.sha256(b"s").hexdigest()
    assert region_digests("a", bundle, tmp_path) == {"tissue, registered to": digest}


def test_only_reading_and_memory_can_be_set_for_a_prediction():
    changed = _adjusted(CONFIG, ["data.repair_nan=true", "predict.batch=1"])
    assert (changed.data.repair_nan, changed.predict.batch) == (True, 1)
    assert changed.train == CONFIG.train
    with pytest.raises(ConfigError, match=r"--set train\.seed=1: expected one of data\.repair_nan"):
        _adjusted(CONFIG, ["train.seed=1"])
    with pytest.raises(ConfigError, match=r"predict\.batch"):
        _adjusted(CONFIG, ["predict.batch=0"])


CERTIFICATE = {
    "risk": "missed_lesions",
    "alpha": 0.1,
    "bound": 1.0,
    "patients": 20,
    "needed": 9,
    "threshold": 0.3,
    "min_size_mm3": 5.0,
    "empirical": 0.05,
    "corrected": 0.09,
    "statement": "expected ≤ 0.1",
    "adopted": True,
}


def certified(networks=1, axes=(), overlap=0.5, **validation):
    """A certified bundle, and perhaps others, ready to predict."""
    facts = {"certificate": CERTIFICATE, **validation}
    bundle = Bundle.model_construct(
        name="ms-fold0",
        config=CONFIG,
        operating_point=BUNDLE.operating_point,
        validation=facts,
        mirror_axes=("R",),
        overlap=0.5,
    )
    model = SimpleNamespace(bundle=bundle, mirror_axes=axes, overlap=overlap)
    device = Device("tensorflow", "cpu", "Abacus", "float32", True, False)
    every = (Path("b"),) * networks, (bundle,) * networks, (model,) * networks
    return Loaded(*every, device, "keras", CONFIG)


def test_what_reports_have_to_know_of_the_model_and_the_machine_is_kept(tmp_path):
    assert document(tmp_path).made["certificate_void"] is None
    other = PredictDocument(tmp_path, loaded(overlap=0.25), BUNDLE.operating_point, 26)
    other.add(entry(tmp_path, "a"))
    other.write()
    written = json.loads((tmp_path / "predict.json").read_text())
    assert written["bundle"]["regions"] == [
        {"name": "wm", "source": "mask", "weight": 0.5},
        {"name": "elsewhere", "source": "complement", "weight": 1.0},
    ]
    (case,) = written["cases"]
    assert case["certificate_void"] == "it was calibrated with tiles that overlap by 0.5"
    read = case["max_voxels"], case["grid_tolerance_mm"]
    assert read == (CONFIG.data.max_voxels, CONFIG.data.grid_tolerance_mm)


def test_the_certificate_is_told_only_at_its_own_operating_point():
    one = certified(axes=["R"])
    point = one.bundle.operating_point
    words = "threshold 0.3, minimum size 5 mm³"
    assert used_in_words(point, one) == f"{words}; certified: expected ≤ 0.1"
    other = operating_point(one.bundle, 0.4, None, 0.6)
    assert used_in_words(other, one) == "threshold 0.4, minimum size 5 mm³, core 0.6"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"networks": 2, "axes": ["R"]}, "2 predict together"),
        ({"axes": []}, "these axes mirrored: R"),
        ({"axes": ["R"], "overlap": 0.25}, "tiles that overlap by 0.5"),
    ],
)
def test_the_certificate_of_one_network_is_not_that_of_others(changes, why):
    used = certified(**changes)
    assert f"; not certified: it was calibrated {'for' if 'networks' in changes else 'with'}" in (
        used_in_words(used.bundle.operating_point, used)
    )
    assert why in used_in_words(used.bundle.operating_point, used)
    choice = bundled_choice(used, CONFIG.evaluate)
    assert (choice.certificate, choice.certified) == (None, False)
    assert why in choice.reason


def test_a_point_that_no_case_chose_is_not_said_to_be_chosen():
    one = certified(axes=["R"])
    never = one.bundle.model_copy(update={"validation": None})
    choice = bundled_choice(replace(one, bundles=(never,)), CONFIG.evaluate)
    assert choice.reason == "the bundle's, as configured, chosen on no case"


def test_a_certificate_holds_for_the_counting_that_it_was_calibrated_with():
    one = certified(axes=["R"])
    kept = bundled_choice(one, CONFIG.evaluate)
    assert (kept.certificate.alpha, kept.certified) == (0.1, True)
    stricter = EvaluateConfig(rule="iou:0.5")
    assert "not certified here: it was calibrated for rule any" in (
        bundled_choice(one, stricter).reason
    )
    then = certified(axes=["R"], counting=stricter.counting)
    assert bundled_choice(then, stricter).certified
    assert not bundled_choice(then, CONFIG.evaluate).certified


def test_every_case_says_when_and_by_what_it_was_predicted(tmp_path):
    document(tmp_path).add(entry(tmp_path, "a"))
    path = tmp_path / "predict.json"
    earlier = json.loads(path.read_text())
    assert earlier["cases"][0]["device"] == earlier["device"]
    del earlier["cases"][0]["created"]  # as an earlier version left it
    path.write_text(json.dumps({**earlier, "created": "2025", "engine": "old"}))
    later = document(tmp_path)
    later.keep_earlier(overwrite=False)
    later.add(entry(tmp_path, "b"))
    cases = json.loads(path.read_text())["cases"]
    assert cases[0]["created"] == "2025"
    assert cases[1]["created"] > "2026"
    assert [case["engine"] for case in cases] == ["keras", "keras"]


def test_the_operating_point_is_the_bundle_s_unless_given():
    assert operating_point(BUNDLE, None, None) == BUNDLE.operating_point
    assert operating_point(BUNDLE, 0.0, None) == OperatingPoint(threshold=0.0, min_size_mm3=5.0)
    assert operating_point(BUNDLE, None, 0.0) == OperatingPoint(threshold=0.3, min_size_mm3=0.0)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_thresholds_out_of_range_are_refused(threshold):
    with pytest.raises(ConfigError, match=r"--threshold: expected 0 to below 1; received"):
        operating_point(BUNDLE, threshold, None)


@pytest.mark.parametrize("size", [-1.0, float("nan")])
def test_sizes_out_of_range_are_refused(size):
    with pytest.raises(ConfigError, match=r"--min-size-mm3: expected 0 or more; received"):
        operating_point(BUNDLE, None, size)


def test_regions_that_are_missing_are_flagged_and_never_an_error(tmp_path):
    image = Volume(np.ones((4, 4, 4, 1), np.float32), np.eye(4))
    for root in (None, tmp_path):
        found = scan_regions("a", image, BUNDLE, root)
        assert "wm" not in found.maps
        assert any("wm" in flag for flag in found.flags)


def test_region_files_are_read_as_the_settings_of_the_prediction_say(tmp_path):
    from segpipe.data.nifti import write_volume

    shifted = np.eye(4)
    shifted[0, 3] = 0.2
    write_volume(tmp_path / "wm" / "a.nii.gz", Volume(np.ones((4, 4, 4), np.uint8), shifted))
    image = Volume(np.ones((4, 4, 4, 1), np.float32), np.eye(4))

    def found(**settings):
        data = CONFIG.data.model_copy(update=settings)
        return scan_regions("a", image, BUNDLE, tmp_path, data=data)

    assert "wm" in found(grid_tolerance_mm=0.3, max_voxels=64).maps
    with pytest.raises(DataError, match="more voxels than allowed"):
        found(grid_tolerance_mm=0.3, max_voxels=63)
    with pytest.raises(GeometryError, match="not on the same grid"):
        found(grid_tolerance_mm=0.1)


def test_regions_that_are_there_are_read(tmp_path):
    from segpipe.data.nifti import write_volume

    wm = np.zeros((4, 4, 4), np.uint8)
    wm[:2] = 1
    write_volume(tmp_path / "wm" / "a.nii.gz", Volume(wm, np.eye(4)))
    image = Volume(np.ones((4, 4, 4, 1), np.float32), np.eye(4))
    found = scan_regions("a", image, BUNDLE, tmp_path)
    assert found.flags == ()
    np.testing.assert_array_equal(found.arrays["wm"], wm)
    np.testing.assert_array_equal(found.arrays["elsewhere"], 1 - wm)
