"""From a scan's own grid to the prepared grid and back: reorient, crop, resample."""

from segpipe.geometry.resampling import (
    AXES,
    THICK_SLICES,
    apply_along,
    as_operator,
    resample,
    resample_labels,
    resampling_operator,
    slice_axis,
    thick_axes,
)
from segpipe.geometry.steps import (
    Box,
    Shape3,
    bounding_box,
    crop,
    ras_orientation,
    reorient,
    uncrop,
    unreorient,
)
from segpipe.geometry.transform import (
    GridTransform,
    forward,
    forward_labels,
    grid_transform,
    inverse,
)

__all__ = [
    "AXES",
    "THICK_SLICES",
    "Box",
    "GridTransform",
    "Shape3",
    "apply_along",
    "as_operator",
    "bounding_box",
    "crop",
    "forward",
    "forward_labels",
    "grid_transform",
    "inverse",
    "ras_orientation",
    "reorient",
    "resample",
    "resample_labels",
    "resampling_operator",
    "slice_axis",
    "thick_axes",
    "uncrop",
    "unreorient",
]
