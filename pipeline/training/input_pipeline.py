"""Batches for Keras: seeded order and augmentation for training, neither for validation.

Random values depend only on the seed and the step, so training can resume after any epoch. Images stay uint8 in
memory; those of a memory-mapped split stay in its file until their batch. The autotuner of tf.data is off, because
each epoch would end with a wait of seconds for its thread.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from pipeline.data.cifar10 import CHANNELS
from pipeline.data.large_arrays import batch_of
from pipeline.data.splits import Split
from pipeline.models.networks import Augmentation

EVALUATION_BATCH = 120  # images of side 32, for 2 to 6 devices; larger batches are not faster on a CPU


def steps_per_epoch(images: int, size: int) -> int:
    """Full batches in an epoch. The remaining images are left out, because a small batch gives a noisy step."""
    return images // size


def training_batches(split: Split, size: int, augmentation: Augmentation, seed: int, epochs: range) -> tf.data.Dataset:
    """All batches of these epochs: uint8 (size, side, side, 3), float32 (size, classes)."""
    augmentation = augmentation.scaled_to(split.side)
    images_at, labels = reader(split.images), tf.constant(split.labels)
    count = len(split.labels)
    steps = steps_per_epoch(count, size)
    flipped_first = tf.random.stateless_uniform((count,), (seed, 0), 0, 2, tf.int64)

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        epoch, position = step // steps, step % steps * size + tf.range(size, dtype=tf.int64)
        chosen = tf.random.experimental.index_shuffle(
            position, tf.stack([seed, epoch]), tf.constant(count - 1, tf.int64)
        )
        augmented, step_seed = images_at(chosen), tf.stack([seed, step])
        if augmentation.flip or augmentation.shift:
            flipped = (tf.gather(flipped_first, chosen) + epoch) % 2 if augmentation.flip else tf.zeros_like(chosen)
            augmented = flip_and_shift(augmented, flipped, augmentation.shift, step_seed)
        if augmentation.cutout:
            augmented = cut_out(augmented, augmentation.cutout, step_seed)
        return augmented, targets(tf.gather(labels, chosen), len(split.class_names), augmentation.smoothing)

    return _prefetched(tf.data.Dataset.range(epochs.start * steps, epochs.stop * steps).map(batch))


def validation_batches(split: Split) -> tf.data.Dataset:
    """All images in the order of the split: uint8 (n, side, side, 3), float32 (n, classes)."""
    images_at, labels = reader(split.images), tf.constant(split.labels)
    count, size = len(split.labels), batch_of(EVALUATION_BATCH, split.images)

    def batch(start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = tf.range(start, tf.minimum(start + size, count))
        return images_at(chosen), targets(tf.gather(labels, chosen), len(split.class_names), 0.0)

    return _prefetched(tf.data.Dataset.range(0, count, size).map(batch))


def reader(images: np.ndarray) -> Callable[[tf.Tensor], tf.Tensor]:
    """A function of positions, int64 (n,), that gives these images without a copy of all, or from a np.memmap's file."""

    def read(positions: tf.Tensor) -> tf.Tensor:
        found = tf.numpy_function(lambda rows: images[rows], [positions], tf.uint8, stateful=False)
        return tf.ensure_shape(found, (*positions.shape, *images.shape[1:]))

    return read


def _prefetched(data: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.autotune.enabled = False
    return data.prefetch(2).with_options(options)


def targets(labels: tf.Tensor, classes: int, smoothing: float) -> tf.Tensor:
    """One-hot labels with label smoothing: float32 (n, classes), rows sum to 1."""
    return tf.one_hot(tf.cast(labels, tf.int32), classes, 1 - smoothing + smoothing / classes, smoothing / classes)


def flip_and_shift(images: tf.Tensor, flipped: tf.Tensor, limit: int, seed: tf.Tensor) -> tf.Tensor:
    """Flip images horizontally and shift each by up to `limit` pixels; the edges are padded by reflection.

    A single gather does both; Keras' layers take several times as long.

    Args:
        images: uint8 (n, side, side, 3).
        flipped: int64 (n,), 1 for images to flip, 0 for others.
        seed: int64 (2,), different for each batch.
    """
    count, side = images.shape[:2]
    shifts = tf.random.stateless_uniform((2, count, 1), seed, 0, 2 * limit + 1, tf.int32)
    reflected = tf.constant(np.pad(np.arange(side, dtype=np.int32), limit, mode="symmetric"))
    rows, columns = tf.unstack(tf.gather(reflected, shifts + tf.range(side)))  # (n, side) each: source of each pixel
    columns = tf.where(flipped[:, None] == 1, side - 1 - columns, columns)
    starts = (tf.range(count)[:, None] * side + rows) * side  # (n, side): index of each row's first pixel in the batch
    return tf.gather(tf.reshape(images, (-1, CHANNELS)), starts[:, :, None] + columns[:, None, :])


def cut_out(images: tf.Tensor, side: int, seed: tf.Tensor) -> tf.Tensor:
    """Fill a random square of each image with grey; it may reach over the edge (Cutout, arXiv 1708.04552)."""
    centre = tf.random.stateless_uniform((2, len(images), 1), seed + 1, 0, images.shape[1], tf.int32)
    distance = tf.range(images.shape[1]) - centre + side // 2  # (2, n, image side)
    inside = (distance >= 0) & (distance < side)
    return tf.where((inside[0][:, :, None] & inside[1][:, None, :])[..., None], tf.constant(128, tf.uint8), images)
