import pytest
from images import encoded, pixels
from PIL import Image as Pillow

from ssltyped.data.whole import PNG, check_pixels, check_png, whole_jpeg
from ssltyped.types import UnreadableImageError

JPEG = encoded(pixels(), "JPEG")
RESTARTS = encoded(pixels(), "JPEG", restart_marker_blocks=1)
PROGRESSIVE = encoded(pixels(), "JPEG", progressive=True)


@pytest.mark.parametrize("jpeg", [JPEG, RESTARTS, PROGRESSIVE])
@pytest.mark.parametrize("behind", [b"", b"\xff\xd9", b"\xff\xda\xff\xd8 video", JPEG, bytes(100)])
def test_a_picture_ends_at_its_end_marker(jpeg: bytes, behind: bytes) -> None:
    assert whole_jpeg(jpeg + behind) == jpeg


@pytest.mark.parametrize("jpeg", [JPEG, RESTARTS, PROGRESSIVE])
def test_cut_anywhere_it_is_refused(jpeg: bytes) -> None:
    for length in range(2, len(jpeg) - 1):
        with pytest.raises(UnreadableImageError, match="truncated JPEG"):
            whole_jpeg(jpeg[:length])


def test_another_picture_behind_a_cut_one_is_not_its_end() -> None:
    with pytest.raises(UnreadableImageError, match="marker D8 before the end marker"):
        whole_jpeg(JPEG[:-20].rstrip(b"\xff") + JPEG)


def test_fill_bytes_and_stray_bytes_between_segments() -> None:
    odd = JPEG[:2] + b"\xff\xff\xff" + JPEG[2:-2] + b"\xff\xff" + JPEG[-2:]
    assert whole_jpeg(odd + b"x") == odd


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded() -> None:
    frame = JPEG.index(b"\xff\xc0")
    claims = JPEG[: frame + 5] + b"\xff\xdc\xff\xdc" + JPEG[frame + 9 :]
    with pytest.raises(UnreadableImageError, match="65500 x 65500 pixels are more than 178,956,970"):
        whole_jpeg(claims)
    check_pixels(178_956_970, 1)


def test_png_cut_or_changed_anywhere() -> None:
    png = encoded(Pillow.new("RGB", (9, 7), (1, 2, 3)), "PNG")
    check_png(png)
    check_png(png + b"behind")
    for place in range(len(PNG), len(png)):
        with pytest.raises(UnreadableImageError, match="truncated PNG"):
            check_png(png[:place])
        with pytest.raises(UnreadableImageError, match=r"truncated PNG|damaged PNG: wrong checksum of"):
            check_png(png[:place] + bytes([png[place] ^ 1]) + png[place + 1 :])


def test_a_damaged_comment_is_no_damage() -> None:
    png = encoded(pixels(), "PNG")
    at = png.index(b"IDAT") - 4
    check_png(png[:at] + b"\0\0\0\1tEXtx\0\0\0\0" + png[at:])
