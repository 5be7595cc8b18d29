"""What all losses have in common as Keras sees them: a value per sample."""

from __future__ import annotations

import keras


class PerSampleLoss(keras.losses.Loss):
    """A loss whose ``call`` gives (B,) values.

    Raises
    ------
    ValueError
        When called with a ``sample_weight`` that is not one number for each sample: broadcast
        against (B,) values, weights of voxels would weigh something else.
    """

    def __call__(self, y_true, y_pred, sample_weight=None):
        """The reduced loss."""
        shape = () if sample_weight is None else tuple(keras.ops.shape(sample_weight))
        if any(size not in (1, None) for size in shape[1:]):
            raise ValueError(
                f"{self.name}: sample_weight: expected one number for each sample; received shape "
                f"{shape}. Weights of voxels go into the target, behind the reference."
            )
        return super().__call__(y_true, y_pred, sample_weight)
