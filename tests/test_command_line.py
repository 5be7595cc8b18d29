"""Every command, as a user types it, on one small dataset."""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from segpipe.cli import main
from segpipe.cli.app import app

COMMANDS = (
    "check", "plan", "prepare", "train", "predict", "ensemble", "evaluate", "score", "compare",
    "report", "config", "samples", "ui",
)  # fmt: skip
HEAVY = ("tensorflow", "keras", "mlflow", "albumentations", "skimage", "SimpleITK", "jax", "torch")


def segpipe(*arguments, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "segpipe", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=400,
    )  # fmt: skip


def passed(*arguments, cwd=None):
    done = segpipe(*arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tiny_values, tmp_path_factory):
    """A folder in which training has run from the command line."""
    folder = tmp_path_factory.mktemp("work")
    values = {**tiny_values, "tracking": {"enabled": True}}
    values["train"] = {**values["train"], "epochs": 6, "steps_per_epoch": 15}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values))
    done = passed("train", "tiny.yaml", cwd=folder)
    assert "device: cpu" in done.stderr
    assert "champion" in done.stderr
    return folder


def bundle_of(folder):
    return next(folder.glob("runs/tiny/*/fold-0/bundle"))


def test_training_leaves_bundle_scores_report_and_run(trained):
    fold = bundle_of(trained).parent
    bundle = json.loads((fold / "bundle/bundle.json").read_text())
    assert bundle["schema"] == 1
    assert bundle["validation"]["cases"] == 2
    assert {"scores.json", "scores.csv", "components.parquet", "cohort.html", "predict.json"} <= {
        p.name for p in (fold / "validation").iterdir()
    }
    scores = json.loads((fold / "validation/scores.json").read_text())
    assert [row["status"] for row in scores["rows"]] == ["scored", "scored"]
    point = bundle["operating_point"]
    assert scores["settings"]["threshold"] == point["threshold"]
    painted = nib.load(next((fold / "validation/maps").glob("*.nii.gz")))
    assert set(np.unique(np.asanyarray(painted.dataobj))) <= {0, 1, 2, 3}
    artifacts = {p.name for p in (trained / "runs/mlartifacts").rglob("*")}
    assert {"bundle.json", "cohort.html", "scores.json", "components.parquet"} <= artifacts


def test_predictions_lie_on_the_scans_own_grids(trained, tiny_samples):
    arguments = ["predict", "--bundle", "models:/tiny@champion", tiny_samples / "imagesTs"]
    done = passed(
        *arguments, "-o", "out", "--probabilities", "--regions", tiny_samples, cwd=trained
    )
    assert "2 of 2 cases" in done.stderr
    document = json.loads((trained / "out/predict.json").read_text())
    assert [case["status"] for case in document["cases"]] == ["predicted", "predicted"]
    for case in document["cases"]:
        scan = nib.load(tiny_samples / "imagesTs" / f"{case['case']}_0000.nii.gz")
        mask = nib.load(trained / "out" / f"{case['case']}.nii.gz")
        numbered = nib.load(trained / "out/components" / f"{case['case']}.nii.gz")
        probability = nib.load(trained / "out/probabilities" / f"{case['case']}.nii.gz")
        for image in (mask, numbered, probability):
            assert image.shape == scan.shape
            np.testing.assert_array_equal(image.affine, scan.affine)
        ids = set(np.unique(np.asanyarray(numbered.dataobj))) - {0}
        assert ids == {component["id"] for component in case["components"]}
        p, m = np.asanyarray(probability.dataobj), np.asanyarray(mask.dataobj)
        assert (m <= (p > document["settings"]["threshold"])).all()
    again = passed(*arguments, "-o", "out", "--probabilities", cwd=trained)
    assert "2 of 2" in again.stderr
    statuses = json.loads((trained / "out/predict.json").read_text())["cases"]
    assert {case["status"] for case in statuses} == {"skipped"}
    other = segpipe(*arguments, "-o", "out", "--threshold", "0.9", cwd=trained)
    assert other.returncode == 2
    assert "--overwrite" in other.stderr


def test_scores_and_reports_of_predictions(trained, tiny_samples):
    bundle = bundle_of(trained)
    passed("predict", "--bundle", bundle, tiny_samples / "imagesTs", "-o", "two", cwd=trained)
    passed(
        "score", tiny_samples / "labelsTs", "two", "--json", "s.json", "--csv", "s.csv", cwd=trained
    )
    document = json.loads((trained / "s.json").read_text())
    assert document["schema"] == 1
    assert len(document["rows"]) == 2
    assert len((trained / "s.csv").read_text().splitlines()) == 3
    passed("report", "two", cwd=trained)
    pages = sorted((trained / "two/reports").glob("*.html"))
    assert len(pages) == 2
    assert "Research use only" in pages[0].read_text()
    compared = passed("compare", "s.json", "s.json", "--json", "c.json", cwd=trained)
    assert "+0.000" in compared.stdout
    (trained / "two" / f"{document['rows'][0]['case']}.nii.gz").unlink()
    missing = segpipe("score", tiny_samples / "labelsTs", "two", cwd=trained)
    assert missing.returncode == 1
    assert "failed" in missing.stdout


