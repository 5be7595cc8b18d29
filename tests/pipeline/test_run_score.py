import csv
import gzip
import io
import json
import os

import nibabel as nib
import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from segpipe.cli.app import app
from segpipe.data.nifti import write_volume
from segpipe.errors import ConfigError, DataError
from segpipe.evaluate.settings import ScoreSettings
from segpipe.pipeline.people import read_people
from segpipe.pipeline.score import make_settings, run_score
from segpipe.pipeline.score_files import case_id
from segpipe.pipeline.score_labels import declared_labels
from segpipe.pipeline.score_output import score_csv, score_table
from segpipe.volume import Volume

SETTINGS = ScoreSettings(bootstrap=50)


@pytest.fixture
def folders(tmp_path):
    for name in ("references", "predictions", "regions"):
        (tmp_path / name).mkdir()
    return tmp_path / "references", tmp_path / "predictions", tmp_path / "regions"


def save(path, values, affine=None):
    array = np.asarray(values)
    array = array.astype(np.float32 if array.dtype.kind == "f" else np.uint8)
    affine = np.eye(4) if affine is None else affine
    if np.isnan(array).any():  # our own writer refuses it
        nib.save(nib.Nifti1Image(array.reshape(-1, 1, 1), affine), path)
    else:
        write_volume(path, Volume(array.reshape(-1, 1, 1), affine))


def by_case(document):
    return {(row["case"], row["label"]): row for row in document["rows"]}


def test_folders_pair_by_case_and_unpaired_ones_fail(folders):
    references, predictions, _ = folders
    save(references / "a.nii.gz", [1, 1, 0, 1])
    save(predictions / "a_0000.nii", [1, 0, 0, 0])
    save(references / "b.nii.gz", [1, 1, 0, 1])
    save(predictions / "c.nii.gz", [1, 1, 0, 1])
    document = run_score(references, predictions, SETTINGS)
    rows = by_case(document)
    assert list(rows) == [("a", "lesion"), ("b", "lesion"), ("c", "lesion")]
    assert rows["a", "lesion"]["dice"] == 0.5
    assert rows["a", "lesion"]["missed_lesions"] == 1
    assert set(rows["b", "lesion"]) == {"case", "label", "status", "error"}
    assert "b: no prediction" in rows["b", "lesion"]["error"]
    assert "c: no reference" in rows["c", "lesion"]["error"]
    assert (document["summary"]["lesion"]["cases"], document["summary"]["lesion"]["failed"]) == (
        1,
        2,
    )
    json.dumps(document, allow_nan=False)


def test_hidden_files_are_no_cases_and_no_regions(folders):
    for folder in folders:
        save(folder / "a.nii.gz", [1, 1, 0, 1])
        (folder / "._a.nii.gz").write_bytes(b"of another system")
    references, predictions, regions = folders
    (regions / "near").mkdir()
    (regions / "near/._a.nii.gz").write_bytes(b"of another system")
    (row,) = run_score(references, predictions, SETTINGS, regions=regions)["rows"]
    assert (row["case"], row["status"]) == ("a", "scored")


@pytest.mark.parametrize("large", range(3))
def test_files_that_claim_more_voxels_than_allowed_fail_their_row(folders, large):
    for k, folder in enumerate(folders):
        save(folder / "a.nii.gz", [1, 1, 0, 1])
        if k == large:
            save(folder / "a.nii.gz", [1, 1, 0, 1, 0])
    references, predictions, regions = folders
    (regions / "a.nii.gz").rename(regions / "a_near.nii.gz")
    (row,) = run_score(references, predictions, SETTINGS, regions=regions, max_voxels=4)["rows"]
    assert "more voxels than allowed" in row["error"]


def test_the_option_for_large_files_reaches_the_scores(folders):
    for folder in folders[:2]:
        save(folder / "a.nii.gz", [1, 1, 0, 1])
    told = [
        CliRunner().invoke(app, ["score", *map(str, folders[:2]), "--max-voxels", limit])
        for limit in ("4", "3", "0")
    ]
    assert [one.exit_code for one in told] == [0, 1, 1]
    assert "more voxels than allowed" in told[1].output
    assert str(told[2].exception).startswith("--max-voxels: expected at least 1; received 0")


