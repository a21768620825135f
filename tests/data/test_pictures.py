"""Image files of every kind: each is read as documented, or refused with its reason."""

import io
import os
import re
import socket
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from projects import ROOT

from pipeline.data import pictures
from pipeline.data.pictures import FORMATS, decode_image, read_image

DOWN, ACROSS = np.mgrid[0:64, 0:64].astype(np.uint8) * 4
PIXELS = np.stack([ACROSS, DOWN, 252 - ACROSS], -1)  # red grows to the right, green grows downwards
IMAGE = Image.fromarray(PIXELS)
GRAY = np.asarray(IMAGE.convert("L"))
CLOCKWISE = Image.fromarray(np.ascontiguousarray(np.rot90(PIXELS)))  # is upright after a clockwise rotation
HALF = np.where(ACROSS < 128, 0, 0x80)  # the left half is black, or transparent; the right half is gray


def encode(image, kind, **options):
    """The content of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(rows, depth, colour_type, transparent=None):
    """A PNG file from its rows' bytes, with the colour that is transparent as its 16-bit values."""

    def chunk(name, content=b""):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 64, len(rows), depth, colour_type, 0, 0, 0)
    alpha = chunk(b"tRNS", np.array(transparent, ">u2").tobytes()) if transparent else b""
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + alpha + pixels + chunk(b"IEND")


def gray_png(values, depth, transparent=None):
    """A grayscale PNG file of 1 to 16 bits."""
    if depth == 16:
        return png([row.tobytes() for row in values.astype(">u2")], 16, 0, transparent)
    bits = np.unpackbits(values.astype(np.uint8)[..., None], axis=2)[..., -depth:]
    return png([row.tobytes() for row in np.packbits(bits.reshape(64, -1), axis=1)], depth, 0, transparent)


def rgb_png(values, transparent=None):
    """An RGB PNG file of 16 bits with equal channels."""
    rows = np.repeat(values[..., None], 3, 2).astype(">u2")
    return png([row.tobytes() for row in rows], 16, 2, transparent and transparent * 3)


def tag(number, kind, count, value):
    """An entry of EXIF data: `value` as 4 bytes or an integer."""
    return struct.pack("<HHI", number, kind, count) + (value if isinstance(value, bytes) else struct.pack("<i", value))


def exif(*tags):
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4)


ROTATED = tag(0x112, 3, 1, 6)


def with_exif(data, image=CLOCKWISE, kind="JPEG", **options):
    prefix = b"" if kind == "WEBP" else b"Exif\0\0"
    return encode(image, kind, exif=prefix + data, **(options or {"quality": 95}))


def tiff(values, bits, photometric):
    """A grayscale TIFF file of 12 or 16 bits without compression."""
    if bits == 16:
        pixels = values.astype("<u2").tobytes()
    else:
        pairs = values.reshape(-1, 2).astype(int)
        pixels = (
            np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
            .astype(np.uint8)
            .tobytes()
        )
    facts = {256: 64, 257: 64, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: 64, 279: len(pixels)}
    facts[273] = 10 + 12 * len(facts) + 4
    tags = b"".join(tag(number, 4 if number in (273, 279) else 3, 1, value) for number, value in facts.items())
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(facts)) + tags + bytes(4) + pixels


def lab():
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.applyTransform(IMAGE, ImageCms.buildTransform(*profiles, "RGB", "LAB"))


