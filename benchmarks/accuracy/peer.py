"""nnU-Net's side as seen from segpipe's environment: its folders, its commands, its outputs."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.jobs import CONFIGURATIONS, THREADS, Comparison, Job
from benchmarks.accuracy.layout import SUFFIX, raw_name, write_raw, write_splits
from segpipe.config import Config, digest_values
from segpipe.data.layouts import Dataset
from segpipe.data.nifti import read_labels, write_volume
from segpipe.data.splits import make_folds

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Peer:
    """nnU-Net's Python and its folders.

    Parameters
    ----------
    python : Path
    folder : Path
        Holds ``raw`` and ``preprocessed``.
    results : Path
        For weights, and for what was measured before training.
    module : str
        What its Python runs.
    """

    python: Path
    folder: Path
    results: Path
    module: str = "benchmarks.accuracy.nnunet"

    @property
    def environment(self) -> dict[str, str]:
        """Variables of its commands."""
        own = {
            "nnUNet_raw": self.folder / "raw",
            "nnUNet_preprocessed": self.folder / "preprocessed",
            "nnUNet_results": self.results,
            "nnUNet_n_proc_DA": THREADS,
            "nnUNet_def_n_proc": THREADS,
            "OMP_NUM_THREADS": THREADS,
        }
        return os.environ | {name: str(value) for name, value in own.items()}

    def call(self, number: int, arguments: list[str]) -> None:
        """Run one command of its module.

        Parameters
        ----------
        number : int
            Of the dataset.
        arguments : list of str

        Raises
        ------
        subprocess.CalledProcessError
            If it fails.
        """
        head = ["--threads", str(THREADS), "--dataset", str(number)]
        command = [str(self.python), "-m", self.module, *head, *arguments]
        subprocess.run(command, cwd=ROOT, env=self.environment, check=True)

    def prepare(self, name: str, comparison: Comparison, dataset: Dataset, config: Config) -> None:
        """Cases, folds, plans and preprocessed cases; what is there for the same folds stays."""
        ready = self.folder / f"{name}.ready"
        folds = make_folds(dataset.cases, config.split)
        known = digest_values([name, [[fold.train, fold.validation] for fold in folds]])
        if ready.exists() and ready.read_text() == known:
            return
        called = raw_name(name, comparison.number)
        write_raw(dataset, config, self.folder / "raw" / called)
        small = comparison.small
        own = []
        if small is not None:
            own += ["--patch", *map(str, small.patch), "--spacing", *map(str, small.spacing_mm)]
            own += ["--batch", str(small.batch)]
        self.call(comparison.number, ["prepare", *own])
        splits = self.folder / "preprocessed" / called / "splits_final.json"
        write_splits(folds, splits)
        ready.write_text(known)

    def calibrate(self, job: Job) -> Path:
        """Seconds per step in each arithmetic, measured once per plan."""
        configuration = CONFIGURATIONS[job.arm]
        path = self.results / f"{job.dataset}-{configuration}.json"
        if not path.exists():
            self.results.mkdir(parents=True, exist_ok=True)
            self._configured(job, ["calibrate", "--report", str(path)])
        return path

    def train(self, job: Job, length: list[str], report: Path) -> dict[str, Any]:
        """Train, unless the report is there; returns it."""
        if not report.exists():
            chosen = str(self.calibrate(job))
            self._configured(
                job, ["train", *length, "--arithmetic", chosen, "--report", str(report)]
            )
        return json.loads(report.read_text())

    def predict(
        self, job: Job, cases: list[str], masks: Path, report: Path, *, mirroring: bool
    ) -> dict[str, Any]:
        """Predict, unless the report is there; returns it. Probabilities become NIfTI."""
        if not report.exists():
            flags = ["--mirroring"] * mirroring + ["--probabilities"] * job.comparison.sweep
            target = ["--cases", *cases, "--masks", str(masks), "--report", str(report)]
            self._configured(job, ["predict", *flags, *target])
        for archive in sorted(masks.glob("*.npz")):
            unpack_probabilities(archive, masks / "probabilities")
            archive.unlink()
            archive.with_suffix(".pkl").unlink(missing_ok=True)
        return json.loads(report.read_text())

    def _configured(self, job: Job, arguments: list[str]) -> None:
        head = ["--configuration", CONFIGURATIONS[job.arm], "--fold", str(job.fold)]
        self.call(job.comparison.number, [*head, *arguments])


def unpack_probabilities(archive: Path, folder: Path) -> None:
    """The probability of the first label, from nnU-Net's archive to NIfTI on its mask's grid.

    Parameters
    ----------
    archive : Path
        ``CASE.npz`` with ``probabilities``, (classes, Z, Y, X); ``CASE.nii.gz`` lies beside it.
    folder : Path

    Raises
    ------
    ValueError
        If the likeliest class is not that of the mask: axes would be mixed up.
    """
    mask = read_labels(archive.parent / f"{archive.stem}{SUFFIX}")
    with np.load(archive) as content:
        classes = content["probabilities"].transpose(0, 3, 2, 1)
    if classes.shape[1:] != mask.shape or not np.array_equal(classes.argmax(axis=0), mask.array):
        raise ValueError(
            f"{archive}: expected probabilities of which the mask is the likeliest class; "
            f"received shape {classes.shape[1:]} for a mask of {mask.shape}, or other classes"
        )
    foreground = np.clip(classes[1], 0, 1).astype(np.float32)
    write_volume(folder / f"{archive.stem}{SUFFIX}", mask.with_array(foreground))
