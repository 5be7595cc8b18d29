import json
import time
from datetime import UTC, datetime

import numpy as np
import pytest

from segpipe.data.nifti import write_volume
from segpipe.errors import DataError
from segpipe.files import file_sha256
from segpipe.pipeline import report, report_inputs
from segpipe.pipeline.report import make_reports
from segpipe.volume import Volume

NOW = datetime(2026, 2, 1, 9, 30)
AFFINE = np.array([[-1.0, 0, 0, 12], [0, 1, 0, -10], [0, 0, 2, -8], [0, 0, 0, 1]])
SPACE = "\N{NO-BREAK SPACE}"


def component(number, voxels):
    return {
        "id": number,
        "label": "lesion",
        "region": "deep",
        "side": "L",
        "volume_ml": voxels * 0.002,
        "longest_diameter_mm": 4.0,
        "mean_probability": 0.75,
        "max_probability": 0.9,
        "centroid_voxel": [1, 1, 1],
        "touches_border": False,
    }


def predicted(folder, case="case_01", shift=0, **changes):
    """Write a scan, its component map and the case's record."""
    ids = np.zeros((24, 20, 8), np.uint8)
    ids[4 + shift : 8 + shift, 5:9, 3:5] = 1
    ids[15:17, 10:12, 4] = 2
    scan = Volume((10 + 100.0 * (ids > 0)).astype(np.float32), AFFINE)
    write_volume(folder / f"{case}_0000.nii.gz", scan)
    write_volume(folder / "components" / f"{case}.nii.gz", Volume(ids, AFFINE))
    digest = file_sha256(folder / f"{case}_0000.nii.gz")
    record = {
        "case": case,
        "status": "predicted",
        "channels": [
            {"path": str(folder / f"{case}_0000.nii.gz"), "index": None, "sha256": digest}
        ],
        "files": {"mask": f"{case}.nii.gz", "components": f"components/{case}.nii.gz"},
        "counts": {
            "lesion": {
                "components": 2,
                "volume_ml": 0.072,
                "removed": 1,
                "removed_volume_ml": 0.002,
            }
        },
        "components": [component(1, 32), component(2, 4)],
        "regions": {"deep": {"components": 2, "volume_ml": 0.072}},
        "flags": [],
        "seconds": 1.0,
        "error": None,
    }
    return {**record, **changes}


def write_document(folder, cases, bundle_path=None, **settings):
    document = {
        "schema": 1,
        "segpipe": "0.1.0",
        "created": "2026-01-31T08:00:00+00:00",
        "device": "CPU",
        "engine": "keras",
        "bundle": {
            "name": "ms",
            "path": str(bundle_path) if bundle_path else None,
            "weights_sha256": "ab" * 32,
            "config_digest": "cd" * 32,
            "source_revision": "0f3c",
            "created": "2026-01-30T08:00:00+00:00",
            "channels": ["FLAIR"],
            "labels": {"lesion": 1},
        },
        "settings": {"threshold": 0.5, "min_size_mm3": 5.0, "connectivity": 26, **settings},
        "cases": cases,
    }
    (folder / "predict.json").write_text(json.dumps(document), encoding="utf-8")


@pytest.fixture(autouse=True)
def _without_pdf(monkeypatch):
    monkeypatch.setattr(report, "available", lambda: "no PDF here")


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "predictions"
    path.mkdir()
    return path


def page(reports, case="case_01"):
    one = next(one for one in reports.written if one.case == case)
    return one.html.read_text(encoding="utf-8").replace(SPACE, " ")


def test_a_folder_becomes_a_report_per_case(folder):
    failed = {"case": "bad", "status": "failed", "error": "/data/anna/bad.nii.gz: ends early"}
    write_document(folder, [predicted(folder), failed])
    reports = make_reports(folder, now=NOW)
    assert [(one.case, one.status, one.pdf) for one in reports.written] == [
        ("case_01", "review", None),
        ("bad", "not computed", None),
    ]
    assert reports.failed == ()
    assert reports.note == "no PDF here"
    assert reports.written[0].html == folder / "reports" / "case_01.html"
    html = page(reports)
    assert "How reliable this model is was not measured: the bundle’s" in html.replace("&#39;", "’")
    assert (
        "2 lesions, 0.07 ml in total; the largest is number 1, 0.06 ml, longest diameter 4.0 mm"
        in html
    )
    assert "1 region removed by the operating point (&lt;0.01 ml): below 5 mm³<" in html
    assert "deep, left" in html
    assert "<dd>2026-02-01</dd>" in html
    assert html.count('<svg class="slice"') == 4
    assert "bad.nii.gz: ends early." in page(reports, "bad")
    assert "anna" not in page(reports, "bad")
    assert not list((folder / "reports").glob(".*"))


