"""Tables about splits, images, parts of the archive and classes, for the validation of a data set."""

import numpy as np
import pandas as pd

from pipeline.data.large_arrays import images_per_block
from pipeline.data.splits import Split
from pipeline.validation.image_statistics import image_statistics

CHANNEL_NAMES = ("red", "green", "blue")
BLOCK = 1_536_000  # bytes of pixels, 500 images of 32 x 32; keeps intermediate arrays in the processor's cache


def image_table(splits: dict[str, Split]) -> pd.DataFrame:
    """One row per image of all splits.

    Columns: archive_index, split, part (of the archive: training or test), label, red, green, blue (means of pixels
    scaled to 0..1), red_square, green_square, blue_square (means of their squares), lowest, highest (of the pixels,
    0 to 255), spread (standard deviation over all pixels and channels, scaled to 0..1), splits_with_these_pixels and
    images_with_these_pixels (number of splits and of images with exactly the same pixels; 1 means no duplicate), and
    each of `image_statistics.STATISTICS`.
    """
    table = pd.concat([_image_rows(name, split) for name, split in splits.items()], ignore_index=True)
    same_pixels = table.groupby("pixels")["split"]
    table["splits_with_these_pixels"] = same_pixels.transform("nunique")
    table["images_with_these_pixels"] = same_pixels.transform("size")
    return table.drop(columns="pixels")


def _image_rows(name: str, split: Split) -> pd.DataFrame:
    step = images_per_block(split.images, BLOCK)
    blocks = (slice(start, start + step) for start in range(0, len(split.images), step))
    columns = (split.images, split.labels, split.archive_index)
    rows = [_block_rows(name, *(column[block] for column in columns)) for block in blocks]
    return pd.concat(rows, ignore_index=True)


def _block_rows(name: str, images: np.ndarray, labels: np.ndarray, archive_index: np.ndarray) -> pd.DataFrame:
    means, squares = moments(images)
    return pd.DataFrame(image_statistics(images)).assign(
        archive_index=archive_index,
        split=name,
        part="test" if name == "test" else "training",
        label=labels.astype(int),
        **dict(zip(CHANNEL_NAMES, means.T, strict=True)),
        **{f"{channel}_square": column for channel, column in zip(CHANNEL_NAMES, squares.T, strict=True)},
        lowest=images.min(axis=(1, 2, 3)),
        highest=images.max(axis=(1, 2, 3)),
        spread=np.sqrt(np.maximum(squares.mean(1) - means.mean(1) ** 2, 0)),
        pixels=[hash(image.tobytes()) for image in images],
    )


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per image and channel, mean and mean square of pixels scaled to 0..1: float64 (n, 3), from integer sums."""
    pixels = images.reshape(len(images), -1, 3).astype(np.uint32)
    count = pixels.shape[1]
    return pixels.sum(1) / (count * 255), (pixels * pixels).sum(1) / (count * 255**2)


def split_table(splits: dict[str, Split]) -> pd.DataFrame:
    """One row per split. Columns: split, images, height, width, channels, dtype."""
    rows = [(name, *split.images.shape, str(split.images.dtype)) for name, split in splits.items()]
    return pd.DataFrame(rows, columns=["split", "images", "height", "width", "channels", "dtype"])


def part_table(images: pd.DataFrame) -> pd.DataFrame:
    """One row per part of the archive, from `image_table`.

    Columns: part, lowest, highest (of the pixels, 0 to 255), red, green, blue (means, pixels scaled to 0..1),
    red_spread, green_spread, blue_spread (standard deviations), red_minus_blue.
    """
    parts = images.groupby("part")
    table = parts.agg(lowest=("lowest", "min"), highest=("highest", "max"))
    for channel in CHANNEL_NAMES:
        table[channel] = parts[channel].mean()
        table[f"{channel}_spread"] = np.sqrt(parts[f"{channel}_square"].mean() - table[channel] ** 2)
    table["red_minus_blue"] = table["red"] - table["blue"]
    return table.reset_index()


def class_table(images: pd.DataFrame, class_names: np.ndarray) -> pd.DataFrame:
    """One row per part and class. Columns: part, class_name, images, relative_share (1 is an equal share)."""
    counts = pd.crosstab(images["part"], images["label"]).reindex(columns=range(len(class_names)), fill_value=0)
    table = (
        counts.set_axis(pd.Index(class_names.tolist(), name="class_name"), axis=1).stack().reset_index(name="images")
    )
    equal_shares = table.groupby("part")["images"].transform("mean")
    return table.assign(relative_share=table["images"] / equal_shares)
