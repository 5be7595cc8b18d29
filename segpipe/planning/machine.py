"""What training will run on, and what a choice is."""

from __future__ import annotations

from dataclasses import dataclass

PATCHES = 2
"""Patches of the largest size that a step holds."""

_CPU_PATCH, _GPU_PATCH = 56**3, 128**3  # voxels
_BYTES = 75  # of a training step, per voxel and feature of the finest level, at 16 bits
_BYTES_OUT = 24  # estimated: logits, reference, probabilities and two more, per voxel and output
_USABLE = 0.6  # share of the memory that a training step may take


@dataclass(frozen=True)
class Machine:
    """What training will run on.

    Parameters
    ----------
    gpu : bool
    cores : int
    memory_mb : float
        Of the machine.
    gpu_memory_mb : float or None
        None: no GPU, or its memory is not known.
    precision : str
        What ``train.precision: auto`` gives here.
    """

    gpu: bool
    cores: int
    memory_mb: float
    gpu_memory_mb: float | None
    precision: str

    @property
    def name(self) -> str:
        """GPU, or CPU and its cores."""
        return "GPU" if self.gpu else f"CPU of {self.cores} cores"

    def largest_patch(self, features: int, labels: int) -> tuple[int, str, bool]:
        """Voxels that a patch may have at so many features and labels, why, and whether by memory.

        Several labels and the background have an output each.
        """
        most = _GPU_PATCH if self.gpu else _CPU_PATCH
        memory = self.gpu_memory_mb if self.gpu else self.memory_mb
        if memory is not None:
            wide = 2 if self.precision == "float32" else 1
            outputs = labels + 1 if labels > 1 else 0
            voxel = _BYTES * wide * features + _BYTES_OUT * outputs
            fitting = int(_USABLE * memory * 1e6 / (voxel * PATCHES))
            if fitting < most:
                reason = f"of which two fit into {memory / 1000:.1f} GB of memory"
                return fitting, reason, True
        return most, f"as a {self.name} computes in reasonable time", False


@dataclass(frozen=True)
class Choice:
    """A setting by its dotted name, its value, and why."""

    key: str
    value: object
    reason: str
