"""Class indices that stand for no class: 0 is background, 1, 2, … are the labels."""

IGNORE = 255
"""Voxels that count for nobody."""

BAND = 254
"""In training targets: background so near the reference that no penalty falls on it."""
