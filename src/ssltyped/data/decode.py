"""The bytes of an image file to RGB pixels."""

import io
import warnings
from typing import Optional

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from ssltyped.transforms.opencv import Array, to_image
from ssltyped.types import Image, UnreadableImageError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")
"""What a folder is searched for, in any case."""

JPEG, PNG = b"\xff\xd8", b"\x89PNG"
START_OF_SCAN, END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"


def decode(data: bytes) -> Image:
    """The image as 8-bit RGB, [3, H, W], turned as its EXIF orientation says.

    Grey, palette and CMYK become RGB; of 16 bits the upper 8 stay; transparency is dropped, the colours below
    it stay (what Pillow's `convert("RGB")` gives, and with it torchvision's datasets). The first frame of an
    animation counts. OpenCV decodes; Pillow is asked when OpenCV cannot.

    Raises `UnreadableImageError` for what is no image or ends early. Damage inside the compressed data of a
    JPEG cannot be told from an image: both decoders fill the gap.
    """
    if reason := _incomplete(data):
        raise UnreadableImageError(reason)
    array = _decode_with_opencv(data)
    return to_image(_decode_with_pillow(data) if array is None else array)


def _incomplete(data: bytes) -> str:
    """Why the file cannot be whole; seen from its ends, because some decoders fill what is missing with grey."""
    if not data:
        return "empty file"
    if data.startswith(JPEG):
        # The marker cannot occur inside compressed data; the one of an embedded preview comes before the scan.
        end = data.rfind(END_OF_IMAGE)
        if end < 0 or data.find(START_OF_SCAN, end) >= 0:
            return "truncated JPEG: it has no end marker"
    if data.startswith(PNG) and data.rfind(b"IEND") < 0:
        return "truncated PNG: it has no end chunk"
    return ""


def _decode_with_opencv(data: bytes) -> Optional[Array]:
    previous = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        # Too many pixels, or a decoder that was compiled out: Pillow gives the image or the reason.
        return None
    finally:
        cv2.utils.logging.setLogLevel(previous)


def _decode_with_pillow(data: bytes) -> Array:
    try:
        with warnings.catch_warnings(action="ignore"), Pillow.open(io.BytesIO(data)) as file:
            upright = ImageOps.exif_transpose(file)
            if upright.mode.startswith("I;16"):
                # Pillow would clip to 255 instead of scaling.
                upright = Pillow.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return np.array(upright.convert("RGB"))
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others for broken files.
        raise UnreadableImageError(str(error).partition(" <_io")[0] or type(error).__name__) from error
