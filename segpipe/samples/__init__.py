"""Synthetic sample data: made from the MNI152 template, no patient involved."""

from segpipe.samples.make import Sample, make_sample, make_samples, plan_cases

__all__ = ["Sample", "make_sample", "make_samples", "plan_cases"]
