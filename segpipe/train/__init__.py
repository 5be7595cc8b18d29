"""Fitting one fold: loop, schedules, validation, checkpoints."""