def test_single_files_pair_whatever_their_names(folders):
    references, predictions, _ = folders
    save(references / "a.nii.gz", [1, 0])
    save(predictions / "out.nii.gz", [255, 0])
    (row,) = run_score(references / "a.nii.gz", predictions / "out.nii.gz", SETTINGS)["rows"]
    assert (row["case"], row["label"], row["dice"]) == ("a", "lesion", 1.0)


def test_undeclared_values_are_names(folders):
    references, predictions, _ = folders
    save(references / "a.nii.gz", [1, 2, 0])
    save(predictions / "a.nii.gz", [1, 0, 2])
    rows = by_case(run_score(references, predictions, SETTINGS))
    assert list(rows) == [("a", "1"), ("a", "2")]
    (only,) = run_score(references, predictions, SETTINGS, label="2")["rows"]
    assert only == rows["a", "2"]
    with pytest.raises(DataError, match="received 3"):
        run_score(references, predictions, SETTINGS, label="3")


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "core": 1, "whole": [1, 2], "ignore": 3},
        {"0": "background", "1": "core", "2": "edge"},
    ],
)
def test_dataset_json_names_labels(folders, labels):
    references, predictions, _ = folders
    (references.parent / "dataset.json").write_text(json.dumps({"labels": labels}))
    save(references / "a.nii.gz", [1, 2, 0, 2])
    save(predictions / "a.nii.gz", [1, 1, 0, 2])
    document = run_score(references, predictions, SETTINGS)
    rows = by_case(document)
    assert [label for _, label in rows] == list(declared_labels(references).labels)
    assert document["settings"]["ignore_label"] == (3 if "ignore" in labels else None)
    assert rows["a", "core"]["dice"] == pytest.approx(2 / 3)
    if "whole" in labels:
        assert rows["a", "whole"]["dice"] == 1.0
    (chosen,) = run_score(references, predictions, SETTINGS, label="1")["rows"]
    assert chosen["label"] == "core"


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({}, "no label but the background"),
        ({"background": 0}, "no label but the background"),
        ({"background": 0, "core": 1, "edge": 1}, "two labels of one value"),
        ({"background": 0, "core": 1.7}, "no whole number"),
    ],
)
def test_a_declaration_that_makes_no_labels_is_refused(folders, stored, said):
    references, predictions, _ = folders
    for folder in (references, predictions):
        save(folder / "a.nii.gz", [1, 0, 1])
    (references / "dataset.json").write_text(json.dumps({"labels": stored}))
    with pytest.raises(DataError, match=said):
        run_score(references, predictions, SETTINGS)


@pytest.mark.parametrize("label", ["0", "9"])
def test_a_value_that_no_file_holds_is_no_label(folders, label):
    references, predictions, _ = folders
    for folder in (references, predictions):
        save(folder / "a.nii.gz", [1, 0, 1])
    with pytest.raises(DataError, match=r"unknown label; expected 1 \(1\)"):
        run_score(references, predictions, SETTINGS, label=label)
    assert run_score(references, predictions, SETTINGS, label="1")["rows"][0]["dice"] == 1


def test_an_image_is_no_label_map(folders):
    references, predictions, _ = folders
    for folder in (references, predictions):
        save(folder / "a.nii.gz", list(range(102)))
    with pytest.raises(DataError, match="too many values for a label map"):
        run_score(references, predictions, SETTINGS)


def test_a_file_with_an_impossible_grid_fails_its_case_alone(folders):
    references, predictions, _ = folders
    for folder in (references, predictions):
        for case in "ab":
            save(folder / f"{case}.nii.gz", [1, 0, 1])
    image = nib.load(references / "b.nii.gz")
    header = image.header.copy()
    header["pixdim"][1:4] = 1e30
    header["qform_code"] = header["sform_code"] = 0
    raw = np.asarray(image.dataobj)
    path = references / "b.nii.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(header.binaryblock + b"\0" * 4 + raw.tobytes(order="F"))
    rows = by_case(run_score(references, predictions, SETTINGS))
    assert rows["a", "lesion"]["status"] == "scored"
    assert "b.nii.gz: the grid of the voxel sizes is no grid" in rows["b", "lesion"]["error"]


