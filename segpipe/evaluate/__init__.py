"""Cohort table, scores, operating point, comparison of runs."""
