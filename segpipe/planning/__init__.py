"""From a dataset's fingerprint to a complete configuration, every choice with its reason."""

from segpipe.planning.choices import make_choices
from segpipe.planning.machine import Choice, Machine

__all__ = ["Choice", "Machine", "make_choices"]
