"""What a request contains: images as numbers (MLflow's scoring protocol) or one image file; all sizes are bounded."""

import io
import json

import anyio
import numpy as np
from starlette.requests import ClientDisconnect, Request

from pipeline.common.errors import printable, root_cause
from pipeline.data.cifar10 import CHANNELS
from pipeline.data.pictures import decode_image

MAXIMUM_IMAGES = 64  # in a request
MAXIMUM_FILE = 10_000_000  # bytes of an image file
NUMBER = 6  # bytes of a pixel value in JSON, with comma, space and brackets
SECONDS = 10  # to receive a body


class Refused(Exception):
    """A request that is not answered: the HTTP status, and the reason as its text."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def read_body(request: Request, limit: int) -> bytes:
    """The body, of at most `limit` bytes within `SECONDS`; `Refused` otherwise."""
    parts, size = [], 0
    try:
        with anyio.fail_after(SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    raise Refused(413, f"the request has more than {limit:,} bytes")
                parts.append(part)
    except TimeoutError:
        raise Refused(408, f"the request did not arrive within {SECONDS} seconds") from None
    except ClientDisconnect:
        raise Refused(400, "the client has gone") from None
    return b"".join(parts)


def longest_json(side: int) -> int:
    """Bytes of the largest request in JSON for images of this side."""
    return MAXIMUM_IMAGES * side * side * CHANNELS * NUMBER + 1000


def images_of_json(body: bytes, side: int) -> np.ndarray:
    """The images of `{"inputs": {"image": [...]}}`, uint8 (n, side, side, 3); `Refused` if it has another form."""
    expected = (
        f'expected was {{"inputs": {{"image": [...]}}}} with integers from 0 to 255, [n, {side}, {side}, {CHANNELS}]'
    )
    try:
        values = np.asarray(json.loads(body)["inputs"]["image"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused(400, f"the body cannot be read ({printable(root_cause(error), 100)}), {expected}") from None
    if values.shape[1:] != (side, side, CHANNELS) or not len(values):
        raise Refused(400, f"image has the shape {list(values.shape)}, {expected}")
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise Refused(400, f"image has other values than integers from 0 to 255, {expected}")
    if len(values) > MAXIMUM_IMAGES:
        raise Refused(413, f"{len(values)} images in one request, at most {MAXIMUM_IMAGES} are classified")
    return values.astype(np.uint8)


def image_of_file(body: bytes, side: int) -> np.ndarray:
    """The image file as uint8 (1, side, side, 3); `Refused` if it cannot be read."""
    try:
        return decode_image(io.BytesIO(body), side)[None]
    except Exception as error:  # a damaged file can raise anything
        raise Refused(415, f"the image cannot be read: {printable(root_cause(error), 300)}") from None