def test_days_are_those_of_one_place(folder, monkeypatch):
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    time.tzset()
    try:
        write_document(folder, [{**predicted(folder), "created": "2026-02-02T03:00:00+00:00"}])
        now = datetime(2026, 2, 2, 4, tzinfo=UTC)
        html = page(make_reports(folder, now=now))
    finally:
        monkeypatch.undo()
        time.tzset()
    days = [html[html.index(word) :].split("2026-")[1][:5] for word in ("Analysed", "Report made")]
    assert days == ["02-01", "02-01"]


def test_pdf_is_written_from_the_same_page_and_a_stale_one_removed(folder, monkeypatch):
    write_document(folder, [predicted(folder)])
    monkeypatch.setattr(report, "available", lambda: None)
    monkeypatch.setattr(report, "to_pdf", lambda html: b"%PDF " + html[-7:].encode())
    (one,) = make_reports(folder, now=NOW).written
    assert one.pdf is not None
    assert one.pdf.read_bytes() == b"%PDF </html>"
    monkeypatch.setattr(report, "available", lambda: "no PDF here")
    make_reports(folder, now=NOW)
    assert not one.pdf.exists()


def test_what_hysteresis_and_the_rank_removed_is_not_called_small(folder):
    write_document(folder, [predicted(folder)], core_threshold=0.8, largest_only=True)
    told = "1 region removed by the operating point (&lt;0.01 ml): below 5 mm³, without a voxel"
    assert f"{told} above 0.8, or not the largest<" in page(make_reports(folder, now=NOW))


def test_the_viewer_is_in_the_page_unless_it_is_left_out_and_never_in_the_pdf(folder, monkeypatch):
    write_document(folder, [predicted(folder)])
    printed = []
    monkeypatch.setattr(report, "available", lambda: None)
    monkeypatch.setattr(report, "to_pdf", lambda html: printed.append(html) or b"%PDF")
    html = page(make_reports(folder, now=NOW))
    assert 'id="viewer-canvas"' in html
    assert "in axial plane" in html
    assert "<script" not in printed[0]
    assert 'id="lesion-1"' in printed[0]
    html = page(make_reports(folder, now=NOW, with_viewer=False, with_pdf=False))
    assert "<script" not in html


@pytest.mark.parametrize(
    ("present", "astray"),
    [(("deep", "outside"), True), (("deep",), False)],
    ids=["outside", "a region was left out"],
)
def test_a_component_in_the_complement_is_for_review(folder, tmp_path, present, astray):
    regions = [
        {"name": "deep", "source": "mask", "weight": 1.0},
        {"name": "outside", "source": "complement", "weight": 1.0},
    ]
    bundle = {"weights_sha256": "ab" * 32, "config": {"anatomy": {"regions": regions}}}
    (tmp_path / "bundle.json").write_text(json.dumps(bundle), encoding="utf-8")
    record = predicted(folder, regions={n: {"components": 1, "volume_ml": 0.1} for n in present})
    record["components"][1]["region"] = "outside" if astray else "none"
    write_document(folder, [record], tmp_path)
    recorded = {"weights_sha256": "several", "regions": regions}
    for change in ({}, recorded):  # of the model's own file, and where that is of another
        document = json.loads((folder / "predict.json").read_text())
        document["bundle"] |= change
        (folder / "predict.json").write_text(json.dumps(document))
        reports = make_reports(folder, now=NOW)
        told = "Lesion 2 lies mainly outside the named anatomy: check first." in page(reports)
        assert told is astray


@pytest.mark.parametrize(("tolerance", "shown"), [(0.5, True), (None, False)])
def test_scans_are_read_with_the_tolerance_that_they_were_predicted_with(folder, tolerance, shown):
    record = predicted(folder, grid_tolerance_mm=tolerance)
    scan = folder / "case_01_0000.nii.gz"
    moved = AFFINE.copy()
    moved[0, 3] += 0.2
    write_volume(scan, Volume(np.ones((24, 20, 8), np.float32), moved))
    record["channels"][0]["sha256"] = file_sha256(scan)
    write_document(folder, [record])
    assert ("not on the same grid" in page(make_reports(folder, now=NOW))) is not shown


