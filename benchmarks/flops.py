"""Floating-point operations: of a network's training step, and per second of this machine's matrix products."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def training_flops(model: "keras.Model") -> int:
    """Operations of a training step per image, by formula: only those of convolutions and dense layers.

    A multiply-add counts as two. The backward pass of a layer costs twice its forward pass: once for
    the gradient of its weights, which frozen weights do not need, and once for that of its input, which is
    needed only if a layer before it is trained. Pooling, normalization, activations and the optimizer are not counted.
    """
    import numpy as np

    total, trained_before = 0, False
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            positions = np.prod(layer.output.shape[1:-1], dtype=int)  # 1 for a dense layer
            forward = 2 * int(positions) * int(np.prod(layer.kernel.shape))
            total += forward * (1 + layer.kernel.trainable + trained_before)
        trained_before |= bool(layer.trainable_variables)
    return total


def matmul_peak(precision: str, side: int = 2048, repeats: int = 20) -> float:
    """Operations per second of the fastest of `repeats` matrix products of side x side in TensorFlow.

    Args:
        precision: "float32" or "bfloat16".
    """
    import tensorflow as tf

    matrix = tf.cast(tf.random.normal((side, side)), precision)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)[0]))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        product().numpy()
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds)