def test_a_manifest_with_two_rows_of_one_case_is_refused(tmp_path):
    (tmp_path / "m.csv").write_text("case,patient\na,p\nb,q\na,r\n")
    with pytest.raises(DataError, match=r"two rows of one case; .*received a"):
        read_people(tmp_path / "m.csv", [])


def test_values_nobody_declared_fail_the_row(folders):
    references, predictions, _ = folders
    (references / "dataset.json").write_text('{"labels": {"background": 0, "lesion": 1}}')
    save(references / "a.nii.gz", [1, 0])
    save(predictions / "a.nii.gz", [2, 0])
    (row,) = run_score(references, predictions, SETTINGS)["rows"]
    assert row["status"] == "failed"
    assert "expected values among [0, 1]; received 2" in row["error"]


def test_probabilities_are_recognised_and_nan_is_flagged_or_fails(folders):
    references, predictions, _ = folders
    save(references / "a.nii.gz", [1, 1, 0, 0])
    save(predictions / "a.nii.gz", [0.9, 0.4, 0.1, np.nan])
    (row,) = run_score(references, predictions, SETTINGS)["rows"]
    assert row["prediction_volume_ml"] == 0.001
    assert len(row["flags"]) == 1
    assert "NaN" in row["flags"][0]
    lower = SETTINGS.model_copy(update={"threshold": 0.3})
    assert run_score(references, predictions, lower)["rows"][0]["dice"] == 1.0
    strict = SETTINGS.model_copy(update={"strict": True})
    (failed,) = run_score(references, predictions, strict)["rows"]
    assert failed["status"] == "failed"


def test_prediction_on_a_flipped_grid_is_turned_and_flagged_and_another_grid_fails(folders):
    references, predictions, regions = folders
    save(references / "a.nii.gz", [1, 1, 0, 0])
    flipped = np.diag([-1.0, 1, 1, 1])
    flipped[0, 3] = 3
    save(predictions / "a.nii.gz", [0, 0, 1, 1], flipped)
    save(regions / "a_near.nii.gz", [0, 0, 0, 1], flipped)
    save(references / "b.nii.gz", [1, 1, 0, 0])
    save(predictions / "b.nii.gz", [1, 1, 0, 0], np.diag([2.0, 1, 1, 1]))
    odd = nib.Nifti1Image(np.ones((4, 1, 1), np.uint8), None)
    odd.header.set_sform(None, 0)
    odd.header.set_qform(None, 0)
    for folder in (references, predictions):
        odd.to_filename(folder / "c.nii.gz")
    rows = by_case(run_score(references, predictions, SETTINGS, regions=regions))
    assert rows["a", "lesion"]["dice"] == 1.0
    assert rows["a", "lesion"]["flags"] == [
        "a.nii.gz: stored LAS, read as RAS",
        "region near: a_near.nii.gz: stored LAS, read as RAS",
    ]
    assert f"{predictions / 'b.nii.gz'}: not on the same grid" in rows["b", "lesion"]["error"]
    assumed = "neither qform nor sform: orientation is assumed to be LAS"
    assert rows["c", "lesion"]["flags"][:2] == [f"reference: {assumed}", assumed]


def test_regions_are_found_by_name_in_both_layouts(folders):
    references, predictions, regions = folders
    (regions / "near").mkdir()
    for case in ("a", "a_2"):
        save(references / f"{case}.nii.gz", [1, 0, 0, 0, 0])
        save(predictions / f"{case}.nii.gz", [1, 0, 1, 0, 1])
    save(regions / "a_far.nii.gz", [0, 0, 0, 0, 1])
    save(regions / "near" / "a.nii.gz", [1, 1, 1, 0, 0])
    document = run_score(references, predictions, SETTINGS, regions=regions)
    first, second = document["details"]
    wrong = {name: counts["false_positive_regions"] for name, counts in first["regions"].items()}
    assert wrong == {"far": 1, "near": 1, "none": 0}
    assert second["regions"] is None
    assert document["rows"][1]["flags"] == ["no region maps for this case"]
    assert document["summary"]["lesion"]["regions"]["far"]["false_positive_regions"]["mean"] == 1


