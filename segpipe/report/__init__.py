"""Reports that a clinician can read: one patient, one cohort. Pure: inputs in, HTML out."""
