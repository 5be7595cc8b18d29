"""Writes the sample dataset: nnU-Net raw layout, region masks, dataset.json and README.md."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from segpipe.data.nifti import write_volume
from segpipe.errors import ConfigError
from segpipe.files import write_text
from segpipe.observer import Observer, Silent
from segpipe.samples.atlas import load_atlas
from segpipe.samples.blobs import Painter, add_distractors, add_lesions
from segpipe.samples.brain import Brain, make_brain
from segpipe.samples.readme import README
from segpipe.samples.scanner import scan
from segpipe.volume import Volume

SAMPLES = 0x5A  # purpose code of the random streams
TEST_SHARE = 3 / 8
SMALLEST_LESION_VOXELS = 3
_NAME = "segpipe_samples"
_FOLDERS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs", "anatomy")
_SAMPLE = re.compile(r"sample\d{3,}[_.]")
REGIONS = ("wm", "cortex", "ventricles", "infratentorial")


@dataclass(frozen=True)
class Sample:
    """One synthetic case.

    Parameters
    ----------
    id : str
    flair, t1, reference : (X, Y, Z) uint8 ndarray
        Background 0; lesions 1 in the reference.
    distractors : (X, Y, Z) bool ndarray
        What looks like a lesion and is none; not written.
    regions : dict of str to (X, Y, Z) uint8 ndarray
        Masks from the deformed template; they know nothing of the lesions.
    affine : (4, 4) float ndarray
    kinds : list of (str, float)
        Kind and volume in mm³ of everything that was placed.
    """

    id: str
    flair: np.ndarray
    t1: np.ndarray
    reference: np.ndarray
    distractors: np.ndarray
    regions: dict[str, np.ndarray]
    affine: np.ndarray
    kinds: list[tuple[str, float]]


def make_sample(index: int, load: float, seed: int = 0, spacing_mm: float = 1.5) -> Sample:
    """Make one case in memory.

    Parameters
    ----------
    index : int
        Number of the case, from 1; each has its own random stream.
    load : float
        Lesion load: 0 none, 1 heavy.
    seed : int
    spacing_mm : float
        Edge length of the cubic voxels.
    """
    rng = np.random.default_rng([seed, SAMPLES, index])
    brain = make_brain(load_atlas(), rng, spacing_mm)
    painter = Painter(brain, rng)
    if load > 0:
        add_lesions(painter, load)
    painter.close_lesions()
    add_distractors(painter)
    flair, t1 = scan(brain, painter.findings, rng)
    return Sample(
        f"sample{index:03d}",
        flair,
        t1,
        _reference(painter.findings.lesions, brain),
        painter.findings.distractors > 0.5,
        _regions(brain),
        brain.affine,
        painter.findings.kinds,
    )


def _reference(lesions: np.ndarray, brain: Brain) -> np.ndarray:
    mask = (lesions > 0.5) & brain.inside
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    size = np.bincount(labels.ravel())
    return (mask & (size[labels] >= SMALLEST_LESION_VOXELS)).astype(np.uint8)


def _regions(brain: Brain) -> dict[str, np.ndarray]:
    zones = brain.zones
    masks = {
        "wm": zones["plausible"],
        "cortex": zones["cortex"],
        "ventricles": zones["ventricles"],
        "infratentorial": zones["infratentorial"],
    }
    return {name: ((masks[name] > 0.5) & brain.inside).astype(np.uint8) for name in REGIONS}


def plan_cases(cases: int) -> list[tuple[int, str, float]]:
    """Number, split ("Tr" or "Ts") and lesion load of every case; the last of each is healthy.

    Examples
    --------
    >>> [split for _, split, _ in plan_cases(4)]
    ['Tr', 'Tr', 'Ts', 'Ts']
    >>> [load for _, split, load in plan_cases(16) if split == "Ts"]
    [0.1, 0.73, 0.46, 0.19, 0.82, 0.0]
    """
    test = round(cases * TEST_SHARE)
    plan = []
    for split, first, count in (("Tr", 1, cases - test), ("Ts", cases - test + 1, test)):
        for k in range(count):
            healthy = count >= 3 and k == count - 1
            load = 0.0 if healthy else round(0.1 + 0.9 * (0.7 * k % 1), 2)
            plan.append((first + k, split, load))
    return plan


def make_samples(
    folder: Path,
    cases: int = 16,
    seed: int = 0,
    *,
    spacing_mm: float = 1.5,
    observer: Observer | None = None,
) -> list[str]:
    """Write synthetic FLAIR and T1 scans with lesions, distractors and region masks.

    Parameters
    ----------
    folder : Path
        Created where needed; samples that are there are replaced.
    cases : int
        About three eighths of them are test cases (``imagesTs``).
    seed : int
    spacing_mm : float
        Edge length of the voxels; 4 makes small volumes within a second.
    observer : Observer, optional
        Hears how far it is.

    Returns
    -------
    list of str
        Case ids in order.

    Raises
    ------
    ConfigError
        If ``cases`` is below 1, ``seed`` below 0 or ``spacing_mm`` not within 1 to 6, or the
        folder holds a dataset that is none of samples.
    """
    if cases < 1:
        raise ConfigError(f"cases: expected at least 1; received {cases}. Ask for one or more.")
    if seed < 0:
        raise ConfigError(f"seed: expected at least 0; received {seed}. Give a seed without sign.")
    if not 1 <= spacing_mm <= 6:
        raise ConfigError(f"spacing_mm: expected 1 to 6; received {spacing_mm}")
    folder = Path(folder)
    _expect_samples(folder)
    plan = plan_cases(cases)
    for name in _FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for path in (folder / name).iterdir():  # in another plan it may be of the other split
            if _SAMPLE.match(path.name):
                path.unlink()
    observer = observer or Silent()
    ids = []
    for done, (index, split, load) in enumerate(plan, start=1):
        ids.append(_write_sample(folder, split, make_sample(index, load, seed, spacing_mm)))
        observer.progress(done, cases, ids[-1])
    write_text(folder / "dataset.json", json.dumps(_description(plan), indent=2) + "\n")
    write_text(folder / "README.md", README.format(cases=cases, seed=seed, spacing=spacing_mm))
    return ids


def _expect_samples(folder: Path) -> None:
    """Refuse a folder with files of others where samples would lie."""
    told, readme = folder / "dataset.json", folder / "README.md"
    others = [
        path
        for name in _FOLDERS
        if (folder / name).is_dir()
        for path in sorted((folder / name).iterdir())
        if not _SAMPLE.match(path.name) and not path.name.startswith(".")
    ]
    if told.exists() and f'"name": "{_NAME}"' not in told.read_text("utf-8", "replace"):
        others.append(told)
    title = README.partition("\n")[0]
    if readme.exists() and not readme.read_text("utf-8", "replace").startswith(title):
        others.append(readme)
    if others:
        raise ConfigError(
            f"{folder}: expected a folder that is new, empty, or of samples; received one with "
            f"{others[0].relative_to(folder)}. Choose another folder."
        )


def _write_sample(folder: Path, split: str, sample: Sample) -> str:
    def write(name: str, array: np.ndarray) -> None:
        write_volume(folder / name, Volume(array, sample.affine), dtype="uint8")

    write(f"images{split}/{sample.id}_0000.nii.gz", sample.flair)
    write(f"images{split}/{sample.id}_0001.nii.gz", sample.t1)
    write(f"labels{split}/{sample.id}.nii.gz", sample.reference)
    for name, mask in sample.regions.items():
        write(f"anatomy/{sample.id}_{name}.nii.gz", mask)
    return sample.id


def _description(plan: list[tuple[int, str, float]]) -> dict:
    return {
        "name": _NAME,
        "description": "Synthetic brain FLAIR and T1 with lesions; no patient data",
        "licence": "see README.md",
        "channel_names": {"0": "FLAIR", "1": "T1"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": sum(split == "Tr" for _, split, _ in plan),
        "file_ending": ".nii.gz",
    }
