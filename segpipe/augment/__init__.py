"""Augmentation of patches in [0, 1], repeatable from one generator."""

from segpipe.augment.augmenter import Augmenter, build

__all__ = ["Augmenter", "build"]
