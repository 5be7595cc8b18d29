"""Runs read back from disk and compared: lesions, folds, pages, refusals."""

import io
import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from segpipe.errors import ConfigError, DataError
from segpipe.evaluate.score import score_labels, tabulate
from segpipe.evaluate.settings import ScoreSettings
from segpipe.evaluate.summary import score_document
from segpipe.evaluate.table import component_table, table_digest
from segpipe.pipeline.apart import expect_apart
from segpipe.pipeline.compare import compare_runs, run_compare
from segpipe.pipeline.scored_runs import read_scored_run, scored_run
from segpipe.volume import Volume


def line(*values):
    return Volume(np.array(values, np.float32).reshape(-1, 1, 1), np.eye(4))


REFERENCE = Volume(line(1, 1, 0, 1, 0, 1, 0, 0).array.astype(np.uint8), np.eye(4))
WEAK = (0.9, 0.9, 0, 0.3, 0, 0.3, 0, 0.9)  # finds one lesion above 0.5, three above 0.25
STRONG = (0, 0.9, 0, 0.9, 0, 0.3, 0, 0)


def run_folder(folder, maps, threshold=0.5, folds=None, table=True, reference=REFERENCE):
    """What ``segpipe evaluate`` leaves of some cases."""
    settings = ScoreSettings(threshold=threshold, bootstrap=20)
    rows, details, views = [], [], []
    for case, values in maps.items():
        own = settings.model_copy(update={"threshold": (folds or {}).get(case, threshold)})
        (scored,) = score_labels(case, reference, line(*values), {"lesion": 1}, own)
        rows.append(scored.row)
        details.append(scored.detail)
        views += tabulate(case, reference, line(*values), {"lesion": 1}, own, (0.25, 0.5))
    document = score_document(settings, rows, details)
    document["folds"] = [
        {"threshold": value, "min_size_mm3": 0.0, "core_threshold": None, "cases": [case]}
        for case, value in (folds or {}).items()
    ]
    folder.mkdir(parents=True)
    (folder / "scores.json").write_text(json.dumps(document))
    if table:
        component_table(views).to_parquet(folder / "components.parquet", index=False)
    return folder


def test_lesions_of_two_runs_are_paired(tmp_path):
    a = run_folder(tmp_path / "a", {"p": WEAK, "q": WEAK})
    b = run_folder(tmp_path / "b", {"p": STRONG, "q": WEAK})
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    console = Console(file=io.StringIO(), width=160)
    run_compare(str(a), str(b), tmp_path, console, json=figures, html=page)
    told = console.file.getvalue()
    assert "dice, " in told[told.index("no verdict on") :]
    assert "fewer than 6 patients" in told
    document = json.loads(figures.read_text())
    (all_lesions,) = document["lesions"]["lesion"]["all"]
    assert [all_lesions[k] for k in ("lesions", "both", "only_a", "only_b", "neither")] == [
        6, 2, 0, 1, 3
    ]  # fmt: skip
    (only,) = document["lesions"]["lesion"]["differing"]
    assert (only["case"], only["component"], only["outcome"]) == ("p", 2, "only_b")
    assert document["labels"]["lesion"]["false_positive_regions"]["difference"] == -0.5
    smallest = document["false_positives"]["lesion"]["by_size"][0]
    assert (smallest["mean_a"], smallest["mean_b"]) == (1.0, 0.5)
    assert "Lesions that only one of them found" in page.read_text()
    assert str(tmp_path.parent) not in page.read_text()


def test_every_case_is_taken_at_the_point_of_its_fold(tmp_path):
    a = run_folder(tmp_path / "a", {"p": WEAK, "q": WEAK})
    b = run_folder(tmp_path / "b", {"p": WEAK, "q": WEAK}, folds={"q": 0.25})
    compared = compare_runs(read_scored_run(str(a), tmp_path), read_scored_run(str(b), tmp_path))
    differing = compared["lesions"]["lesion"]["differing"]
    assert {(one["case"], one["outcome"]) for one in differing} == {("q", "only_b")}
    assert len(differing) == 2
    assert [point["threshold"] for point in compared["points"]["b"]] == [0.5, 0.25]
    # the rows say the same
    gained = compared["labels"]["lesion"]["detected_lesions"]["difference"]
    assert gained == len(differing) / 2


