"""Inference: tiles, engines, and the way back to the scan's own grid."""
