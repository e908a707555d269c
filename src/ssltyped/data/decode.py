"""The bytes of an image file to RGB pixels."""

import importlib
import io
import warnings
from importlib.util import find_spec
from typing import Annotated, Optional, TypeAlias

import cv2
import numpy as np
from annotated_types import Ge, Le
from PIL import Image as Pillow
from PIL import ImageOps, TiffImagePlugin, UnidentifiedImageError, features

from ssltyped.data.whole import JPEG, PNG, check_pixels, check_png, whole_jpeg
from ssltyped.transforms.opencv import Array, to_image
from ssltyped.types import Image, UnreadableImageError

Level: TypeAlias = Annotated[int, Ge(0), Le(255)]
Colour: TypeAlias = tuple[Level, Level, Level]
"""Red, green and blue."""

WHITE: Colour = (255, 255, 255)


def _formats() -> dict[str, tuple[str, ...]]:
    """What Pillow is asked to read here, and the suffixes of such files."""
    found: dict[str, tuple[str, ...]] = {
        "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
        "PNG": (".png", ".apng"),
        "WEBP": (".webp",),
        "BMP": (".bmp", ".dib"),
        "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
        "TIFF": (".tif", ".tiff"),
        "GIF": (".gif",),
    }
    if features.check("jpg_2000"):
        found["JPEG2000"] = (".jp2", ".j2k", ".jpx")
    if features.check("avif"):
        found["AVIF"] = (".avif", ".avifs")
    if find_spec("pillow_heif") is not None:
        importlib.import_module("pillow_heif").register_heif_opener()
        found["HEIF"] = (".heic", ".heif")
    return found


FORMATS = _formats()
EXTENSIONS = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
"""What a folder is searched for, in any case."""

BITS, PHOTOMETRIC = 258, 262
"""Tags of a TIFF."""


def decode(data: bytes, background: Colour = WHITE) -> Image:
    """The image as 8-bit RGB, [3, H, W], turned as its EXIF orientation says.

    Grey, palette and CMYK become RGB, as Pillow's `convert("RGB")` says; of 16 bits the upper 8 stay. What is
    transparent is laid on the background, a share of each pixel. The first frame of an animation counts. Colour
    profiles are not applied. OpenCV decodes JPEG, Pillow what it cannot and everything else.

    Raises `UnreadableImageError` for what is no image, ends early, has more than 179 million pixels, or has pixels of
    floating-point or 32-bit numbers, of which nobody says which is black and which is white. Damage inside the
    compressed data of a JPEG cannot be told from an image: both decoders fill the gap.
    """
    if not data:
        raise UnreadableImageError("empty file")
    array = None
    if data.startswith(JPEG):
        data = whole_jpeg(data)
        array = _decode_with_opencv(data)
    elif data.startswith(PNG):
        check_png(data)
    return to_image(_decode_with_pillow(data, background) if array is None else array)


def _decode_with_opencv(data: bytes) -> Optional[Array]:
    previous = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        # Too many pixels, or a decoder that was compiled out: Pillow gives the image or the reason.
        return None
    finally:
        cv2.utils.logging.setLogLevel(previous)


def _decode_with_pillow(data: bytes, background: Colour) -> Array:
    try:
        with warnings.catch_warnings(action="ignore"), Pillow.open(io.BytesIO(data), formats=tuple(FORMATS)) as file:
            check_pixels(*file.size)
            _refuse_unknown_levels(file)
            ImageOps.exif_transpose(file, in_place=True)
            return _on_background(file, background)
    except UnreadableImageError:
        raise
    except UnidentifiedImageError as error:
        kind = "a kind of TIFF that is not read, such as floating-point colours" if data[:2] in (b"II", b"MM") else ""
        raise UnreadableImageError(kind or "cannot identify image file: no image, or of another kind") from error
    except Exception as error:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others for broken files.
        raise UnreadableImageError(str(error).partition(" <_io")[0] or type(error).__name__) from error


def _refuse_unknown_levels(file: Pillow.Image) -> None:
    """Raises `UnreadableImageError` for pixels of which it is not known which are black and which are white."""
    held = {"F": "floating-point numbers", "I": "32-bit numbers"}.get(file.mode, "")
    if file.mode == "I" and file.format == "PPM":  # Pillow scales whatever its header says is white to 16 bits
        held = ""
    if file.mode.startswith("I;16") and isinstance(file, TiffImagePlugin.TiffImageFile):
        bits, black_is_zero = file.tag_v2.get(BITS, (1,))[0], file.tag_v2.get(PHOTOMETRIC) == 1
        if bits != 16 or not black_is_zero:
            held = f"{bits}-bit numbers" + ("" if black_is_zero else ", the highest of which is black")
    if held:
        message = "which of them is black and which white is not known: save it with 8 or 16 bits a channel"
        raise UnreadableImageError(f"its pixels are {held}, and {message}")


def _on_background(image: Pillow.Image, background: Colour) -> Array:
    """8-bit RGB, with what is transparent laid on the background."""
    if image.mode.startswith("I"):
        return _grey_on_background(np.asarray(image), image.info.get("transparency"), background)
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    straight = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)).convert("RGBA")
    canvas = Pillow.new("RGBA", image.size, (*background, 255))
    canvas.alpha_composite(straight)
    return np.array(canvas.convert("RGB"))


def _grey_on_background(levels: np.ndarray, transparent: object, background: Colour) -> Array:
    """The upper 8 of 16 bits of grey, and the background where the level is that which is transparent, if one is."""
    rgb = np.repeat((levels >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if isinstance(transparent, int):
        rgb[levels == transparent] = background
    return rgb
