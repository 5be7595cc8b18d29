"""Pure functions on masks and counts: overlap, surface, detection."""