FRAMES = {"save_all": True, "append_images": [Image.new("RGB", (64, 64), "white")] * 2}
DEEP = GRAY.astype(np.uint16) * 257
COLOURED = {  # content -> PIXELS
    "png": encode(IMAGE, "PNG"),
    "jpeg": encode(IMAGE, "JPEG", quality=95),
    "jpeg without subsampling": encode(IMAGE, "JPEG", quality=95, subsampling=0),
    "cmyk jpeg": encode(IMAGE.convert("CMYK"), "JPEG", quality=95),
    "mpo": encode(IMAGE, "MPO", quality=95, save_all=True, append_images=[Image.new("RGB", (64, 64))]),
    "gif": encode(IMAGE.quantize(256), "GIF"),
    "animated gif": encode(IMAGE.quantize(256).convert("RGB"), "GIF", **FRAMES),
    "animated webp": encode(IMAGE, "WEBP", lossless=True, **FRAMES),
    "animated png": encode(IMAGE, "PNG", **FRAMES),
    "rgba webp": encode(IMAGE.convert("RGBA"), "WEBP", lossless=True),
    "avif": encode(IMAGE, "AVIF", quality=95),
    "jpeg 2000": encode(IMAGE, "JPEG2000"),
    "bmp": encode(IMAGE, "BMP"),
    "ppm": encode(IMAGE, "PPM"),
    "ico": encode(IMAGE, "ICO", sizes=[(64, 64)]),
    "tga": encode(IMAGE, "TGA"),
    "pcx": encode(IMAGE, "PCX"),
    "tiff": encode(IMAGE, "TIFF"),
    "tiff with lzw": encode(IMAGE, "TIFF", compression="tiff_lzw"),
    "ycbcr tiff": encode(IMAGE.convert("YCbCr"), "TIFF"),
    "cmyk tiff": encode(IMAGE.convert("CMYK"), "TIFF"),
    "lab tiff": encode(lab(), "TIFF"),
    "palette": encode(IMAGE.quantize(256), "PNG"),
    "rotated tiff": encode(CLOCKWISE, "TIFF", exif=exif(ROTATED)),
    "rotated tiff with lzw": encode(CLOCKWISE, "TIFF", exif=exif(ROTATED), compression="tiff_lzw"),
    "rotated avif": encode(CLOCKWISE, "AVIF", quality=95, exif=exif(ROTATED)),
    "rotated png": with_exif(exif(ROTATED), kind="PNG", compress_level=1),
    "rotated webp": with_exif(exif(ROTATED), kind="WEBP", lossless=True),
    "rotated": with_exif(exif(ROTATED)),
    "text for a number": with_exif(exif(tag(0x103, 2, 3, b"ab\0\0"), ROTATED)),
    "too large for 16 bits": with_exif(exif(tag(0x100, 4, 1, 100_000), ROTATED)),
    "negative": with_exif(exif(tag(0x100, 9, 1, -5), ROTATED)),
    "fraction for an integer": with_exif(exif(tag(0x101, 11, 1, struct.pack("<f", 1.5)), ROTATED)),
    "text beyond the end": with_exif(exif(tag(0x10E, 2, 5000, 0x7FFFFF00), ROTATED)),
    "division by zero": with_exif(exif(ROTATED, tag(0x11A, 5, 1, 38)) + struct.pack("<II", 72, 0)),
    "GPS data beyond the end": with_exif(exif(ROTATED, tag(0x8769, 4, 1, 2), tag(0x8825, 4, 1, 9999))),
    "folder of another type": with_exif(exif(ROTATED, tag(0x8769, 13, 1, 0x7FFFFF00))),
    "odd exif in a png": with_exif(exif(tag(0x103, 2, 3, b"ab\0\0"), ROTATED), kind="PNG", compress_level=1),
    "odd exif in a webp": with_exif(exif(tag(0x100, 9, 1, -5), ROTATED), kind="WEBP", lossless=True),
    "damaged exif": with_exif(b"XXXXYYYYZZZZ", IMAGE),
    "damaged exif in a png": with_exif(b"XXXXYYYYZZZZ", IMAGE, "PNG", compress_level=1),
    "damaged exif in a webp": with_exif(b"XXXXYYYYZZZZ", IMAGE, "WEBP", lossless=True),
    "truncated exif": with_exif(exif(ROTATED)[:15], IMAGE),
    "orientation 9": with_exif(exif(tag(0x112, 3, 1, 9)), IMAGE),
    "orientation as text": with_exif(exif(tag(0x112, 2, 2, b"6\0\0\0")), IMAGE),
    "two orientations": with_exif(exif(tag(0x112, 3, 2, struct.pack("<HH", 6, 6)))),
}
GRAYSCALE = {  # content -> GRAY
    "gray jpeg": encode(IMAGE.convert("L"), "JPEG", quality=95),
    "16-bit png": encode(Image.fromarray(DEEP), "PNG"),
    "16-bit rgb png": rgb_png(DEEP),
    "16-bit tiff": encode(Image.fromarray(DEEP), "TIFF"),
    "16-bit tiff with lzw": encode(Image.fromarray(DEEP), "TIFF", compression="tiff_lzw"),
    "16-bit tiff, white is 0": tiff(65_535 - DEEP, 16, 0),
    "12-bit tiff": tiff(GRAY.astype(int) * 16 + 8, 12, 1),
    "16-bit pgm": b"P5 64 64 65535\n" + DEEP.astype(">u2").tobytes(),
    "16-bit jpeg 2000": encode(Image.fromarray(DEEP), "JPEG2000"),
}
RGBA_HALF = np.stack([HALF * 257] * 3 + [np.where(HALF == 0, 0, 65_535)], -1)
# The left half is transparent, so white; the right half is gray.
HALF_TRANSPARENT = {
    "8 bits": gray_png(HALF, 8, [0]),
    "16 bits": gray_png(HALF * 257, 16, [0]),
    "16 bits, almost the same gray": gray_png(np.where(HALF == 0, 0x8081, 0x8080), 16, [0x8081]),
    "16-bit rgb": rgb_png(np.where(HALF == 0, 0x1234, 0x8080), [0x1234]),
    "16-bit rgba": png([row.tobytes() for row in RGBA_HALF.astype(">u2")], 16, 6),
    "la": encode(Image.merge("LA", [Image.new("L", (64, 64), 0x80), Image.fromarray(np.uint8(HALF > 0) * 255)]), "PNG"),
    "palette": encode(Image.fromarray(HALF.astype(np.uint8)).quantize(2), "PNG", transparency=1),
}
REFUSED = {  # content -> a part of the reason
    "empty": (b"", "not an image"),
    "html": (b"<!doctype html><title>404</title>", "not an image in one of the formats JPEG, PNG"),
    "truncated jpeg": (COLOURED["jpeg"][:-400], "truncated"),
    "truncated png": (COLOURED["png"][:-60], "."),
    "float tiff": (encode(Image.fromarray(GRAY / np.float32(255)), "TIFF"), "mode F.*convert it to 8 bits"),
    "integer tiff": (encode(Image.fromarray(GRAY.astype(np.int32)), "TIFF"), "mode I.*convert it to 8 bits"),
    "pfm": (encode(Image.fromarray(GRAY / np.float32(255)), "PPM"), "mode F.*convert it to 8 bits"),
    "too many pixels": (encode(Image.new("1", (9500, 9500)), "PNG"), r"90250000 pixels\) exceeds limit"),
    "eps": (encode(IMAGE, "EPS"), "not an image in one of the formats"),
    "fits": (b"SIMPLE  =                    T".ljust(80) + b"END".ljust(2800), "not an image in one of the formats"),
}


