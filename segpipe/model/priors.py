"""Lesion frequencies in a bundle's folder, one file for each region that comes from one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segpipe.data.nifti import read_probability, write_volume
from segpipe.errors import ModelError
from segpipe.files import file_sha256
from segpipe.model.bundle import Bundle
from segpipe.volume import Volume


def save_priors(folder: Path, priors: Mapping[str, Volume]) -> dict[str, str]:
    """Write ``prior_REGION.nii.gz`` for every region given; returns their SHA-256."""
    digests = {}
    for name, prior in priors.items():
        path = _prior_path(folder, name)
        write_volume(path, prior)
        digests[name] = file_sha256(path)
    return digests


def load_priors(folder: Path, bundle: Bundle) -> dict[str, Volume]:
    """Lesion frequency by region, as it was when the model was trained.

    Raises
    ------
    ModelError
        If a file is missing, damaged or was exchanged.
    """
    priors = {}
    for name, expected in bundle.priors_sha256.items():
        path = _prior_path(folder, name)
        try:
            received = file_sha256(path)
        except OSError as error:
            raise ModelError(f"{path}: expected a lesion frequency; received {error}.") from error
        if received != expected:
            raise ModelError(
                f"{path}: expected SHA-256 {expected}; received {received}. The file is damaged or "
                "was exchanged; take an intact copy."
            )
        priors[name], _ = read_probability(path)
    return priors


def _prior_path(folder: Path, region: str) -> Path:
    return Path(folder) / f"prior_{region}.nii.gz"
