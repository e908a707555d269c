"""About 250 odd image files, made on the spot: each has right pixels, or one reason why it cannot be read."""

from __future__ import annotations

import base64
import dataclasses
import io
import struct
import zlib
from collections.abc import Iterator
from typing import Optional

import numpy as np
from images import encoded, pixels
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps
from PIL.TiffImagePlugin import ImageFileDirectory_v2

ARITHMETIC = """
c-s4a<NpH&0WUXCHwH#V1_nkTWcYuZ!I^=Lg_Vt!g^i7sjh&s1gG+#mi<6T}gpZ#`KwLyZLR>^lOiET&UP@Y7ModgWM?qOlT~kX_
QeM|USHnP6LsJ7}2qQZ?I~NC+Fc+7whLo6;2Fc+6Nd`d<1_1^EW=16jCP7AKLB{`Q7`PY&1Xvjb1X=&zV&GwB1WGUqGT1YmiwX6O
?G(MSV#;OXU8R+5#`auwLiwDmp4!&u^XAC>iM9F?y3vtOwc-Cw04HBCYy
"""
"""An arithmetic-coded JPEG of jpegtran's, deflated."""

WHITE = 255
BY_HUFFMAN = 3
"""Levels that two decoders of JPEG may differ by: their inverse cosine transforms round otherwise."""

LAB_AND_BACK = 24
"""Levels lost by 8 bits of CIE LAB, in the darkest and most saturated colours."""


@dataclasses.dataclass(frozen=True)
class Odd:
    """A file and what is to come of it.

    Args:
        data: what is in it
        rgb: its pixels [H, W, 3]; None: it cannot be read
        reason: a pattern of why not
        tolerance: levels that each pixel may be off
        either: it may also be unreadable, with any reason
    """

    data: bytes
    rgb: Optional[np.ndarray] = None
    reason: str = ""
    tolerance: float = 0
    either: bool = False


def by_pillow(data: bytes) -> np.ndarray:
    """The pixels by Pillow, on white; the mixing in floating point and by our own formula."""
    with Pillow.open(io.BytesIO(data)) as file:
        rgba = np.asarray(ImageOps.exif_transpose(file).convert("RGBA")).astype(float)
    share = rgba[..., 3:] / 255
    return rgba[..., :3] * share + WHITE * (1 - share)


def same(data: bytes, *, either: bool = False, tolerance: Optional[float] = None) -> Odd:
    """Read as Pillow reads it."""
    mixed = BY_HUFFMAN if data.startswith(b"\xff\xd8") else 1
    return Odd(data, by_pillow(data), tolerance=mixed if tolerance is None else tolerance, either=either)


def unreadable(data: bytes, reason: str) -> Odd:
    return Odd(data, reason=reason)


def files() -> dict[str, Odd]:
    """By name."""
    made = [sizes, modes, jpegs, tiffs, animations, levels, not_images, bombs, cuts, flips, oriented]
    return {name: odd for maker in made for name, odd in maker()}


KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "jpg": ("JPEG", {"quality": 95}),
    "png": ("PNG", {}),
    "webp": ("WEBP", {"lossless": True}),
    "gif": ("GIF", {}),
    "bmp": ("BMP", {}),
    "tif": ("TIFF", {}),
    "ppm": ("PPM", {}),
    "jp2": ("JPEG2000", {}),
    "avif": ("AVIF", {}),
}


def sizes() -> Iterator[tuple[str, Odd]]:
    for suffix, (kind, options) in KINDS.items():
        for width, height in ((1, 1), (1, 300), (300, 1), (7, 9)):
            yield f"{width}x{height}.{suffix}", same(encoded(pixels(height, width), kind, **options))


def modes() -> Iterator[tuple[str, Odd]]:
    image = pixels()
    alpha = image.convert("RGBA")
    alpha.putalpha(image.convert("L"))
    for mode in ("1", "L", "P"):
        for suffix in ("png", "gif", "bmp", "tif"):
            yield f"{mode}.{suffix}", same(encoded(image.convert(mode), _kind(suffix)))
    for mode in ("LA", "RGBA"):
        for suffix in ("png", "webp", "tif", "avif", "jp2"):
            yield f"{mode}.{suffix}", same(encoded(alpha.convert(mode), _kind(suffix)))
    for mode, suffix in (("CMYK", "tif"), ("YCbCr", "tif"), ("RGBX", "tif")):
        yield f"{mode}.{suffix}", same(encoded(image.convert(mode), _kind(suffix)))
    yield "premultiplied.tif", premultiplied(np.asarray(alpha).astype(float))
    yield "lossy_alpha.webp", same(encoded(alpha, "WEBP", quality=60))
    yield "clear_palette.png", same(encoded(image.convert("P"), "PNG", transparency=bytes(range(256))))
    yield "clear_entry.gif", same(encoded(image.convert("P"), "GIF", transparency=3))
    yield "clear_grey.png", same(encoded(image.convert("L"), "PNG", transparency=100))
    yield "clear_colour.png", same(encoded(image, "PNG", transparency=image.getpixel((0, 0))))
    yield "interlaced.png", Odd(interlaced(np.asarray(image)), np.asarray(image))
    yield "LAB.tif", Odd(encoded(_lab(image), "TIFF"), np.asarray(image), tolerance=LAB_AND_BACK)