def test_without_a_table_lesions_are_not_paired(tmp_path):
    a = run_folder(tmp_path / "a", {"p": WEAK})
    b = run_folder(tmp_path / "b", {"p": WEAK}, table=False)
    compared = compare_runs(read_scored_run(str(a), tmp_path), read_scored_run(str(b), tmp_path))
    assert compared["lesions"] == {"lesion": None}
    (b / "components.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match="no table of components"):
        read_scored_run(str(b), tmp_path)


def test_a_table_of_other_scores_is_refused(tmp_path):
    a = run_folder(tmp_path / "a", {"p": WEAK, "q": WEAK})
    b = run_folder(tmp_path / "b", {"p": STRONG, "q": WEAK})
    found_more = run_folder(tmp_path / "c", {"p": WEAK, "q": WEAK}, threshold=0.25)
    own = read_scored_run(str(b), tmp_path)
    (b / "components.parquet").write_bytes((found_more / "components.parquet").read_bytes())
    assert compare_runs(read_scored_run(str(a), tmp_path), own)["lesions"]["lesion"]
    with pytest.raises(DataError, match=r"belongs to others; expected 2 of 3.*case p.*received 1"):
        compare_runs(read_scored_run(str(a), tmp_path), read_scored_run(str(b), tmp_path))
    # a case without a row in the table has no lesion there
    lacking = run_folder(tmp_path / "d", {"q": WEAK})
    (b / "components.parquet").write_bytes((lacking / "components.parquet").read_bytes())
    with pytest.raises(DataError, match="received 0 of 0 in components"):
        compare_runs(read_scored_run(str(b), tmp_path), read_scored_run(str(a), tmp_path))


def test_other_references_and_other_rules_are_refused(tmp_path):
    a = read_scored_run(str(run_folder(tmp_path / "a", {"p": WEAK})), tmp_path)
    larger = a.table.assign(size_mm3=a.table["size_mm3"] * 2, voxels=a.table["voxels"] * 2)
    document = json.loads((tmp_path / "a" / "scores.json").read_text())
    with pytest.raises(DataError, match="against the same references"):
        compare_runs(a, scored_run("b", document, larger))
    other = {**document, "settings": {**document["settings"], "rule": "iou:0.5"}}
    with pytest.raises(DataError, match="counted with another rule"):
        compare_runs(a, scored_run("b", other, a.table))
    unknown = {**document, "settings": {**document["settings"], "new": 1}}
    with pytest.raises(DataError, match="unknown settings of scoring"):
        compare_runs(a, scored_run("b", unknown, a.table))


LESION_MORE = Volume(line(1, 1, 0, 1, 0, 1, 0, 1).array.astype(np.uint8), np.eye(4))
LARGER = Volume(line(1, 1, 1, 0, 0, 1, 0, 1).array.astype(np.uint8), np.eye(4))


@pytest.mark.parametrize("reference", [LESION_MORE, LARGER])
@pytest.mark.parametrize("table", [True, False])
def test_a_run_is_no_better_for_another_reference(tmp_path, table, reference):
    a = run_folder(tmp_path / "a", {"p": WEAK, "q": WEAK}, table=table)
    b = run_folder(tmp_path / "b", {"p": WEAK, "q": WEAK}, table=table, reference=reference)
    for one, other in ((a, b), (b, a)):
        with pytest.raises(DataError, match="another reference of case p, label lesion"):
            compare_runs(read_scored_run(str(one), tmp_path), read_scored_run(str(other), tmp_path))


@pytest.mark.parametrize("setting", ["reference_instances", "ignore_label"])
def test_lesions_that_were_numbered_or_ignored_in_one_run_are_refused(tmp_path, setting):
    a = read_scored_run(str(run_folder(tmp_path / "a", {"p": WEAK})), tmp_path)
    document = json.loads((tmp_path / "a" / "scores.json").read_text())
    document["settings"][setting] = {"reference_instances": True, "ignore_label": 9}[setting]
    with pytest.raises(DataError, match=f"counted with another {setting}"):
        compare_runs(a, scored_run("b", document, a.table))


def test_cases_that_fail_in_one_run_are_told(tmp_path):
    runs = {name: run_folder(tmp_path / name, dict.fromkeys("pqr", WEAK)) for name in "ab"}
    document = json.loads((runs["a"] / "scores.json").read_text())
    document["rows"][0] = {"case": "p", "label": "lesion", "status": "failed", "error": "x"}
    (runs["a"] / "scores.json").write_text(json.dumps(document))
    console = Console(file=io.StringIO(), width=160)
    run_compare(str(runs["a"]), str(runs["b"]), tmp_path, console)
    told = console.file.getvalue()
    assert "2 paired cases; left out: 1 (1 failed in A, 0 in B," in told
    assert "defined in B alone in 1 case" in told


def test_a_patient_whom_one_run_knows_is_no_two_for_the_other(tmp_path):
    one, other = (
        replace(
            read_scored_run(str(run_folder(tmp_path / name, {"p": WEAK, "q": WEAK})), tmp_path),
            patients={"p": "anna", "q": owner},
        )
        for name, owner in (("a", "anna"), ("b", "q"))  # the second has no more than the case
    )
    for pair in ((one, other), (other, one)):
        assert compare_runs(*pair)["labels"]["lesion"]["patients"] == 1


def test_a_table_is_known_by_its_content(tmp_path):
    """Two scorings with equal counts, and the table of the second beside both."""
    a = run_folder(tmp_path / "a", {"p": (0, 0.9, 0, 0, 0, 0, 0, 0)})
    b = run_folder(tmp_path / "b", {"p": (0, 0, 0, 0.9, 0, 0, 0, 0)})
    for folder in (a, b):
        document = json.loads((folder / "scores.json").read_text())
        table = pd.read_parquet(folder / "components.parquet")
        document["components_digest"] = table_digest(table)
        (folder / "scores.json").write_text(json.dumps(document))
        assert table_digest(read_scored_run(str(folder), tmp_path).table) == table_digest(table)
    shutil.copy(b / "components.parquet", a)
    with pytest.raises(DataError, match="the table of components belongs to other scores"):
        read_scored_run(str(a), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 99},
        {"patients": ["p"]},
        {"details": [1]},
        {"folds": [{"threshold": 0.5, "cases": ["p"]}]},
        {"rows": [{"case": "p", "label": "lesion", "status": "scored", "dice": float("nan")}]},
        {"rows": [{"case": "p", "label": "lesion", "status": "scored", "dice": "abc"}]},
        {"rows": [{"case": "p", "label": "lesion", "status": "failed"}] * 2},
        {"rows": []},
    ],
)
def test_what_is_no_document_of_scores_is_refused(tmp_path, change):
    folder = run_folder(tmp_path / "a", {"p": WEAK})
    document = json.loads((folder / "scores.json").read_text())
    (folder / "scores.json").write_text(json.dumps(document | change))
    with pytest.raises(DataError, match=r"scores\.json: no scores"):
        read_scored_run(str(folder), tmp_path)


