"""Fixtures for everybody; the backend is chosen before anything imports Keras."""

import os
import random
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from segpipe.backend import select
from segpipe.files import file_sha256

select(os.environ.get("SEGPIPE_TEST_BACKEND", "tensorflow"), device="cpu", precision="float32")


@pytest.fixture(scope="session")
def tiny_samples(tmp_path_factory):
    """A dataset of 4 training and 2 test cases at 4 mm."""
    from segpipe.samples import make_samples

    folder = tmp_path_factory.mktemp("samples") / "data"
    make_samples(folder, cases=6, spacing_mm=4.0)
    return folder


@pytest.fixture(scope="session")
def tiny_values(tiny_samples):
    """Values of a configuration that trains in seconds."""
    return {
        "name": "tiny",
        "data": {"root": str(tiny_samples)},
        "split": {"folds": 2},
        "prepare": {"workers": 1},
        "anatomy": {
            "regions": [
                {"name": "wm", "source": "mask", "file": "anatomy/{case}_wm.nii.gz", "weight": 0.5},
                {"name": "elsewhere", "source": "complement", "weight": 2.0},
            ]
        },
        "model": {"features": [4, 8]},
        "loss": {"region_count": {"weight": 0.1}},  # and missed lesions with it
        "train": {
            "patch": [16, 16, 16],
            "batch": 2,
            "epochs": 3,
            "steps_per_epoch": 4,
            "validate_every": 2,
            "precision": "float32",
            "device": "cpu",
        },
        "predict": {"engine": "keras"},
        "evaluate": {"bootstrap": 50},
        "tracking": {"enabled": False},
    }


@pytest.fixture
def tiny_config(tiny_values, tmp_path):
    """The same as a file; what it makes goes to ``tmp_path / "runs"``."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**tiny_values, "output": str(tmp_path / "runs")}))
    return path


MOMENTS = [
    pytest.param((k + random.Random(k).random()) / 11, marks=[pytest.mark.faults] * (k != 5))
    for k in range(11)
]
"""Shares of the time that a command takes; one of them is for every day."""


def pytest_generate_tests(metafunc):
    """``killed_at``: when to kill a command."""
    if "killed_at" in metafunc.fixturenames:
        metafunc.parametrize("killed_at", MOMENTS)


@pytest.fixture(scope="session")
def kill_after():
    """``kill -9`` of a command some seconds after it has loaded; returns those that it had."""

    def _kill_after(seconds, modules, *arguments):
        code = f"import {modules}; print(flush=True); from segpipe.cli import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        process.stdout.readline()
        started, workers = time.monotonic(), []
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            workers = psutil.Process(process.pid).children(recursive=True)
            process.kill()
        assert process.wait() in (0, -signal.SIGKILL)
        process.stdout.close()
        lasted = time.monotonic() - started
        assert not psutil.wait_procs(workers, timeout=30)[1]
        return lasted

    return _kill_after


@pytest.fixture
def tree():
    """Files and folders by their names, hidden ones too: digests, or '' where bits may differ."""

    def _tree(root):
        same = (".nii.gz", "weights.npz", ".csv", ".parquet", ".b2nd", ".svg", "split.json")
        found = {}
        for path in root.rglob("*"):
            name = re.sub(r"epoch-(\d+)-\w+", r"epoch-\1", str(path.relative_to(root)))
            found[name] = file_sha256(path) if path.name.endswith(same) else ""
        return found

    return _tree
