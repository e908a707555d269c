import contextlib
import io
import zlib

import cv2
import numpy as np
import pytest
import torch
from images import broken_files, encoded, mixed_files, pixels
from PIL import Image as Pillow
from PIL import ImageOps

from ssltyped.data.decode import Colour, decode
from ssltyped.types import UnreadableImageError

MIXED, BROKEN_FILES = mixed_files(), broken_files()


@pytest.mark.parametrize("name", MIXED)
def test_every_kind_is_rgb_as_pillow_reads_it(name: str) -> None:
    image = decode(MIXED[name])
    assert image.dtype == torch.uint8
    assert image.shape == ((3, 40, 30) if name.startswith("turned") else (3, 30, 40))
    assert image.permute(1, 2, 0).is_contiguous()
    if not name.startswith("sixteen"):
        with Pillow.open(io.BytesIO(MIXED[name])) as file:
            rgba = np.array(ImageOps.exif_transpose(file).convert("RGBA")).astype(float)
        share = rgba[..., 3:] / 255
        expected = rgba[..., :3] * share + 255 * (1 - share)
        assert np.abs(image.permute(1, 2, 0).numpy() - expected).max() <= 1


@pytest.mark.parametrize("name", ["sixteen_grey.png", "sixteen.png", "sixteen.tiff"])
def test_sixteen_bits_keep_the_upper_eight(name: str) -> None:
    expected = np.asarray(pixels())[..., :1] if "grey" in name else np.asarray(pixels())
    assert np.array_equal(decode(MIXED[name]).permute(1, 2, 0).numpy(), np.broadcast_to(expected, (30, 40, 3)))


RED_HALF = np.array([[[200, 100, 0, 0], [200, 100, 0, 51], [200, 100, 0, 255]]], dtype=np.uint8)


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (10, 20, 30)])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_what_is_transparent_is_laid_on_the_background(kind: str, background: Colour) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image = decode(encoded(Pillow.fromarray(RED_HALF), kind, **options), background)
    expected = [
        background,
        tuple(0.2 * c + 0.8 * b for c, b in zip((200, 100, 0), background, strict=True)),
        (200, 100, 0),
    ]
    assert (image[:, 0].T - torch.tensor(expected)).abs().max() <= 0.51


def test_every_way_to_be_transparent() -> None:
    """Of two pixels the first is transparent: a palette's entry, one grey level, one colour, one 16-bit level."""
    palette = Pillow.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([9, 9, 9, 50, 60, 70])
    two = np.array([[[9, 9, 9], [50, 60, 70]]], dtype=np.uint8)
    files = {
        "palette": (encoded(palette, "PNG", transparency=0), (50, 60, 70)),
        "gif": (encoded(palette, "GIF", transparency=0), (50, 60, 70)),
        "grey": (encoded(Pillow.fromarray(two[..., 0]), "PNG", transparency=9), (50, 50, 50)),
        "colour": (encoded(Pillow.fromarray(two), "PNG", transparency=(9, 9, 9)), (50, 60, 70)),
        "grey alpha": (
            encoded(Pillow.fromarray(np.array([[[9, 0], [50, 255]]], dtype=np.uint8)), "PNG"),
            (50,) * 3,
        ),
        "sixteen": (with_transparent_level(np.array([[9, 50 * 257]], dtype=np.uint16), 9), (50,) * 3),
    }
    for name, (data, second) in files.items():
        assert decode(data, (1, 2, 3))[:, 0].T.tolist() == [[1, 2, 3], list(second)], name


def with_transparent_level(levels: np.ndarray, level: int) -> bytes:
    """A 16-bit PNG with a tRNS chunk, which Pillow does not write."""
    png = encoded(Pillow.fromarray(levels), "PNG")
    body = b"tRNS" + level.to_bytes(2, "big")
    chunk = (2).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    at = png.index(b"IDAT") - 4
    return png[:at] + chunk + png[at:]


