"""The network and the bundle: a trained model on disk."""
