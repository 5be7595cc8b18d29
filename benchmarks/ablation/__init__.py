"""What each default of training is worth: one thing changed at a time, everything else equal."""
