"""From scans to the grid and the intensities that the network sees, kept in a cache."""

from segpipe.prepare.case import (
    PreparedCase,
    cache_key,
    open_case,
    prepare_case,
    volume_digest,
)
from segpipe.prepare.fingerprint import CaseGrid, Fingerprint, fingerprint, measure_grids
from segpipe.prepare.image import PreparedImage, prepare_volume
from segpipe.prepare.intensity import ChannelIntensities
from segpipe.prepare.plan import PreparePlan, make_plan
from segpipe.prepare.voxels import StoredArray

__all__ = [
    "CaseGrid",
    "ChannelIntensities",
    "Fingerprint",
    "PreparePlan",
    "PreparedCase",
    "PreparedImage",
    "StoredArray",
    "cache_key",
    "fingerprint",
    "make_plan",
    "measure_grids",
    "open_case",
    "prepare_case",
    "prepare_volume",
    "volume_digest",
]
