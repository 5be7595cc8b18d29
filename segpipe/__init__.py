"""segpipe: medical segmentation that counts, penalises and reports false-positive regions."""

import os

# albumentations asks the network for updates and MLflow reports usage unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

__version__ = "0.1.0"