@pytest.mark.parametrize("name", COLOURED)
def test_colours_are_read_from_every_format_and_beside_every_odd_tag(name):
    image = decode_image(io.BytesIO(COLOURED[name]), 32)
    blocks = PIXELS.reshape(32, 2, 32, 2, 3).mean((1, 3))
    assert (image.dtype, image.shape) == (np.uint8, (32, 32, 3))
    assert np.abs(image - blocks).mean() < 8


@pytest.mark.parametrize("name", GRAYSCALE)
def test_grayscale_of_every_depth_is_scaled_to_8_bits(name):
    image = decode_image(io.BytesIO(GRAYSCALE[name]), 32)
    np.testing.assert_allclose(image[..., 0], GRAY.reshape(32, 2, 32, 2).mean((1, 3)), atol=2)
    np.testing.assert_array_equal(np.ptp(image, axis=2), 0)


@pytest.mark.parametrize("name", HALF_TRANSPARENT)
def test_transparency_of_every_depth_becomes_white(name):
    image = decode_image(io.BytesIO(HALF_TRANSPARENT[name]), 32)
    assert (np.unique(image[:, :16]).tolist(), np.unique(image[:, 16:]).tolist()) == ([255], [0x80])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_transparency_of_few_bits_becomes_white(depth):
    top = 2**depth - 1
    image = decode_image(io.BytesIO(gray_png(np.where(ACROSS < 128, top - 1, 0), depth, [top - 1])), 32)
    opaque = decode_image(io.BytesIO(gray_png(np.where(ACROSS < 128, top, 0), depth)), 32)
    np.testing.assert_array_equal(image, opaque if depth > 1 else 255)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_with_its_reason(name):
    content, reason = REFUSED[name]
    with pytest.raises(Exception, match=reason):
        decode_image(io.BytesIO(content), 32)