def test_parts_of_a_run_are_counted_by_one_rule(tmp_path):
    for fold, case in enumerate("pq"):
        run_folder(tmp_path / f"run/{fold}", {case: WEAK})
    path = tmp_path / "run/1/scores.json"
    document = json.loads(path.read_text())
    document["settings"]["rule"] = "iou:0.9"
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="counted with another rule; expected any as the first"):
        read_scored_run(str(tmp_path / "run"), tmp_path)


def test_a_table_with_other_columns_and_a_name_with_stars_are_refused(tmp_path):
    folder = run_folder(tmp_path / "a", {"p": WEAK})
    pd.DataFrame({"x": [1]}).to_parquet(folder / "components.parquet")
    with pytest.raises(DataError, match="no table of components"):
        read_scored_run(str(folder), tmp_path)
    with pytest.raises(DataError, match="no scores"):
        read_scored_run("a**b", tmp_path)


def test_folds_of_a_training_are_one_run_and_no_case_counts_twice(tmp_path):
    for fold, case in enumerate("pq"):
        run_folder(tmp_path / "run" / f"fold-{fold}" / "validation", {case: WEAK})
    run = read_scored_run(str(tmp_path / "run"), tmp_path)
    assert [case for case, _ in run.rows] == ["p", "q"]
    assert set(run.table["case"]) == {"p", "q"}
    run_folder(tmp_path / "run" / "fold-2" / "validation", {"p": WEAK})
    with pytest.raises(DataError, match="case p is scored twice"):
        read_scored_run(str(tmp_path / "run"), tmp_path)


