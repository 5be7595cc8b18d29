"""One module per command: what it reads, calls and writes."""
