"""Fixtures for everybody; the backend is chosen before anything imports Keras."""

import os

import pytest
import yaml

from segpipe.backend import select

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
