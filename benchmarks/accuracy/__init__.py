"""segpipe beside nnU-Net: the same cases, minutes and threads, and one judge for both."""