def premultiplied(rgba: np.ndarray) -> Odd:
    """A TIFF whose colours are multiplied with their share already, as its tag 338 says."""
    share = rgba[..., 3:] / 255
    colours = (rgba[..., :3] * share).round()
    stored = Pillow.fromarray(np.concatenate([colours, rgba[..., 3:]], axis=2).astype(np.uint8))
    tag = struct.pack("<HHI", 338, 3, 1)
    data = encoded(stored, "TIFF").replace(tag + b"\2\0", tag + b"\1\0")
    assert data != encoded(stored, "TIFF")
    return Odd(data, colours + WHITE * (1 - share), tolerance=2)


def _lab(image: Pillow.Image) -> Pillow.Image:
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    made = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    assert made is not None
    return made


def _kind(suffix: str) -> str:
    return KINDS[suffix][0]


def interlaced(rgb: np.ndarray) -> bytes:
    """A PNG in seven passes (Adam7), which Pillow does not write."""
    height, width, _ = rgb.shape
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [rgb[top::down, left::right] for top, left, down, right in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return png_of((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    whole = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def jpegs() -> Iterator[tuple[str, Odd]]:
    image, noise = pixels(), Pillow.fromarray(np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    plain = encoded(image, "JPEG")
    variants: dict[str, dict[str, object]] = {
        "progressive": {"progressive": True},
        "restarts": {"restart_marker_blocks": 1},
        "restarts_progressive": {"restart_marker_rows": 1, "progressive": True},
        "full_colour": {"subsampling": 0},
        "half_colour": {"subsampling": 1},
        "quarter_colour": {"subsampling": 2},
        "rgb": {"keep_rgb": True},
        "worst": {"quality": 1},
        "best": {"quality": 100},
        "profile": {"icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()},
        "comment": {"comment": b"\xff\xd9 not the end"},
    }
    for name, options in variants.items():
        yield f"{name}.jpg", same(encoded(noise, "JPEG", **options))
    yield "grey.jpg", same(encoded(image.convert("L"), "JPEG"))
    yield "cmyk.jpg", same(encoded(image.convert("CMYK"), "JPEG"))
    yield "several_pictures.mpo", same(encoded(image, "MPO", save_all=True, append_images=[noise]))
    yield "preview.jpg", same(_with_preview(image, encoded(noise, "JPEG")))
    yield "arithmetic.jpg", same(zlib.decompress(base64.b85decode(ARITHMETIC.replace("\n", ""))))
    random = np.random.default_rng(2)
    for name, behind in {
        "video": random.bytes(50_000),
        "picture": plain,
        "zeros": bytes(999),
        "end": b"\xff\xd9",
    }.items():
        yield f"{name}_behind.jpg", Odd(plain + behind, by_pillow(plain), tolerance=BY_HUFFMAN)
    yield "odd_exif.jpg", same(plain[:2] + b"\xff\xe1\0\x10Exif\0\0broken!!" + plain[2:])
    yield "no_end.jpg", unreadable(plain[:-2], "truncated JPEG")
    yield (
        "cut_and_video.jpg",
        unreadable(plain[:-30].rstrip(b"\xff") + b"\0\0\0\x18ftypmp42" + b"\xff\xc1" * 99, "JPEG"),
    )
    yield "start_only.jpg", unreadable(plain[:2], "truncated JPEG")
    yield "no_scan.jpg", unreadable(plain[:2] + b"\xff\xd9", ".")
    yield "twelve_bits.jpg", unreadable(plain.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), ".")
    yield "no_height.jpg", unreadable(_with_sides(plain, 0, 40), ".")


def _with_preview(image: Pillow.Image, preview: bytes) -> bytes:
    block = b"Exif\0\0" + preview
    jpeg = encoded(image, "JPEG")
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def _with_sides(jpeg: bytes, height: int, width: int) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + struct.pack(">HH", height, width) + jpeg[at + 4 :]


def oriented() -> Iterator[tuple[str, Odd]]:
    for orientation in range(10):
        exif = Pillow.Exif()
        exif[0x0112] = orientation
        for suffix in ("jpg", "png", "webp", "tif"):
            kind, options = KINDS[suffix]
            yield f"turned_{orientation}.{suffix}", same(encoded(pixels(), kind, exif=exif, **options))


def tiffs() -> Iterator[tuple[str, Odd]]:
    image = pixels()
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield f"{compression}.tif", same(encoded(image, "TIFF", compression=compression))
    yield "group4.tif", same(encoded(image.convert("1"), "TIFF", compression="group4"))
    yield "pages.tif", same(encoded(image, "TIFF", save_all=True, append_images=[pixels(9, 9, seed=1)]))
    tags = ImageFileDirectory_v2()
    tags[262] = 0
    yield "white_is_zero.tif", same(encoded(image.convert("L"), "TIFF", tiffinfo=tags))


def animations() -> Iterator[tuple[str, Odd]]:
    frames = [pixels(seed=seed) for seed in range(3)]
    for suffix, kind in (("gif", "GIF"), ("png", "PNG"), ("webp", "WEBP"), ("avif", "AVIF")):
        options = {"lossless": True} if kind == "WEBP" else {}
        yield f"moving.{suffix}", same(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))


def levels() -> Iterator[tuple[str, Odd]]:
    """Of more than 8 bits; the upper 8 are what is to come of 16."""
    deep = np.random.default_rng(3).integers(0, 2**16, (5, 6), dtype=np.uint16)
    upper = np.repeat((deep >> 8)[..., None], 3, axis=2)
    grey = Pillow.fromarray(deep)
    for suffix in ("png", "tif", "jp2"):
        yield f"sixteen.{suffix}", Odd(encoded(grey, _kind(suffix)), upper, tolerance=1)
    yield "sixteen.pgm", Odd(b"P5 6 5 65535\n" + deep.astype(">u2").tobytes(), upper)
    colour = np.random.default_rng(4).integers(0, 2**16, (5, 6, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colour)
    header = struct.pack(">IIBBBBB", 6, 5, 16, 2, 0, 0, 0)
    yield (
        "sixteen_colour.png",
        Odd(png_of((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")), colour >> 8),
    )
    ten = np.array([[0, 300, 1023]])
    scaled = np.repeat((ten * 65535 / 1023 // 256)[..., None], 3, axis=2)
    yield "ten.pgm", Odd(b"P5 3 1 1023\n" + ten.astype(">u2").tobytes(), scaled, tolerance=1)
    yield "ascii.ppm", Odd(b"P3\n# by hand\n2 1 255\n1 2 3  4 5 6\n", np.array([[[1, 2, 3], [4, 5, 6]]]))
    for name, dtype in (("float32", np.float32), ("int32", np.int32)):
        yield (
            f"{name}.tif",
            unreadable(encoded(Pillow.fromarray(deep.astype(dtype)), "TIFF"), "its pixels are .* save it"),
        )
    yield "floats.pfm.png", unreadable(b"PF\n1 1\n-1.0\n" + np.ones(3, "<f4").tobytes(), ".")


def not_images() -> Iterator[tuple[str, Odd]]:
    image = pixels()
    contents = {
        "empty": b"",
        "zeros": bytes(5000),
        "text": b"this is no image\n",
        "page": b"<!DOCTYPE html><title>404</title>",
        "drawing": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
        "paper": b"%PDF-1.4\n",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "icon": encoded(image.resize((16, 16)), "ICO"),
    }
    for name, data in contents.items():
        yield f"{name}.jpg", unreadable(data, "empty file" if name == "empty" else "cannot identify|cannot find")
    for suffix, real in (("jpg", "png"), ("png", "jpg"), ("gif", "webp"), ("tif", "gif"), ("bmp", "tif")):
        kind, options = KINDS[real]
        yield f"is_a_{real}.{suffix}", same(encoded(image, kind, **options))


def bombs() -> Iterator[tuple[str, Odd]]:
    most = "179 million|178,956,970|exceeds limit"
    for side in (20_000, 65_500):
        yield f"{side}.jpg", unreadable(_with_sides(encoded(pixels(), "JPEG"), side, side), most)
        header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        rows = zlib.compress(bytes(10_000))
        yield f"{side}.png", unreadable(png_of((b"IHDR", header), (b"IDAT", rows), (b"IEND", b"")), most)
        yield f"{side}.pgm", unreadable(b"P5 %d %d 255\n" % (side, side), most)
    wide = struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    yield (
        "says_more.png",
        unreadable(png_of((b"IHDR", wide), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")), "truncated"),
    )


def cuts() -> Iterator[tuple[str, Odd]]:
    """A file that was not written to its end: what is missing may not be filled."""
    for suffix, (kind, options) in KINDS.items():
        data = encoded(pixels(60, 80), kind, **options)
        whole = by_pillow(data)
        for tenth in range(10):
            cut = data[: len(data) * tenth // 10 + 3]
            yield f"cut_{tenth}.{suffix}", Odd(cut, whole, tolerance=BY_HUFFMAN, either=True)


def flips() -> Iterator[tuple[str, Odd]]:
    """A damaged file of a kind that has checksums."""
    data = encoded(pixels(60, 80), "PNG")
    for place in range(9, len(data), len(data) // 12):
        damaged = data[:place] + bytes([data[place] ^ 0x41]) + data[place + 1 :]
        yield f"damaged_{place}.png", Odd(damaged, by_pillow(data), either=True)