def test_evaluation_on_test_cases_and_of_a_bundle(trained):
    done = passed("evaluate", "tiny.yaml", "--split", "test", cwd=trained)
    assert "chosen on validation" in " ".join(done.stdout.split())
    scores = next(trained.glob("runs/tiny/evaluations/*/test-cases/scores.json"))
    training = json.loads((bundle_of(trained) / "bundle.json").read_text())
    settings = json.loads(scores.read_text())["settings"]
    assert settings["threshold"] == training["operating_point"]["threshold"]


def test_an_ensemble_of_one_network_given_twice_is_refused_in_one_line(trained, tmp_path):
    bundle = bundle_of(trained)
    done = segpipe("ensemble", bundle, "models:/tiny@champion", "-o", tmp_path / "e", cwd=trained)
    assert done.returncode == 2
    assert "expected different networks; received the same weights twice" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "e").exists()


def test_one_damaged_scan_does_not_stop_the_others(trained, tiny_samples, tmp_path):
    for path in (tiny_samples / "imagesTs").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    broken = min(tmp_path.iterdir())
    broken.write_bytes(broken.read_bytes()[:-100])
    done = segpipe(
        "predict", "--bundle", bundle_of(trained), tmp_path, "-o", tmp_path / "out", cwd=trained
    )
    assert done.returncode == 1
    assert "1 of 2 cases" in done.stderr
    cases = json.loads((tmp_path / "out/predict.json").read_text())["cases"]
    assert sorted(case["status"] for case in cases) == ["failed", "predicted"]
    assert broken.name in next(case["error"] for case in cases if case["error"])


def test_check_plan_prepare_and_config(tiny_samples, tiny_config, tmp_path):
    assert "no findings" in passed("check", tiny_samples).stdout
    passed("plan", tiny_samples, "-o", tmp_path / "planned.yaml")
    resolved = passed("config", tmp_path / "planned.yaml", "train.epochs=3").stdout
    assert yaml.safe_load(resolved)["train"]["epochs"] == 3
    assert "prepared 4 cases" in passed("prepare", tiny_config).stderr
    label = next((tiny_samples / "labelsTs").glob("*.nii.gz"))
    other = tmp_path / "copy"
    for path in tiny_samples.rglob("*"):
        if path.is_file() and path != label:
            target = other / path.relative_to(tiny_samples)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    found = segpipe("check", other, "--json", tmp_path / "findings.json")
    assert found.returncode == 1
    findings = json.loads((tmp_path / "findings.json").read_text())["findings"]
    assert label.name.removesuffix(".nii.gz") in {finding["case"] for finding in findings}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "nowhere.yaml"), ("nowhere.yaml", "expected")),
        (("predict", "--bundle", "nowhere", ".", "-o", "x"), ("nowhere", "bundle")),
        (("predict", "--bundle", "x", ".", "-o", "x", "--engine", "abacus"), ("abacus", "keras")),
        (("samples", "/proc/none/x", "--cases", "2"), ("/proc/none",)),
        (("samples", "x", "--cases", "0"), ("cases", "at least 1", "received 0")),
        (("score", "nowhere", "nowhere2"), ("nowhere",)),
        (("score", ".", ".", "--rule", "most"), ("rule", "most")),
        (("report", "nowhere"), ("nowhere", "predict.json")),
        (("compare", "nowhere", "nowhere2"), ("nowhere", "scores.json")),
        (("check", "nowhere"), ("nowhere",)),
        (("ui", "--output", "nowhere"), ("nowhere",)),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(arguments, words, tmp_path, monkeypatch, capsys):
    def told(*given):
        monkeypatch.setattr(sys, "argv", ["segpipe", *given])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        return capsys.readouterr().err

    monkeypatch.chdir(tmp_path)
    line = told(*arguments)
    assert all(word in line for word in words)
    assert line.count("\n") == 1
    assert "Traceback" not in line
    assert "Traceback" in told("--debug", *arguments)


def test_a_mistake_ends_a_process_alike(tmp_path):
    for option in ((), ("--debug",)):
        done = segpipe(*option, "train", "nowhere.yaml", cwd=tmp_path)
        assert done.returncode == 2
        assert ("Traceback" in done.stderr) is bool(option)
        assert done.stderr.splitlines()[-1].startswith("segpipe: nowhere.yaml")


@pytest.mark.parametrize(
    "arguments",
    [
        ("score", "nowhere", "nowhere", "--json"),
        ("score", "nowhere", "nowhere", "--csv"),
        ("score", "nowhere", "nowhere", "--components"),
        ("compare", "nowhere", "nowhere", "--json"),
        ("compare", "nowhere", "nowhere", "--html"),
        ("check", "nowhere", "--json"),
        ("plan", "nowhere", "-o"),
    ],
)
def test_a_folder_where_a_file_is_written_is_refused_before_anything_is_read(arguments):
    done = CliRunner().invoke(app, [*arguments, "."])
    assert done.exit_code == 2
    assert "is a directory" in done.stderr


def test_help_loads_nothing_heavy(tiny_config):
    listed = passed("--help").stdout
    assert all(command in listed for command in COMMANDS)
    code = (
        "import sys\nfrom segpipe.cli import main\n"
        f"sys.argv = ['segpipe', 'config', {str(tiny_config)!r}]\nmain_exit = None\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