def test_the_beginning_of_a_run_s_id_must_name_one_run(tmp_path):
    for run in ("abc1", "abd2"):
        run_folder(tmp_path / "x" / "evaluations" / run, {"p": WEAK})
    assert [case for case, _ in read_scored_run("abc", tmp_path).rows] == ["p"]
    with pytest.raises(DataError, match=r"more than one run begins with this id.*abc1, abd2"):
        read_scored_run("ab", tmp_path)


def test_the_run_of_a_fold_is_found_by_its_id_among_the_artifacts(tmp_path):
    run_folder(tmp_path / "x/parent/fold-0/validation", {"p": WEAK})
    run_folder(tmp_path / "mlartifacts/x/child/artifacts/evaluation", {"q": WEAK})
    assert [case for case, _ in read_scored_run("child", tmp_path).rows] == ["q"]
    run_folder(tmp_path / "mlartifacts/x/parent/artifacts/evaluation", {"q": WEAK})
    assert [case for case, _ in read_scored_run("parent", tmp_path).rows] == ["p"]


def test_runs_with_nothing_in_common_are_refused(tmp_path):
    a = run_folder(tmp_path / "a", {"p": WEAK})
    b = run_folder(tmp_path / "b", {"q": WEAK})
    page = tmp_path / "page.html"
    with pytest.raises(DataError, match=r"in common.*expected some of .*p \(lesion\).*q \(lesion"):
        run_compare(str(a), str(b), tmp_path, Console(file=io.StringIO()), html=page)
    assert not page.exists()


def test_nothing_that_is_read_or_written_is_written_over(tmp_path):
    a, b = (str(run_folder(tmp_path / name, {"p": WEAK})) for name in "ab")
    scores, table, page = (
        tmp_path / name for name in ("a/scores.json", "b/components.parquet", "c")
    )
    before = scores.read_bytes(), table.read_bytes()
    for outputs, said in (
        ({"json": scores}, "--json.*is read"),
        ({"html": table}, "--html.*is read"),
        ({"json": page, "html": page}, "--html.*is --json too"),
    ):
        with pytest.raises(ConfigError, match=said):
            run_compare(a, b, tmp_path, Console(file=io.StringIO()), **outputs)
    assert before == (scores.read_bytes(), table.read_bytes())
    assert not page.exists()


@pytest.mark.parametrize("name", ["sub/a.nii.gz", "A.NII", "participants.tsv", "dataset.json"])
def test_what_is_read_of_a_folder_is_not_written_over(tmp_path, name):
    file = tmp_path / "data" / name
    expect_apart({"--json": file}, [tmp_path / "data"])  # nothing is there yet
    file.parent.mkdir(parents=True)
    file.write_bytes(b"read")
    with pytest.raises(ConfigError, match=r"--json: .* which is read too"):
        expect_apart({"--json": file}, [tmp_path / "data"])
    expect_apart({"--json": file}, [tmp_path / "elsewhere"])
    old = tmp_path / "data/scores.json"
    old.write_bytes(b"written before")
    expect_apart({"--json": old}, [tmp_path / "data"])


def test_a_file_that_is_no_text_is_told_in_a_line(tmp_path):
    path = tmp_path / "scores.json"
    path.write_bytes(b"\xff" * 100_000)
    with pytest.raises(DataError) as error:
        read_scored_run(str(path), tmp_path)
    assert "UnicodeDecodeError: " in str(error.value)
    assert len(str(error.value)) < 1000
