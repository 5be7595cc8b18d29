"""Regions of a case of a dataset or of a scan to predict, with where they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.anatomy import region_maps
from segpipe.anatomy.placement import AS_IS, placement_words
from segpipe.anatomy.regions import TEMPLATE_SPACE, is_shipped, region_file
from segpipe.config import AnatomyConfig, Config, DataConfig
from segpipe.data.layouts import Case, Dataset
from segpipe.data.nifti import file_sha256
from segpipe.model.bundle import Bundle
from segpipe.pipeline.placements import find_placement, image_path
from segpipe.volume import Volume


@dataclass(frozen=True, eq=False)
class CaseRegions:
    """Regions of a case on its own grid.

    Parameters
    ----------
    maps : dict of str to Volume
        (X, Y, Z) float32 in [0, 1].
    flags : tuple of str
        Regions that the case goes on without, and why; what is unusual about their files.
    registration : dict or None
        Where template space lies in it, in figures and words; None where no region needs it.
    """

    maps: dict[str, Volume]
    flags: tuple[str, ...]
    registration: dict[str, Any] | None

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The maps without their grid."""
        return {name: volume.array for name, volume in self.maps.items()}

    @property
    def noted(self) -> tuple[str, ...]:
        """The flags after how the template was registered, if it was."""
        facts = self.registration
        if facts is None or facts["problem"] or facts["method"] == AS_IS:
            return self.flags
        return (f"template: {placement_words(facts)}", *self.flags)


def dataset_regions(
    case: Case,
    image: Volume,
    dataset: Dataset,
    config: Config,
    priors: Mapping[str, Volume] | None = None,
) -> CaseRegions:
    """Regions of one of a dataset's cases; its registration is kept in the cache.

    Raises
    ------
    DataError, GeometryError
        See :func:`~segpipe.anatomy.region_maps`.
    ConfigError
        If the channel to register is none of the dataset's.
    """
    return _regions(
        case.id,
        image,
        config.anatomy,
        dataset.root,
        channels=dataset.channels,
        priors=priors,
        data=config.data,
        cache=config.cache,
    )


def scan_regions(
    case_id: str,
    image: Volume,
    bundle: Bundle,
    root: Path | None,
    priors: Mapping[str, Volume] | None = None,
    data: DataConfig | None = None,
) -> CaseRegions:
    """Regions that name where components lie; what is missing is flagged, never an error.

    ``data`` says how files are read; None: as the bundle's configuration does.
    """
    config = bundle.config
    optional = [r.model_copy(update={"optional": True}) for r in config.anatomy.regions]
    return _regions(
        case_id,
        image,
        config.anatomy.model_copy(update={"regions": tuple(optional)}),
        root if root is not None else Path("no-regions-given"),
        channels=bundle.plan.channels,
        priors=priors,
        data=data or config.data,
        cache=None,
    )


def region_digests(case_id: str, bundle: Bundle, root: Path) -> dict[str, str]:
    """SHA-256 of the files under ``root`` that a case's regions come from, by region.

    A template region that is registered to an image under ``root`` has that image's as well, under
    ``NAME, registered to``.
    """
    anatomy = bundle.config.anatomy
    own = [r for r in anatomy.regions if r.file and not is_shipped(r)]
    files = {region.name: region_file(region, root, case_id) for region in own}
    image = image_path(anatomy.registration, root)
    if image is not None and anatomy.registration.transform != "none":
        in_template = [r.name for r in anatomy.regions if r.source in TEMPLATE_SPACE]
        files |= {f"{name}, registered to": image for name in in_template}
    return {name: file_sha256(path) for name, path in files.items() if path.is_file()}


def _regions(
    case_id: str,
    image: Volume,
    anatomy: AnatomyConfig,
    root: Path,
    *,
    channels: Sequence[str],
    priors: Mapping[str, Volume] | None,
    data: DataConfig,
    cache: Path | None,
) -> CaseRegions:
    placement = find_placement(image, channels, anatomy, root, cache)
    maps, flags = region_maps(
        case_id,
        image,
        anatomy,
        root,
        placement=placement,
        priors=priors,
        tolerance_mm=data.grid_tolerance_mm,
        max_voxels=data.max_voxels,
    )
    if placement is None:
        return CaseRegions(maps, flags, None)
    doubt = (placement.doubt,) if placement.doubt else ()
    return CaseRegions(maps, (*doubt, *flags), placement.describe())
