"""Where in the body a voxel lies: region maps from masks, label maps and templates and lesions."""

from segpipe.anatomy.frequency import FrequencyFiles, frequency_files, frequency_map
from segpipe.anatomy.regions import region_maps
from segpipe.anatomy.shaping import penalty_map, shape_map
from segpipe.anatomy.template import mni152_dice, mni152_map

__all__ = [
    "FrequencyFiles",
    "frequency_files",
    "frequency_map",
    "mni152_dice",
    "mni152_map",
    "penalty_map",
    "region_maps",
    "shape_map",
]