@pytest.mark.filterwarnings("error")
def test_odd_metadata_of_a_whole_image_does_not_warn(capfd):
    for content in COLOURED.values():
        decode_image(io.BytesIO(content), 32)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(orientation):
    upright = {1: "T", 2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM"}
    upright |= {5: "TRANSPOSE", 6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    stored = IMAGE if orientation == 1 else IMAGE.transpose(Image.Transpose[upright[orientation]])
    content = encode(stored, "PNG", exif=exif(tag(0x112, 3, 1, orientation)))
    np.testing.assert_array_equal(decode_image(io.BytesIO(content), 32), decode_image(io.BytesIO(COLOURED["png"]), 32))


@pytest.mark.parametrize("suffix", ["jpg", "png", "eps", "ps", "txt"])
def test_postscript_under_any_name_starts_no_program(tmp_path, monkeypatch, suffix):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    path = tmp_path / f"picture.{suffix}"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n%%EOF\n")
    code = (
        f"from pathlib import Path; from pipeline.data.pictures import read_image; read_image(Path({str(path)!r}), 32)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "not an image in one of the formats" in done.stderr
    assert not (tmp_path / "started").exists()


def test_no_format_of_the_list_is_unknown_to_pillow():
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))


SPECIAL = {
    "fifo": (os.mkfifo, "not a regular file"),
    "folder": (os.mkdir, "not a regular file"),
    "endless device": (lambda path: os.symlink("/dev/zero", path), "not a regular file"),
    "terminal": (lambda path: os.symlink("/dev/ptmx", path), "not a regular file"),
    "socket": (make_socket, "No such device or address"),
    "link to itself": (lambda path: os.symlink(path.name, path), "Too many levels of symbolic links"),
    "dangling link": (lambda path: os.symlink("absent", path), "No such file"),
}


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_not_a_regular_file_is_refused_at_once(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    make, reason = SPECIAL[name]
    path = pictures.Path("special.jpg")
    make(path)
    start, files = time.monotonic(), os.listdir("/dev/fd")
    with pytest.raises((ValueError, OSError), match=reason):
        read_image(path, 32)
    assert time.monotonic() - start < 2
    assert len(os.listdir("/dev/fd")) == len(files)


def test_a_huge_file_is_not_read(tmp_path):
    path = tmp_path / "huge.png"
    path.write_bytes(COLOURED["png"])
    os.truncate(path, 2**30 + 1)
    with pytest.raises(ValueError, match=re.escape("it has 1,073,741,825 bytes, at most 1,073,741,824 are read")):
        read_image(path, 32)
