"""How batches reach ``fit``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def feed(batches: Any) -> Any:
    """What to give ``fit`` for batches that are loaded ahead already, one after the other.

    On TensorFlow Keras would wrap them into a ``tf.data`` pipeline with a tuner. Its thread can
    miss that the pipeline ends and sleep on, while the program waits for it: at about every third
    end of an epoch, as long as the epoch took or a minute (seen in TensorFlow 2.21). There is
    nothing to tune here, so the pipeline is made without.

    Parameters
    ----------
    batches : keras.utils.PyDataset
        Tuples of arrays, alike but for the number of samples.

    Returns
    -------
    tf.data.Dataset or keras.utils.PyDataset
        Values and order are those of ``batches``.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return batches
    import tensorflow as tf

    def every() -> Iterator[Any]:
        for index in range(len(batches)):
            yield batches[index]

    signature = tuple(tf.TensorSpec((None, *part.shape[1:]), part.dtype) for part in batches[0])
    options = tf.data.Options()
    options.autotune.enabled = False
    data = tf.data.Dataset.from_generator(every, output_signature=signature)
    sized = data.apply(tf.data.experimental.assert_cardinality(len(batches)))
    return sized.prefetch(1).with_options(options)
