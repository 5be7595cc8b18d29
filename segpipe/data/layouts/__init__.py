"""Datasets as they lie on disk, all turned into the same list of cases."""

from segpipe.data.layouts.case import Case, ChannelFile, Dataset, Finding
from segpipe.data.layouts.opening import open_dataset
from segpipe.data.layouts.scans import find_scans

__all__ = ["Case", "ChannelFile", "Dataset", "Finding", "find_scans", "open_dataset"]
