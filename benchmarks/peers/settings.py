"""What both environments must agree on; needs neither."""

from __future__ import annotations

FIRST_STEPS = 3
"""Steps, or patches, of a process that tell nothing: they compile and fill queues."""

ROTATION_DEGREES = 30.0
"""nnU-Net's largest angle in three dimensions."""
