"""Image files as input of the model: the only way to read and preprocess them. Needs only NumPy and Pillow.

An image of any size, mode and depth is put on white if it is transparent, rotated by its EXIF orientation, cropped to
the largest square in the middle and resized by averaging. Of an animation, the first frame is read.
"""

import io
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pipeline.common.errors import printable, root_cause

# Names everything that this module does to a picture, in the archive, the model and the bundle: change it with the code.
PREPROCESSING = "upright, on white, centre square, area mean, 1"
SIDES = range(16, 129)  # pixels; the height and width that images may have
# Raster formats that Pillow decodes in this process. EPS is not allowed: Pillow runs Ghostscript to read it.
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000", "ICO", "PCX", "TGA")
MAXIMUM_BYTES = 2**30  # of a file; `Image.MAX_IMAGE_PIXELS` limits the pixels
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> the operation that turns the image upright
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of a TIFF file


def files_in(path: Path) -> Iterator[tuple[Path, str]]:
    """The file itself, or all files in a folder, its subfolders and linked folders, in order and without hidden ones.

    A folder that cannot be read, or is a link to a folder that is read anyway, comes with the reason.
    """
    seen: dict[tuple[int, int], Path] = {}  # the folders by device and inode
    remaining = [path]
    while remaining:
        path = remaining.pop()
        if not os.path.isdir(path):  # follows links
            yield path, ""
            continue
        try:
            status = path.stat()
            if (first := seen.setdefault((status.st_dev, status.st_ino), path)) == path:
                remaining += sorted((entry for entry in path.iterdir() if entry.name[0] != "."), reverse=True)
            else:
                yield path, f"it is the folder {first}, which is read once"
        except OSError as error:
            yield path, error.strerror or str(error)


def image_or_reason(source: Path | bytes, side: int) -> np.ndarray | str:
    """The image of a file, or of a file's content, or the reason why it cannot be read."""
    try:
        return decode_image(io.BytesIO(source), side) if isinstance(source, bytes) else read_image(source, side)
    except (ValueError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        return printable(root_cause(error), 300)
    except Exception as error:  # a damaged file can raise anything
        return getattr(error, "strerror", None) or f"it is damaged: {printable(root_cause(error), 300)}"


def read_image(path: Path, side: int) -> np.ndarray:
    """An image file under any name, as from `decode_image`.

    Raises:
        ValueError: it is not a regular file (nothing waits for a FIFO or a device), or it is too large.
        OSError: it cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file, but a folder, a pipe or a device")
        if status.st_size > MAXIMUM_BYTES:
            raise ValueError(f"it has {status.st_size:,} bytes, at most {MAXIMUM_BYTES:,} are read")
        with open(descriptor, "rb", closefd=False) as file:
            return decode_image(file, side)
    finally:
        os.close(descriptor)


def decode_image(file: BinaryIO, side: int) -> np.ndarray:
    """The content of an image file as uint8 (side, side, 3), RGB, 0 to 255.

    Raises:
        ValueError: it is not an image in one of `FORMATS`, or the range of its pixels is unknown.
        Exception: any other of Pillow, if the image is damaged or has more than `Image.MAX_IMAGE_PIXELS`.
    """
    header = file.read(25)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about odd metadata
        # A small file can claim a size that fills memory.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(file, formats=FORMATS)
        except UnidentifiedImageError:
            raise ValueError(f"it is damaged, or not an image in one of the formats {', '.join(FORMATS)}") from None
        with image:
            if image.format == "PNG":
                scale_transparent_colour(image, bits=header[24])
            rgb = to_rgb(image)
            upright = turn_upright(rgb, image)
    shorter = min(upright.size)
    left, top = (upright.width - shorter) // 2, (upright.height - shorter) // 2
    square = (left, top, left + shorter, top + shorter)
    return np.asarray(upright.resize((side, side), Image.Resampling.BOX, square))


def scale_transparent_colour(image: Image.Image, bits: int) -> None:
    """Scale the transparent colour of a PNG file of `bits` a channel like its pixels, which Pillow scales to 8 bits."""
    colour = image.info.get("transparency")
    if image.mode == "L" and colour is not None:
        image.info["transparency"] = colour * 255 // (2**bits - 1)
    if image.mode == "RGB" and colour is not None:
        image.info["transparency"] = tuple(value >> (bits - 8) for value in colour)


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB: 16-bit grayscale is scaled down, transparency becomes white."""
    if image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM"):
        image = to_8_bits(image)
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are 32-bit numbers (mode {image.mode}) of unknown range: convert it to 8 bits")
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("RGB")


def to_8_bits(image: Image.Image) -> Image.Image:
    """Grayscale of 12 or 16 bits in 8 bits, with its transparency; Pillow's own conversion clips at 255."""
    tiff = getattr(image, "tag_v2", {})
    bits = tiff.get(BITS_PER_SAMPLE, (16,))[0]
    values = np.asarray(image)
    gray = Image.fromarray((values >> (bits - 8)).astype(np.uint8))
    if tiff.get(PHOTOMETRIC) == 0:  # white is 0
        gray = ImageOps.invert(gray)
    if (transparent := image.info.get("transparency")) is not None:
        gray.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return gray


def turn_upright(rgb: Image.Image, image: Image.Image) -> Image.Image:
    """`rgb`, rotated by the EXIF orientation of `image`; an orientation that cannot be read is ignored."""
    try:
        operation = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data can raise anything
        operation = None
    return rgb if operation is None else rgb.transpose(operation)
