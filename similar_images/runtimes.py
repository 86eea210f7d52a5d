"""How an encoder is run: pixels in batches, vectors out."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from similar_images.encoders import Encoder
from similar_images.images import Pixels


class TensorFlowRuntime:
    """Runs an encoder with TensorFlow in float32, on whatever device TensorFlow finds.

    Attributes:
        shape: (height, width, 3) of the pixels that it takes.
        dimension: length d of the vectors that it gives.
    """

    def __init__(self, encoder: Encoder) -> None:
        """Prepare the encoder's graph; the first batch traces it."""
        import tensorflow as tf

        width, height = encoder.size
        self.shape, self.dimension = (height, width, 3), encoder.dimension
        batch = tf.TensorSpec((None, *self.shape), tf.uint8)
        dtype = encoder.model.input.dtype
        self._run: Any = tf.function(
            lambda pixels: encoder.model(tf.cast(pixels, dtype), training=False), input_signature=[batch]
        )

    def encode(self, pixels: Pixels) -> NDArray[np.float32]:
        """Return the vectors of a batch.

        Args:
            pixels: (b, height, width, 3) uint8 RGB, not modified.

        Returns:
            (b, d) float32.
        """
        return np.array(self._run(pixels), np.float32)  # a copy: TensorFlow's own is read-only
