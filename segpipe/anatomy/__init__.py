"""Where in the body a voxel lies: region maps from masks, label maps, templates and lesions.

Registration needs SimpleITK: ``segpipe.anatomy.registration`` is imported only where it is used.
"""

from segpipe.anatomy.frequency import (
    FrequencyFiles,
    check_space,
    frequency_files,
    frequency_map,
    read_mask,
)
from segpipe.anatomy.placement import Placement, as_it_lies
from segpipe.anatomy.regions import region_maps, wants_template
from segpipe.anatomy.shaping import false_positive_weight, shape_map
from segpipe.anatomy.template import mni152_dice, mni152_map

__all__ = [
    "FrequencyFiles",
    "Placement",
    "as_it_lies",
    "check_space",
    "false_positive_weight",
    "frequency_files",
    "frequency_map",
    "mni152_dice",
    "mni152_map",
    "read_mask",
    "region_maps",
    "shape_map",
    "wants_template",
]