def test_two_maps_of_one_region_are_not_guessed_between(folders):
    references, predictions, regions = folders
    (regions / "near").mkdir()
    for folder in (references, predictions, regions / "near"):
        save(folder / "a.nii.gz", [1, 0])
    save(regions / "a_near.nii.gz", [0, 1])
    with pytest.raises(DataError, match=r"several maps of the region near.*a_near.*near.a\.nii"):
        run_score(references, predictions, SETTINGS, regions=regions)


@pytest.mark.parametrize("name", ["a_none.nii.gz", "none/a.nii.gz"])
def test_no_region_can_be_named_as_what_lies_in_none(folders, name):
    references, predictions, regions = folders
    for folder in (references, predictions):
        save(folder / "a.nii.gz", [1, 0, 1])
    (regions / name).parent.mkdir(exist_ok=True)
    save(regions / name, [1, 0, 0])
    with pytest.raises(DataError, match="any name but none"):
        run_score(references, predictions, SETTINGS, regions=regions)


def test_a_region_map_with_channels_fails_its_case_alone(folders):
    references, predictions, regions = folders
    for case in "ab":
        save(references / f"{case}.nii.gz", [1, 0, 0])
        save(predictions / f"{case}.nii.gz", [1, 0, 1])
    save(regions / "a_near.nii.gz", [1, 0, 0])
    four = Volume(np.ones((3, 1, 1, 2), np.float32), np.eye(4))
    write_volume(regions / "b_near.nii.gz", four)
    rows = by_case(run_score(references, predictions, SETTINGS, regions=regions))
    assert rows["a", "lesion"]["status"] == "scored"
    assert "b_near.nii.gz: a region map with channels" in rows["b", "lesion"]["error"]


def test_numbered_lesions(folders):
    references, predictions, _ = folders
    save(references / "a.nii.gz", [4, 4, 7, 0])
    save(predictions / "a.nii.gz", [3, 0, 0, 0])
    settings = SETTINGS.model_copy(update={"reference_instances": True})
    (row,) = run_score(references, predictions, settings)["rows"]
    assert (row["label"], row["reference_lesions"], row["detected_lesions"]) == ("lesion", 2, 1)


def test_numbered_lesions_are_those_of_one_label(folders):
    references, predictions, _ = folders
    save(references / "a.nii.gz", [4, 4, 7, 0])
    save(predictions / "a.nii.gz", [2, 0, 0, 0])
    names = {"background": 0, "core": 1, "oedema": 2}
    (references / "dataset.json").write_text(json.dumps({"labels": names}))
    settings = SETTINGS.model_copy(update={"reference_instances": True})
    with pytest.raises(DataError, match=r"received core, oedema\. Choose one with --label"):
        run_score(references, predictions, settings)
    (row,) = run_score(references, predictions, settings, label="oedema")["rows"]
    assert (row["label"], row["reference_lesions"], row["detected_lesions"]) == ("oedema", 2, 1)


def test_broken_file_is_a_failed_row(folders):
    references, predictions, _ = folders
    save(references / "a.nii.gz", [1, 0])
    (predictions / "a.nii.gz").write_bytes(b"nothing")
    (row,) = run_score(references, predictions, SETTINGS)["rows"]
    assert row["status"] == "failed"
    assert "a.nii.gz" in row["error"]


def test_two_files_of_one_case_are_not_guessed_between(folders):
    references, predictions, _ = folders
    save(references / "a.nii.gz", [1, 0])
    save(predictions / "a.nii.gz", [1, 0])
    save(predictions / "a_0000.nii.gz", [1, 0])
    (row,) = run_score(references, predictions, SETTINGS)["rows"]
    assert "several predictions" in row["error"]


def test_a_name_that_is_no_utf_8_is_refused_before_anything_is_scored(folders):
    references, predictions, _ = folders
    for folder in (references, predictions):
        save(folder / "a.nii.gz", [1, 0])
        save(folder / os.fsdecode(b"M\xfcl.nii.gz"), [1, 0])
    with pytest.raises(DataError, match=r"no UTF-8.*received 'M\\udcfcl\.nii\.gz'"):
        run_score(references, predictions, SETTINGS)