def test_only_the_cases_asked_for_into_the_folder_asked_for(folder, tmp_path):
    write_document(folder, [predicted(folder), predicted(folder, "case_02")])
    reports = make_reports(folder, ["case_02"], now=NOW, output=tmp_path / "out")
    assert [one.html for one in reports.written] == [tmp_path / "out" / "case_02.html"]
    with pytest.raises(DataError, match="expected among case_01, case_02; received nobody"):
        make_reports(folder, ["nobody"], now=NOW)


def test_validation_figures_reach_the_report_only_at_their_operating_point(folder, tmp_path):
    cell = {"low_mm3": 0, "high_mm3": None, "low_probability": 0.5, "high_probability": 1}
    bundle = {
        "weights_sha256": "ab" * 32,
        "operating_point": {"threshold": 0.5, "min_size_mm3": 5.0},
        "validation": {
            "cases": 4,
            "patients": 4,
            "summary": {},
            "by_size": [],
            "false_positive_chance": [{**cell, "components": 10, "patients": 10, "chance": 0.3}],
        },
    }
    bundle["validation"] |= {"cases": 10, "patients": 10}
    (tmp_path / "bundle.json").write_text(json.dumps(bundle), encoding="utf-8")
    write_document(folder, [predicted(folder)], tmp_path)
    html = page(make_reports(folder, now=NOW))
    assert "of which about 0.6 expected to be false positives" in html
    assert '30 % <span class="note">11 % to 60 %, n = 10</span>' in html
    write_document(folder, [predicted(folder)], tmp_path, threshold=0.4)
    html = page(make_reports(folder, now=NOW))
    assert "30 %" not in html
    assert "this prediction was made at threshold 0.4, minimum size 5 mm³" in html


def test_a_component_map_of_another_run_is_not_reported(folder):
    record = predicted(folder)
    record["components"] = record["components"][:1]
    write_document(folder, [record])
    reports = make_reports(folder, now=NOW)
    assert [one.status for one in reports.failed] == ["not computed"]
    html = page(reports)
    assert "expected ids 1; received 1, 2." in html
    assert "0.06 ml" not in html
    assert str(folder) not in html


def test_a_damaged_component_map_is_not_computed(folder):
    write_document(folder, [predicted(folder)])
    path = folder / "components" / "case_01.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    (one,) = make_reports(folder, now=NOW).failed
    assert one.status == "not computed"


@pytest.mark.parametrize("change", ["gone", "other"])
def test_pictures_are_made_only_of_the_scan_that_was_predicted_from(folder, change):
    write_document(folder, [predicted(folder)])
    scan = folder / "case_01_0000.nii.gz"
    if change == "gone":
        scan.unlink()
    else:
        write_volume(scan, Volume(np.ones((24, 20, 8), np.float32), AFFINE))
    (one,) = (reports := make_reports(folder, now=NOW)).written
    assert (one.status, one.error) == ("review", None)
    html = page(reports)
    assert '<svg class="slice"' not in html
    words = {
        "gone": "the FLAIR scan is no longer where it was predicted from",
        "other": "the FLAIR scan was changed after it was predicted from",
    }
    assert f"The result cannot be checked by pictures here: {words[change]}." in html


def test_a_skipped_case_without_figures_says_so(folder):
    write_document(folder, [{"case": "case_01", "status": "skipped"}])
    reports = make_reports(folder, now=NOW)
    assert reports.written[0].status == "not computed"
    assert "Predict again with --overwrite." in page(reports)


def earlier(folder, case="case_01", **changes):
    """A prior case, of another scan."""
    record = predicted(folder, case, **changes)
    return {**record, "channels": [{**record["channels"][0], "sha256": "cd" * 32}]}


