"""How fast segpipe is: `python -m benchmarks`."""
