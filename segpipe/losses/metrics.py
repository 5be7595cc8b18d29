"""The naive count, to be watched beside a loss."""

from __future__ import annotations

from typing import Any

import keras

from segpipe.losses import counting


@keras.saving.register_keras_serializable(package="segpipe")
class HardCount(keras.metrics.Mean):
    """Number of predicted elements above a threshold, averaged over the samples seen.

    Exact, and of no use as a loss: its gradient is 0 everywhere, so that training on it changes
    nothing. The tests keep it as the negative control of the losses that count.

    Parameters
    ----------
    threshold : float
        t in (0, 1).
    fraction : bool
        Share of the elements, not their number.
    from_logits : bool
        Predictions are a sigmoid's logits.
    name, dtype
        As Keras has them.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        *,
        fraction: bool = False,
        from_logits: bool = False,
        name: str = "hard_count",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.threshold = threshold
        self.fraction = fraction
        self.from_logits = from_logits

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count in (B, ..., C) predictions; the reference is not looked at."""
        values = counting.hard_count(
            y_pred,
            threshold=self.threshold,
            fraction=self.fraction,
            from_logits=self.from_logits,
        )
        super().update_state(values, sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments."""
        return {
            **super().get_config(),
            "threshold": self.threshold,
            "fraction": self.fraction,
            "from_logits": self.from_logits,
        }
