"""From scans to the grid and the intensities that the network sees, kept in a cache."""

from segpipe.prepare.case import PreparedCase, naming_case, prepare_case
from segpipe.prepare.fingerprint import CaseGrid, measure_grids
from segpipe.prepare.image import PreparedImage, prepare_volume
from segpipe.prepare.intensity import ChannelIntensities
from segpipe.prepare.keys import image_key, regions_key, volume_digest
from segpipe.prepare.plan import PreparePlan, make_plan
from segpipe.prepare.voxels import StoredArray

__all__ = [
    "CaseGrid",
    "ChannelIntensities",
    "PreparePlan",
    "PreparedCase",
    "PreparedImage",
    "StoredArray",
    "image_key",
    "make_plan",
    "measure_grids",
    "naming_case",
    "prepare_case",
    "prepare_volume",
    "regions_key",
    "volume_digest",
]
