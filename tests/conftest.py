"""Fixtures for everybody; the backend is chosen before anything imports Keras."""

import os

from segpipe.backend import select

select(os.environ.get("SEGPIPE_TEST_BACKEND", "tensorflow"), device="cpu", precision="float32")
