"""Everything that decides the prepared voxels: stored in the bundle and reused by prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from segpipe.config import Config
from segpipe.prepare.fingerprint import measure_grids, measure_intensities, median_spacing_mm
from segpipe.prepare.intensity import ChannelIntensities

if TYPE_CHECKING:
    from segpipe.data.layouts import Case, Dataset

Spacing = Annotated[float, Field(gt=0)]


class PreparePlan(BaseModel):
    """From a stored scan to the grid and the intensities that the network sees."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    spacing_mm: tuple[Spacing, Spacing, Spacing] = Field(description="target along R, A, S")
    normalise: Literal["zscore", "ct", "none"] = Field(description="see PrepareConfig")
    intensities: tuple[ChannelIntensities, ...] | None = Field(
        None, description="ct: the training set's, one per channel"
    )
    crop: bool = Field(True, description="crop to the bounding box of voxels that are not 0")
    channels: tuple[str, ...] = Field(min_length=1, description="channel names in order")
    labels: dict[str, int] = Field(
        description="label name to stored value; class index 1, 2, … in this order"
    )
    ignore_label: int | None = Field(None, description="stored value that becomes 255")
    regions: tuple[str, ...] = Field((), description="names of the regions, in order")


def make_plan(dataset: Dataset, cases: Sequence[Case], config: Config) -> PreparePlan:
    """Plan how cases are prepared.

    Parameters
    ----------
    dataset : Dataset
    cases : sequence of Case
        The training cases of the fold, and no others: the target spacing is their median, and
        for ``ct`` the intensities are theirs.
    config : Config

    Raises
    ------
    DataError
        If something has to be measured and no case is readable.
    """
    spacing = config.prepare.spacing_mm or median_spacing_mm(measure_grids(cases, config))
    labels = dict(dataset.labels)
    intensities = None
    if config.prepare.normalise == "ct":
        intensities = measure_intensities(cases, labels, config)
    return PreparePlan(
        spacing_mm=spacing,
        normalise=config.prepare.normalise,
        intensities=intensities,
        crop=config.prepare.crop,
        channels=tuple(dataset.channels),
        labels=labels,
        ignore_label=config.data.ignore_label,
        regions=tuple(region.name for region in config.anatomy.regions),
    )