def test_change_against_a_prior_of_the_same_id(folder, tmp_path):
    prior = tmp_path / "prior"
    prior.mkdir()
    write_document(folder, [predicted(folder), predicted(folder, "case_02")])
    write_document(prior, [earlier(prior, shift=4)])
    reports = make_reports(folder, now=NOW, prior=prior)
    html = page(reports)
    assert "<dd>1 new</dd>" in html  # shifted by its own width, so nothing overlaps
    assert "0 grown, 1 stable, 0 shrunk, 1 gone" in html
    assert "Gone: number 1 of the prior scan (0.06 ml)." in html
    assert "the prior folder has no case of this id" in page(reports, "case_02")


def test_a_prior_that_was_analysed_otherwise_or_is_the_same_scan_is_not_compared(folder, tmp_path):
    prior = tmp_path / "prior"
    prior.mkdir()
    write_document(folder, [predicted(folder)])

    def told():
        html = page(make_reports(folder, now=NOW, prior=prior))
        assert "grown" not in html
        return html

    write_document(prior, [earlier(prior, shift=4)], threshold=0.3)
    assert "the prior was analysed at another operating point or setting, which alone" in told()
    write_document(prior, [predicted(prior)])
    assert "Not computed: the prior is this very scan." in told()
    write_document(prior, [earlier(prior)])
    document = json.loads((prior / "predict.json").read_text())
    document["bundle"]["weights_sha256"] = "cd" * 32
    (prior / "predict.json").write_text(json.dumps(document))
    assert "the prior was analysed with another model, which alone makes" in told()


def test_change_is_told_within_a_label(folder, tmp_path):
    prior = tmp_path / "prior"
    prior.mkdir()
    write_document(folder, [predicted(folder)])
    other = {**component(2, 4), "label": "bleeding"}
    write_document(prior, [earlier(prior, components=[component(1, 32), other])])
    words = page(make_reports(folder, now=NOW, prior=prior))
    assert "<dd>1 new</dd>" in words
    assert "0 grown, 1 stable, 0 shrunk, 1 gone" in words


def test_one_case_is_compared_with_the_only_prior_and_says_that_ids_differ(folder, tmp_path):
    prior = tmp_path / "prior"
    prior.mkdir()
    write_document(folder, [predicted(folder)])
    write_document(prior, [earlier(prior, "case_00")])
    html = page(make_reports(folder, now=NOW, prior=prior))
    assert "Prior case case_00, analysed 2026-01-31" in html
    assert "0 grown, 2 stable" in html
    assert html.count("make sure that both scans are of one patient") == 3  # status, flags, change


def test_a_prior_on_another_grid_is_not_compared(folder, tmp_path):
    prior = tmp_path / "prior"
    prior.mkdir()
    write_document(folder, [predicted(folder)])
    write_document(prior, [earlier(prior)])
    path = prior / "components" / "case_01.nii.gz"
    ids = np.zeros((24, 20, 8), np.uint8)
    ids[1, 1, 1], ids[5, 5, 5] = 1, 2
    write_volume(path, Volume(ids, AFFINE + np.diag([0, 0.5, 0, 0])))
    html = page(make_reports(folder, now=NOW, prior=prior))
    assert "Not computed: the prior scan cannot be compared: not on the same grid" in html


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read; expected the folder that 'segpipe predict -o DIR' wrote"),
        ("{", "is no JSON"),
        ('{"schema": 2}', r"expected predict\.json of schema 1"),
    ],
)
def test_an_unusable_document_is_refused_with_what_to_do(folder, content, message):
    if content is not None:
        (folder / "predict.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        make_reports(folder, now=NOW)


@pytest.mark.parametrize("case", ["../x", "<script>", "", "a" * 65])
def test_case_ids_that_are_no_file_names_are_refused(folder, case):
    write_document(folder, [{"case": case, "status": "failed"}])
    with pytest.raises(DataError, match=r"cases\.0\.case"):
        make_reports(folder, now=NOW)


def test_a_model_that_may_read_larger_scans_than_usual_gets_their_reports(
    folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(report_inputs, "MAX_VOXELS", 10)
    record = predicted(folder)
    write_document(folder, [record], tmp_path)
    assert make_reports(folder, now=NOW).written[0].status == "not computed"
    config = {"data": {"max_voxels": 10**6}}
    bundle = {"weights_sha256": "ab" * 32, "config": config}
    (tmp_path / "bundle.json").write_text(json.dumps(bundle), encoding="utf-8")
    (one,) = (reports := make_reports(folder, now=NOW)).written
    assert one.status == "review"
    assert "viewer-canvas" in page(reports)
