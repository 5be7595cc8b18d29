"""Where template space lies in a case, found once per content and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.anatomy import Placement, as_it_lies, mni152_map, wants_template
from segpipe.anatomy.placement import FORMAT
from segpipe.config import AnatomyConfig, RegistrationConfig
from segpipe.data.nifti import file_sha256, read_image
from segpipe.errors import ConfigError, DataError
from segpipe.model.arrays import pack_arrays, unpack_arrays
from segpipe.prepare import store, volume_digest
from segpipe.volume import Volume

_T1 = re.compile(r"(?<![a-z0-9])t1(?!\d)|mprage", re.IGNORECASE)
_FIELDS = ("bend", "unbend")


def check_registration(config: AnatomyConfig, channels: Sequence[str], root: Path) -> None:
    """Refuse, before any case is read, what no case could be registered with.

    Raises
    ------
    ConfigError
        If the channel to register is none of the cases'.
    DataError
        If the image to register to does not exist.
    """
    settings = config.registration
    if not wants_template(config) or settings.transform == "none":
        return
    registered_channel(channels, settings)
    path = image_path(settings, root)
    if path is not None and not path.is_file():
        raise DataError(
            path,
            "the image to register to does not exist",
            expected="t1, or a NIfTI file in MNI152 space",
            fix="Add it, or correct anatomy.registration.image.",
        )


def registered_channel(channels: Sequence[str], settings: RegistrationConfig) -> int:
    """Position of the channel to register: the one named, else the first T1, else the first.

    Raises
    ------
    ConfigError
        If the one named is not there.
    """
    if settings.channel is None:
        return next((i for i, name in enumerate(channels) if _T1.search(name)), 0)
    if settings.channel not in channels:
        raise ConfigError(
            f"anatomy.registration.channel: expected one of {', '.join(channels)}; received "
            f"{settings.channel!r}. Name a channel of the dataset, or null for T1."
        )
    return list(channels).index(settings.channel)


def find_placement(
    image: Volume,
    channels: Sequence[str],
    config: AnatomyConfig,
    root: Path,
    cache: Path | None = None,
) -> Placement | None:
    """Where template space lies in a scan: as it lies, from the cache, or registered now.

    Parameters
    ----------
    image : Volume
        (X, Y, Z, C).
    channels : sequence of str
        Names of the channels, in order.
    config : AnatomyConfig
    root : Path
        Folder that the image to register to is relative to.
    cache : Path, optional
        Where registrations are kept, addressed by content; None: nowhere.

    Returns
    -------
    Placement or None
        None where no region needs it. With a problem where the scan cannot be registered.

    Raises
    ------
    ConfigError
        If the channel to register is none of the scan's.
    """
    if not wants_template(config):
        return None
    settings = config.registration
    lies = as_it_lies(image)
    if not lies.problem or settings.transform == "none":
        return lies
    index = registered_channel(channels, settings)
    name, path = channels[index], image_path(settings, root)
    if path is not None and not path.is_file():  # predicting without the dataset
        missing = f"the image to register to, {path.name}, does not exist"
        return Placement(settings.transform, np.eye(4), name, problem=missing)
    channel = image.with_array(np.ascontiguousarray(image.array[..., index]))
    key = placement_key(channel, path, settings)
    folder = None if cache is None else store.find(cache, key)
    if folder is not None:
        return _read(folder, name)
    from segpipe.anatomy.registration import register

    template = mni152_map("t1") if path is None else _template_image(path)
    found = register(channel, template, settings.transform, name)
    if cache is not None:
        store.put(cache, key, _files(found))
    return found


def placement_key(channel: Volume, image: Path | None, settings: RegistrationConfig) -> str:
    """SHA-256 of all that decides a registration.

    Parameters
    ----------
    channel : Volume
        (X, Y, Z), what is registered.
    image : Path or None
        What it is registered to; None: the T1 of MNI152.
    settings : RegistrationConfig
    """
    content = {"scan": volume_digest(channel), **registration_facts(image, settings)}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def registration_facts(image: Path | None, settings: RegistrationConfig) -> dict[str, Any]:
    """All but the scan that decides a registration, as JSON types.

    Parameters
    ----------
    image : Path or None
        What is registered to; None: the T1 of MNI152.
    settings : RegistrationConfig
    """
    return {
        "registration": FORMAT,
        "image": None if image is None else file_sha256(image),
        "transform": settings.transform,
        "packages": [metadata.version(name) for name in ("nilearn", "SimpleITK")],
    }


def image_path(settings: RegistrationConfig, root: Path) -> Path | None:
    """File of the image to register to; None: the T1 of MNI152."""
    return None if settings.image == "t1" else Path(root) / settings.image


def _template_image(path: Path) -> Volume:
    image, _ = read_image(path, repair_nan=True)
    if image.array.ndim != 3 or not (image.array > 0).any():
        raise DataError(
            path,
            "no image to register to",
            expected="a 3-D brain in MNI152 space, 0 outside",
            received=f"shape {image.array.shape}",
            fix="Correct anatomy.registration.image.",
        )
    return image.with_array(np.maximum(image.array, 0))


def _files(placement: Placement) -> dict[str, bytes]:
    facts = {
        "method": placement.method,
        "affine": placement.affine.tolist(),
        "similarity": placement.similarity,
        "contrast": placement.contrast,
        "overlap": placement.overlap,
        "problem": placement.problem,
    }
    files = {"placement.json": json.dumps(facts).encode()}
    arrays: dict[str, np.ndarray] = {}
    for name in _FIELDS:
        volume = getattr(placement, name)
        if volume is not None:
            arrays |= {name: volume.array, f"{name}.affine": volume.affine}
    if arrays:
        files["fields.npz"] = pack_arrays(arrays)
    return files


def _read(folder: Path, channel: str) -> Placement:
    facts = json.loads((folder / "placement.json").read_bytes())
    facts["affine"] = np.array(facts["affine"])
    path = folder / "fields.npz"
    arrays = unpack_arrays(path.read_bytes()) if path.exists() else {}
    bend, unbend = (
        Volume(arrays[name], arrays[f"{name}.affine"]) if name in arrays else None
        for name in _FIELDS
    )
    return replace(Placement(channel=channel, **facts), bend=bend, unbend=unbend)