def test_case_pattern(tmp_path):
    assert case_id(tmp_path / "sub-07_ses-1_mask.nii.gz", r"sub-\d+") == "sub-07"
    assert case_id(tmp_path / "sub-07_ses-1_mask.nii.gz", r"sub-(\d+)") == "07"
    with pytest.raises(DataError, match="finds no case"):
        case_id(tmp_path / "x.nii.gz", r"sub-(\d+)")
    with pytest.raises(DataError, match="no regular expression"):
        case_id(tmp_path / "x.nii.gz", "(")


def test_nothing_to_score(folders):
    references, predictions, _ = folders
    with pytest.raises(DataError, match="nothing to score"):
        run_score(references, predictions, SETTINGS)
    with pytest.raises(DataError, match="does not exist"):
        run_score(references / "no", predictions, SETTINGS)


def test_unknown_rule_is_refused_before_any_file_is_read():
    with pytest.raises(ValueError, match="or iou:X or overlap:X"):
        ScoreSettings(rule="most")
    with pytest.raises(ConfigError) as error:
        make_settings({"rule": "most", "connectivity": 5, "threshold": 2})
    told = [line.partition(":")[0] for line in str(error.value).splitlines()]
    assert told == ["--rule", "--connectivity", "--threshold"]


def test_terminal_and_csv_show_values_gaps_and_failures(folders):
    references, predictions, _ = folders
    save(references / "a[b].nii.gz", [0, 0, 0, 0])
    save(predictions / "a[b].nii.gz", [1, 0, 1, 0])
    save(references / "z.nii.gz", [1, 0])
    document = run_score(references, predictions, SETTINGS)
    console = Console(width=100, file=io.StringIO())
    console.print(score_table(document))
    text = console.file.getvalue()
    assert "a[b]" in text
    assert "z: no prediction" in text
    first, second = csv.DictReader(io.StringIO(score_csv(document)))
    assert (first["case"], first["false_positive_regions"], first["lesion_f1"]) == ("a[b]", "2", "")
    assert second["status"] == "failed"


def test_probability_maps_get_a_curve_and_masks_do_not(folders):
    references, predictions, _ = folders
    save(references / "a.nii.gz", [1, 1, 0, 0, 0, 1, 0, 0])
    save(predictions / "a.nii.gz", [0.9, 0.9, 0, 0.3, 0, 0.4, 0, 0.2])
    document = run_score(references, predictions, SETTINGS)
    (row,) = document["rows"]
    assert (row["detected_lesions"], row["false_positive_regions"]) == (1, 0)
    points = {
        p["threshold"]: (p["sensitivity"], p["false_positive_regions"])
        for p in document["froc"]["lesion"]["points"]
        if p["min_size_mm3"] == 0
    }
    assert (points[0.1], points[0.25], points[0.35]) == ((1.0, 2.0), (1.0, 1.0), (1.0, 0.0))
    assert document["froc"]["lesion"]["cpm"][0]["value"] == 1.0
    assert "CPM" in _printed(score_table(document))
    json.dumps(document, allow_nan=False)
    save(predictions / "a.nii.gz", [1, 1, 0, 0, 0, 0, 0, 0])
    assert "froc" not in run_score(references, predictions, SETTINGS)


def test_an_empty_probability_map_is_a_scan_of_the_curve(folders):
    references, predictions, _ = folders
    for case in ("a", "b", "c"):
        save(references / f"{case}.nii.gz", [1, 1, 0, 0])
    save(predictions / "a.nii.gz", [0.9, 0.8, 0, 0.3])
    save(predictions / "b.nii.gz", [0.0, 0.0, 0.0, 0.0])
    save(predictions / "c.nii.gz", [1.0, 1.0, 0.0, 1.0])
    document = run_score(references, predictions, SETTINGS)
    points = {
        p["threshold"]: p for p in document["froc"]["lesion"]["points"] if not p["min_size_mm3"]
    }
    assert points[0.5]["sensitivity"] == pytest.approx(2 / 3)
    assert points[0.25]["false_positive_regions"] == pytest.approx(2 / 3)
    assert [row["detected_lesions"] for row in document["rows"]] == [1, 0, 1]


