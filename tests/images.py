"""Folders of image files for tests, made on the spot."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image as Pillow

BROKEN = ("broken/empty.jpg", "broken/text.jpg", "broken/truncated.jpg", "broken/truncated.png")


def pixels(height: int = 30, width: int = 40, seed: int = 0) -> Pillow.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Pillow.fromarray(coarse).resize((width, height), Pillow.Resampling.BICUBIC)


def encoded(image: Pillow.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def rotated_exif() -> Pillow.Exif:
    """Orientation 6: the picture was taken with the camera turned, its width is its height."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    return exif


def sixteen_bits(kind: str, channels: int) -> bytes:
    rgb = np.asarray(pixels()).astype(np.uint16) * 257
    ok, data = cv2.imencode(f".{kind}", rgb[..., 0] if channels == 1 else rgb[..., ::-1])
    assert ok
    return data.tobytes()


def mixed_files() -> dict[str, bytes]:
    """File name -> content: readable ones of every kind, all of the same picture, 30 x 40 (turned.*: 40 x 30)."""
    image = pixels()
    alpha = image.convert("RGBA")
    alpha.putalpha(Pillow.fromarray(np.tile(np.linspace(0, 255, 40).astype(np.uint8), (30, 1))))
    return {
        "rgb.jpg": encoded(image, "JPEG", quality=98),
        "progressive.JPEG": encoded(image, "JPEG", quality=98, progressive=True),
        "grey.jpg": encoded(image.convert("L"), "JPEG", quality=98),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG", quality=98),
        "turned.jpg": encoded(image, "JPEG", quality=98, exif=rotated_exif()),
        "rgb.png": encoded(image, "PNG"),
        "grey.PNG": encoded(image.convert("L"), "PNG"),
        "grey_alpha.png": encoded(image.convert("LA"), "PNG"),
        "alpha.png": encoded(alpha, "PNG"),
        "palette.png": encoded(image.convert("P"), "PNG"),
        "palette_clear.png": encoded(image.convert("P"), "PNG", transparency=0),
        "bits.png": encoded(image.convert("1"), "PNG"),
        "sixteen_grey.png": sixteen_bits("png", 1),
        "sixteen.png": sixteen_bits("png", 3),
        "turned.png": encoded(image, "PNG", exif=rotated_exif()),
        "rgb.webp": encoded(image, "WEBP", lossless=True),
        "alpha.webp": encoded(alpha, "WEBP", lossless=True, exact=True),
        "turned.webp": encoded(image, "WEBP", lossless=True, exif=rotated_exif()),
        "rgb.bmp": encoded(image, "BMP"),
        "rgb.tif": encoded(image, "TIFF"),
        "sixteen.tiff": sixteen_bits("tiff", 3),
        "rgb.gif": encoded(image, "GIF"),
        "rgb.ppm": encoded(image, "PPM"),
    }


def broken_files() -> dict[str, bytes]:
    """What each `BROKEN` holds."""
    jpeg, png = encoded(pixels(), "JPEG"), encoded(pixels(), "PNG")
    contents = (b"", b"this is no image, whatever it is called\n", jpeg[: len(jpeg) // 2], png[: len(png) - 40])
    return dict(zip(BROKEN, contents, strict=True))


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def write_plain(folder: Path, count: int, broken: tuple[int, ...] = ()) -> Path:
    """`000.png`, ... in a flat folder, each of its own colour (its number in red); the broken ones hold text."""
    for number in range(count):
        colour = (number % 256, number // 256, 128)
        data = b"no image" if number in broken else encoded(Pillow.new("RGB", (12, 10), colour), "PNG")
        write(folder, {f"{number:03}.png": data})
    return folder
