import io

import cv2
import numpy as np
import pytest
import torch
from images import broken_files, encoded, mixed_files, pixels
from PIL import Image as Pillow
from PIL import ImageOps

from ssltyped.data.decode import decode
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
            expected = np.array(ImageOps.exif_transpose(file).convert("RGB")).astype(int)
        assert np.abs(image.permute(1, 2, 0).numpy() - expected).max() <= 1


@pytest.mark.parametrize("name", ["sixteen_grey.png", "sixteen.png", "sixteen.tiff"])
def test_sixteen_bits_keep_the_upper_eight(name: str) -> None:
    expected = np.asarray(pixels())[..., :1] if "grey" in name else np.asarray(pixels())
    assert np.array_equal(decode(MIXED[name]).permute(1, 2, 0).numpy(), np.broadcast_to(expected, (30, 40, 3)))


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


def test_flipped_bytes_in_a_png_are_noticed() -> None:
    data = bytearray(MIXED["rgb.png"])
    data[len(data) // 2] ^= 0x55
    with pytest.raises(UnreadableImageError):
        decode(bytes(data))


@pytest.mark.parametrize("name", ["rgb.jpg", "turned.jpg", "cmyk.jpg", "sixteen_grey.png", "palette.png", "alpha.png"])
def test_pillow_stands_in_for_opencv(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decode(MIXED[name])

    def fails(*_: object) -> None:
        raise cv2.error("no decoder")

    monkeypatch.setattr(cv2, "imdecode", fails)
    assert (decode(MIXED[name]).int() - expected.int()).abs().max() <= 1