@pytest.mark.parametrize("maps", [1, 3])
def test_maps_that_are_not_one_for_each_label_fail_their_row_only(folders, maps):
    references, predictions, _ = folders
    for case in ("a", "b"):
        save(references / f"{case}.nii.gz", [1, 2, 0, 0])
    declared = {"labels": {"background": 0, "one": 1, "two": 2}}
    (references / "dataset.json").write_text(json.dumps(declared))
    save(predictions / "a.nii.gz", [1, 2, 0, 0])
    half = np.full((4, 1, 1, maps), 0.3, np.float32)
    nib.save(nib.Nifti1Image(half, np.eye(4)), predictions / "b.nii.gz")
    rows = by_case(run_score(references, predictions, SETTINGS))
    assert rows["a", "two"]["dice"] == 1.0
    assert "expected 2 maps (one, two)" in rows["b", "two"]["error"]


def test_maps_of_labels_that_overlap_fail_and_masks_of_them_do_not(folders):
    references, predictions, _ = folders
    for case in ("a", "b"):
        save(references / f"{case}.nii.gz", [1, 2, 0, 0])
    declared = {"labels": {"background": 0, "whole": [1, 2], "core": 2}}
    (references / "dataset.json").write_text(json.dumps(declared))
    save(predictions / "a.nii.gz", [1, 2, 0, 0])
    maps = np.zeros((4, 1, 1, 2), np.float32)
    maps[:2, ..., 0], maps[1, ..., 1] = 0.9, 0.95
    nib.save(nib.Nifti1Image(maps, np.eye(4)), predictions / "b.nii.gz")
    rows = by_case(run_score(references, predictions, SETTINGS))
    assert rows["a", "whole"]["dice"] == rows["a", "core"]["dice"] == 1.0
    assert "labels that overlap" in rows["b", "whole"]["error"]
    assert "whole and core, which share a value" in rows["b", "core"]["error"]


def test_the_settings_of_an_operating_point_and_an_ignored_value_reach_the_scores(folders):
    references, predictions, _ = folders
    save(references / "a.nii.gz", [1, 1, 1, 0, 9, 0, 0, 0, 0])
    save(predictions / "a.nii.gz", [0.9, 0.9, 0.9, 0, 0.9, 0, 0.9, 0.9, 0])
    given = [str(references), str(predictions), "--label", "1"]
    wrong = []
    for extra in (
        [],
        ["--removal-size-mm3", "2.5"],
        ["--largest-only"],
        ["--ignore-label", "9"],
    ):
        target = references.parent / "scores.json"
        asked = ["score", *given, *extra, "--json", str(target)]
        assert CliRunner().invoke(app, asked).exit_code == 0
        (row,) = json.loads(target.read_text())["rows"]
        wrong.append(row["false_positive_regions"])
    assert wrong == [2, 0, 0, 1]


def _printed(table):
    console = Console(record=True, width=160, file=io.StringIO())
    console.print(table)
    return console.export_text()


def test_table_of_components_is_written_as_its_name_says(folders, tmp_path):
    references, predictions, _ = folders
    save(references / "a.nii.gz", [1, 1, 0, 1])
    save(predictions / "a.nii.gz", [1, 0, 0, 0])
    run_score(references, predictions, SETTINGS, components=tmp_path / "t.csv")
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["side"], r["voxels"], r["matched"]) for r in rows] == [
        ("reference", "2", "1"),
        ("reference", "1", "0"),
        ("prediction", "1", "1"),
    ]


def test_a_table_of_unknown_kind_is_refused_before_scoring_and_figures_are_written_first(
    folders, tmp_path, monkeypatch
):
    references, predictions, _ = folders
    for folder in (references, predictions):
        save(folder / "a.nii.gz", [1, 0])
    figures = tmp_path / "scores.json"
    with pytest.raises(DataError, match=r"ends in .csv or .parquet"):
        run_score(tmp_path / "none", predictions, SETTINGS, components=tmp_path / "t.xlsx")

    def full(*_):
        raise OSError(28, "disk full")

    monkeypatch.setattr("segpipe.pipeline.score.write_table", full)
    with pytest.raises(OSError, match="disk full"):
        run_score(references, predictions, SETTINGS, json=figures, components=tmp_path / "t.csv")
    assert json.loads(figures.read_text())["rows"][0]["dice"] == 1


