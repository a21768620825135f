"""Batches for Keras: seeded order and augmentation for training, plain ones for validation.

All that is random follows from the seed and the step, so a training can go on from any epoch.
Images stay bytes in memory. tf.data's tuner is off, since an epoch's end would wait for its next
wake-up (seconds).
"""

from typing import Any

import numpy as np
import tensorflow as tf

from pipeline.cifar10 import CHANNELS
from pipeline.models import Augmentation
from pipeline.splits import Split

EVALUATION_BATCH = 500  # images; larger batches are no faster on a CPU and cost memory


def steps_per_epoch(images: int, size: int) -> int:
    """Whole batches of `size` in an epoch; the rest of its random order is left out: a small batch is a noisy step."""
    return images // size


def training_batches(split: Split, size: int, augmentation: Augmentation, seed: int, epochs: range) -> Any:
    """A tf.data.Dataset of all batches of those epochs: uint8 (size, 32, 32, 3), float32 (size, classes)."""
    images, labels = tf.constant(split.images), tf.constant(split.labels)
    count = len(split.labels)
    steps = steps_per_epoch(count, size)
    first_mirrored = tf.random.stateless_uniform((count,), (seed, 0), 0, 2, tf.int64)

    def batch(step: Any) -> tuple[Any, Any]:
        epoch, position = step // steps, step % steps * size + tf.range(size, dtype=tf.int64)
        chosen = tf.random.experimental.index_shuffle(
            position, tf.stack([seed, epoch]), tf.constant(count - 1, tf.int64)
        )
        shown, drawn = tf.gather(images, chosen), tf.stack([seed, step])
        if augmentation.flip or augmentation.shift:
            mirrored = (tf.gather(first_mirrored, chosen) + epoch) % 2 if augmentation.flip else tf.zeros_like(chosen)
            shown = shift(shown, mirrored, augmentation.shift, drawn)
        if augmentation.cutout:
            shown = cut_out(shown, augmentation.cutout, drawn)
        return shown, targets(tf.gather(labels, chosen), len(split.class_names), augmentation.smoothing)

    return _prefetched(tf.data.Dataset.range(epochs.start * steps, epochs.stop * steps).map(batch))


def validation_batches(split: Split) -> Any:
    """A tf.data.Dataset of every image in its order: uint8 (n, 32, 32, 3), float32 (n, classes)."""
    data = tf.data.Dataset.from_tensor_slices((split.images, split.labels)).batch(EVALUATION_BATCH)
    return _prefetched(data.map(lambda images, labels: (images, targets(labels, len(split.class_names), 0.0))))


def _prefetched(data: Any) -> Any:
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.prefetch(2).with_options(options)


def targets(labels: Any, classes: int, smoothing: float) -> Any:
    """float32 (n, classes), rows that sum to 1: the label has 1 - smoothing, and smoothing is spread over all classes."""
    return tf.one_hot(tf.cast(labels, tf.int32), classes, 1 - smoothing + smoothing / classes, smoothing / classes)


def shift(images: Any, mirrored: Any, reach: int, seed: Any) -> Any:
    """Mirror images from left to right and move each by up to `reach` pixels; what that uncovers is reflected.

    All of it is one look-up of each pixel's place in the batch, since Keras' layers take several times as long.

    Args:
        images: uint8 (n, side, side, 3).
        mirrored: int64 (n,), 1 where an image is to be mirrored, else 0.
        seed: int64 (2,), another for each batch.
    """
    count, side = images.shape[:2]
    moves = tf.random.stateless_uniform((2, count, 1), seed, 0, 2 * reach + 1, tf.int32)
    reflected = tf.constant(np.pad(np.arange(side, dtype=np.int32), reach, mode="symmetric"))
    rows, columns = tf.unstack(tf.gather(reflected, moves + tf.range(side)))  # (n, side) each: where a pixel comes from
    columns = tf.where(mirrored[:, None] == 1, side - 1 - columns, columns)
    starts = (tf.range(count)[:, None] * side + rows) * side  # of each row among the batch's pixels
    return tf.gather(tf.reshape(images, (-1, CHANNELS)), starts[:, :, None] + columns[:, None, :])


def cut_out(images: Any, side: int, seed: Any) -> Any:
    """Hide a square of grey at a random place of each image, partly outside at its edges (arXiv 1708.04552)."""
    centre = tf.random.stateless_uniform((2, len(images), 1), seed + 1, 0, images.shape[1], tf.int32)
    distance = tf.range(images.shape[1]) - centre + side // 2  # (2, n, side of the image)
    inside = (distance >= 0) & (distance < side)
    return tf.where((inside[0][:, :, None] & inside[1][:, None, :])[..., None], tf.constant(128, tf.uint8), images)
