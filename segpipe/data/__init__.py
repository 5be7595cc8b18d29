"""Scans on disk: reading, writing, dataset layouts, checks and folds."""
