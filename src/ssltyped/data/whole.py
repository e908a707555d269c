"""Whether the bytes of a file hold the whole picture: decoders fill what is missing with grey."""

import re
import zlib

from PIL import Image as Pillow

from ssltyped.types import UnreadableImageError

JPEG, PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
"""Of a segment: what stands for the byte FF, restarts and fill bytes are none."""

_END_OF_IMAGE, _STANDS_ALONE = 0xD9, 0x01
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEGMENTS = frozenset({*range(0xC0, 0xD0), *range(0xDA, 0xF0), 0xFE})


def check_pixels(width: int, height: int) -> None:
    """Raises `UnreadableImageError` for more pixels than Pillow opens (179 million): a small file may claim them."""
    most = 2 * Pillow.MAX_IMAGE_PIXELS if Pillow.MAX_IMAGE_PIXELS else width * height
    if width * height > most:
        raise UnreadableImageError(f"{width} x {height} pixels are more than {most:,}, which one image may have")


def whole_jpeg(data: bytes) -> bytes:
    """The picture of a JPEG file, up to its end marker; behind it may lie anything, such as a video.

    Raises `UnreadableImageError` for one that ends, or holds what no JPEG holds, before its end marker.
    """
    position, framed = len(JPEG), False
    while match := _MARKER.search(data, position):
        kind, position = match[1][0], match.end()
        if kind == _END_OF_IMAGE:
            return data[:position]
        if kind == _STANDS_ALONE:
            continue
        if kind not in _SEGMENTS or (kind in _FRAMES and framed):
            raise UnreadableImageError(f"damaged or truncated JPEG: marker {kind:02X} before the end marker")
        if kind in _FRAMES:
            framed = True
            check_pixels(*(int.from_bytes(data[position + at : position + at + 2], "big") for at in (5, 3)))
        position += int.from_bytes(data[position : position + 2], "big")
    raise UnreadableImageError("truncated JPEG: it has no end marker")


def check_png(data: bytes) -> None:
    """Raises `UnreadableImageError` for a PNG that ends before its last chunk, or one of whose chunks is damaged."""
    position, kind = len(PNG), b""
    while kind != b"IEND":
        kind = data[position + 4 : position + 8]
        after = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if after + 4 > len(data):
            raise UnreadableImageError("truncated PNG: it has no end chunk")
        needed = kind[:1].isupper()
        if needed and zlib.crc32(data[position + 4 : after]) != int.from_bytes(data[after : after + 4], "big"):
            raise UnreadableImageError(f"damaged PNG: wrong checksum of {kind.decode('latin-1')}")
        position = after + 4
