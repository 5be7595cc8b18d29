"""What both environments must agree on; needs neither."""

from __future__ import annotations

FIRST_STEPS = 3
"""Steps, or patches, of a process that tell nothing: they compile and fill queues."""

ROTATION_DEGREES = 30.0
SCALE_RANGE = (0.7, 1.4)
"""nnU-Net's in three dimensions."""