def test_manifest_gives_patients_and_groups(folders, tmp_path):
    references, predictions, _ = folders
    for case in ("a", "b", "c"):
        save(references / f"{case}.nii.gz", [1, 1, 0, 1])
        save(predictions / f"{case}.nii.gz", [1, 0, 1 if case == "c" else 0, 0])
    manifest = tmp_path / "people.csv"
    manifest.write_text("case,patient,site\na,p,north\nb,p,north\nc,p,south\n")
    document = run_score(references, predictions, SETTINGS, people=read_people(manifest, ["site"]))
    assert document["patients"] == {"a": "p", "b": "p", "c": "p"}  # for segpipe compare
    summary = document["summary"]["lesion"]
    assert summary["dice"]["ci95"] is None  # one patient says nothing about others
    assert summary["groups"]["site"]["north"]["cases"] == 2
    assert "south" in _printed(score_table(document))
    assert "3 cases of 1 patient" in _printed(score_table(document)).replace("\xa0", " ")
    with pytest.raises(DataError, match="no column age"):
        read_people(manifest, ["age"])
    with pytest.raises(DataError, match="the table cannot be read; received No such file"):
        read_people(tmp_path / "missing.csv", [])


def test_a_case_without_a_patient_is_not_taken_for_the_patient_of_its_name(folders, tmp_path):
    references, predictions, _ = folders
    for case in "123":
        save(references / f"{case}.nii.gz", [1, 0])
        save(predictions / f"{case}.nii.gz", [1, 0])
    manifest = tmp_path / "people.csv"
    for rows in ("1,2\n2,\n3,3\n", "1,2\n3,3\n"):  # stated, and not in the table
        manifest.write_text(f"case,patient\n{rows}")
        with pytest.raises(DataError, match=r"case 2 has no patient.*2 is the patient of case 1"):
            run_score(references, predictions, SETTINGS, people=read_people(manifest, []))


@pytest.mark.parametrize("between", [",", ", ", ";", "\t"])
def test_a_manifest_is_read_as_spreadsheets_write_it(tmp_path, between):
    manifest = tmp_path / "people.csv"
    lines = [("case", "patient", "site"), ("a", "p ", "north"), ("b", "", "north")]
    manifest.write_text("\n".join(between.join(line) for line in lines), encoding="utf-8-sig")
    people = read_people(manifest, ["site"])
    assert (people.cases, people.patients) == (("a", "b"), {"a": "p"})
    assert people.groups == {"site": {"a": "north", "b": "north"}}


def test_a_manifest_without_patients_is_refused(tmp_path):
    manifest = tmp_path / "people.csv"
    manifest.write_text("case,person\na,p\n")
    with pytest.raises(DataError, match=r"no column patient; expected .*; received case, person"):
        read_people(manifest, [])


def test_a_manifest_of_other_cases_is_refused_and_cases_that_it_lacks_are_flagged(
    folders, tmp_path
):
    references, predictions, _ = folders
    for case in ("a", "b", "c"):
        save(references / f"{case}.nii.gz", [1, 1, 0, 1])
        save(predictions / f"{case}.nii.gz", [1, 0, 0, 0])
    manifest = tmp_path / "people.csv"
    manifest.write_text("case,patient\nsub-a,p\nsub-b,p\n")
    with pytest.raises(DataError, match=r"people\.csv: .* such as a, b, c; received sub-a, sub-b"):
        run_score(references, predictions, SETTINGS, people=read_people(manifest, []))
    manifest.write_text("case,patient\na,p\nb,p\n")
    document = run_score(references, predictions, SETTINGS, people=read_people(manifest, []))
    assert document["patients"] == {"a": "p", "b": "p", "c": "c"}
    assert {case: row["flags"] for (case, _), row in by_case(document).items()} == {
        "a": [],
        "b": [],
        "c": ["not in the manifest: counts as a patient of its own, in no group"],
    }