def deep_tiff(dtype: type[np.generic], channels: int) -> bytes:
    ok, data = cv2.imencode(".tiff", (np.random.default_rng(0).random((6, 7, channels)) * 9).astype(dtype))
    assert ok
    return data.tobytes()


FLOATS, INTEGERS, OTHER = (
    "its pixels are floating-point numbers",
    "its pixels are 32-bit numbers",
    "a kind of TIFF that",
)


@pytest.mark.parametrize(
    "data, message",
    [
        (encoded(Pillow.fromarray(np.zeros((4, 4), dtype=np.float32)), "TIFF"), FLOATS),
        (encoded(Pillow.fromarray(np.zeros((4, 4), dtype=np.int32)), "TIFF"), INTEGERS),
        (deep_tiff(np.float32, 1), FLOATS),
        (deep_tiff(np.float32, 3), OTHER),
        (deep_tiff(np.float64, 1), OTHER),
        (b"Pf\n2 1\n-1.0\n" + np.array([0.5, 1], dtype="<f4").tobytes(), FLOATS),
    ],
)
def test_levels_without_a_black_and_a_white_are_unreadable(data: bytes, message: str) -> None:
    with pytest.raises(UnreadableImageError, match=message):
        decode(data)


def test_levels_of_ten_bits_are_scaled() -> None:
    """The header of a PGM says which level is white."""
    levels = np.array([0, 512, 1023], dtype=">u2")
    assert decode(b"P5\n3 1\n1023\n" + levels.tobytes())[0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_broken_files_say_why(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnreadableImageError) as caught:
        decode(BROKEN_FILES[name])
    reason = str(caught.value)
    assert ("truncated" if "truncated" in name else "empty" if "empty" in name else "cannot identify") in reason
    assert "0x" not in reason
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9, 0.97, 0.999])
@pytest.mark.parametrize("name", [name for name in MIXED if not name.endswith((".gif", ".ppm", ".bmp"))])
def test_a_cut_file_is_never_half_an_image(name: str, share: float) -> None:
    data = MIXED[name][: int(len(MIXED[name]) * share)]
    try:
        image = decode(data)
    except UnreadableImageError:
        return
    assert torch.equal(image, decode(MIXED[name])), "only what is beyond the pixels may be missing"


def test_a_preview_does_not_hide_that_the_image_is_cut() -> None:
    """The preview in the EXIF block is a whole JPEG of its own, with its end marker."""
    preview, image = encoded(pixels(6, 8), "JPEG"), encoded(pixels(), "JPEG")
    block = b"Exif\x00\x00" + preview
    with_preview = image[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + image[2:]
    assert decode(with_preview).shape == (3, 30, 40)
    with pytest.raises(UnreadableImageError, match="truncated"):
        decode(with_preview[:-40])


def test_zeros_in_place_of_the_end_of_a_jpeg() -> None:
    data = MIXED["rgb.jpg"]
    with pytest.raises(UnreadableImageError, match="truncated"):
        decode(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))


def test_garbage_after_the_end_is_harmless() -> None:
    assert torch.equal(decode(MIXED["rgb.jpg"] + b"junk" * 50), decode(MIXED["rgb.jpg"]))


def test_flipped_bytes_in_a_png_are_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    """Each of them, and no library says it on the terminal."""
    whole = decode(MIXED["rgb.png"])
    for place in range(0, len(MIXED["rgb.png"]), 7):
        data = bytearray(MIXED["rgb.png"])
        data[place] ^= 0x55
        with contextlib.suppress(UnreadableImageError):
            assert torch.equal(decode(bytes(data)), whole)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["rgb.jpg", "turned.jpg", "cmyk.jpg", "sixteen_grey.png", "palette.png", "alpha.png"])
def test_pillow_stands_in_for_opencv(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decode(MIXED[name])

    def fails(*_: object) -> None:
        raise cv2.error("no decoder")

    monkeypatch.setattr(cv2, "imdecode", fails)
    assert (decode(MIXED[name]).int() - expected.int()).abs().max() <= 1
