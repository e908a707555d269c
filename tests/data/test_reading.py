from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from ssltyped.data.reading import DataError, ReadEval, ReadTrain, Reply, Request, stack
from ssltyped.data.sampler import Sampler, random_of
from ssltyped.transforms.geometry import RandomResizedCrop
from ssltyped.transforms.masks import MaskedViews
from ssltyped.transforms.opencv import to_image
from ssltyped.transforms.rotation import RotatedViews
from ssltyped.transforms.views import RepeatViews
from ssltyped.types import Batch, Image, Random, Source, Transform, UnreadableImageError, ViewMaker, Views

VIEWS = RepeatViews(transforms=[RandomResizedCrop(size=2)])


@dataclass
class Numbers(Source):
    """Image i is 4 x 4 pixels of value i; the broken ones cannot be read."""

    count: int
    broken: frozenset[int] = frozenset()
    reads: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Image:
        self.reads.append(index)
        if index in self.broken:
            raise UnreadableImageError("broken on purpose")
        return to_image(np.full((4, 4, 3), index % 256, dtype=np.uint8))

    def name(self, index: int) -> str:
        return f"number {index}"

    @property
    def labelled(self) -> bool:
        return True

    def label(self, index: int) -> int | list[int]:
        return index % 7


def read(source: Source, sampler: Sampler, step: int, micro: int = 0) -> Reply:
    request = Request(sampler.epoch(step), sampler.positions(step, micro))
    return ReadTrain(source, VIEWS, sampler)[request]


def test_a_batch() -> None:
    sampler = Sampler(50, 8, seed=3)
    reply = read(Numbers(50), sampler, 2)
    batch = reply.batch()
    assert [view.shape for view in batch.views] == [(8, 3, 2, 2)] * 2
    assert batch.views[1][:, 0, 0, 0].tolist() == batch.index.tolist()
    assert batch.index.tolist() == sampler.images(0, np.arange(16, 24)).tolist()
    assert batch.label is not None
    assert batch.label.tolist() == [i % 7 for i in batch.index.tolist()]
    assert reply.unreadable == ()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_global_batch_never_holds_an_image_twice(data: st.DataObject) -> None:
    n = data.draw(st.integers(4, 60))
    world, accumulation = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 2))
    size = data.draw(st.integers(1, max(1, n // (world * accumulation))))
    if size * world * accumulation > n:
        return
    broken = data.draw(st.frozensets(st.integers(0, n - 1), max_size=n - 1))
    step = data.draw(st.integers(0, 100))
    indices: list[int] = []
    repeated = 0
    failed: set[int] = set()
    for rank in range(world):
        sampler = Sampler(n, size, 0, rank, world, accumulation)
        for micro in range(accumulation):
            try:
                reply = read(Numbers(n, broken), sampler, step, micro)
            except DataError:
                assert n - len(broken) < size * world * accumulation
                return event("too few images, even if each is there twice")
            indices += reply.index.tolist()
            failed |= {record.index for record in reply.unreadable}
            repeated += sum(record.repeated for record in reply.unreadable)
            assert len(reply.index) == size
            assert reply.views[0][:, 0, 0, 0].tolist() == reply.index.tolist()
    places = size * world * accumulation
    assert len(set(indices)) == min(places, n - len(broken)), "no image twice while there are enough"
    assert max(map(indices.count, indices)) <= 2
    assert repeated == max(0, places - (n - len(broken)))
    assert not broken & set(indices)
    assert failed <= broken


def test_replacement_is_the_same_every_time_and_everything_that_failed_is_noted() -> None:
    sampler = Sampler(40, 8, seed=1)
    images = sampler.images(0, np.arange(40))
    broken = frozenset(int(images[p]) for p in (3, 11))  # positions 3 and 3 + 8
    first, second = (read(Numbers(40, broken), sampler, 0) for _ in range(2))
    assert first.index[3] == images[19]
    assert [record.index for record in first.unreadable] == [images[3], images[11]]
    assert first.unreadable[0].name == f"number {images[3]}"
    assert first.unreadable[0].reason == "broken on purpose"
    assert all(torch.equal(a, b) for a, b in zip(first.views, second.views, strict=True))
    whole = read(Numbers(40), sampler, 0)
    others = [slot for slot in range(8) if slot != 3]
    assert np.array_equal(first.index[others], whole.index[others])
    assert torch.equal(first.views[0][others], whole.views[0][others])


@pytest.mark.parametrize("seed", range(10))
def test_one_broken_image_of_less_than_two_global_batches(seed: int) -> None:
    """On two ranks: the image takes its place from the rest of the epoch, whatever rank it is on."""
    samplers = [Sampler(300, 100, seed, rank, world_size=2) for rank in range(2)]
    got = [i for sampler in samplers for i in read(Numbers(300, frozenset({7})), sampler, 0).index.tolist()]
    expected = [i for sampler in samplers for i in read(Numbers(300), sampler, 0).index.tolist()]
    assert len(set(got)) == 200
    assert {a for a, b in zip(got, expected, strict=True) if a != b} <= set(range(300)) - set(expected)
    assert [b for a, b in zip(got, expected, strict=True) if a != b] == [7] * (7 in expected)


def test_every_place_whose_own_images_are_broken_gets_another() -> None:
    sampler = Sampler(20, 8, seed=1)
    images = sampler.images(0, np.arange(20)).tolist()
    broken = frozenset(images[p] for p in (3, 11, 19, 5, 13))
    reply = read(Numbers(20, broken), sampler, 0)
    kept = [slot for slot in range(8) if slot not in (3, 5)]
    assert reply.index[kept].tolist() == [images[slot] for slot in kept]
    assert reply.index[[3, 5]].tolist() == [images[8], images[9]], "the first that no place takes, in the epoch's order"
    assert not any(record.repeated for record in reply.unreadable)


def test_with_too_few_images_one_is_repeated_and_said() -> None:
    sampler = Sampler(9, 8, seed=1)
    images = sampler.images(0, np.arange(9)).tolist()
    reply = read(Numbers(9, frozenset(images[p] for p in (2, 4))), sampler, 0)
    assert reply.index.tolist() == [images[p] for p in (0, 1, 8, 3, 0, 5, 6, 7)]
    (record,) = [record for record in reply.unreadable if record.repeated]
    assert record.index == images[4]
    assert record.reason.startswith("broken on purpose; no image is left for its place")


def test_nothing_to_read_is_an_error() -> None:
    with pytest.raises(DataError, match=r"no image for place 0 of the batch can be read: number .*broken on purpose"):
        read(Numbers(20, frozenset(range(20))), Sampler(20, 8, seed=1), 0)


def test_each_image_is_decoded_once_for_all_views() -> None:
    source = Numbers(20)
    reply = read(source, Sampler(20, 8, seed=0), 0)
    assert source.reads == reply.index.tolist()


def test_evaluation_leaves_out_what_it_cannot_read() -> None:
    reply = ReadEval(Numbers(9, frozenset({4, 8})), [])[Request(0, np.array([8, 3, 4, 1]))]
    assert reply.index.tolist() == [3, 1]
    assert [record.index for record in reply.unreadable] == [8, 4]
    assert reply.views[0].shape == (2, 3, 4, 4)


class Fails(Transform):
    def __call__(self, image: Image, random: Random) -> Image:
        raise KeyError("a bug of the user's")


class Grows(Transform):
    def __call__(self, image: Image, random: Random) -> Image:
        return torch.zeros(3, int(image[0, 0, 0]) + 1, 2, dtype=torch.uint8)


def test_a_failing_transform_is_not_a_broken_image() -> None:
    with pytest.raises(KeyError, match="a bug") as caught:
        ReadEval(Numbers(9), [Fails()])[Request(0, np.array([5]))]
    assert caught.value.__notes__ == ["while making the views of number 5, (3, 4, 4)"]


def test_views_of_different_sizes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"different sizes, \(3, 2, 2\) and \(3, 3, 2\)"):
        ReadEval(Numbers(9), [Grows()])[Request(0, np.array([1, 2]))]


def test_stack_is_a_plain_copy() -> None:
    images = [to_image(np.random.default_rng(i).integers(0, 256, (5, 6, 3), dtype=np.uint8)) for i in range(3)]
    batch = stack(images, 0)
    assert torch.equal(batch, torch.stack(images))
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_randomness_is_of_the_image_not_of_its_place() -> None:
    seen: dict[int, float] = {}

    class Noted(Transform):
        def __call__(self, image: Image, random: Random) -> Image:
            seen[int(image[0, 0, 0])] = random.random()
            return image

    def run(sampler: Sampler) -> dict[int, float]:
        seen.clear()
        views = RepeatViews(num_views=1, transforms=[Noted(), RandomResizedCrop(size=2)])
        for micro in range(sampler.accumulation):
            ReadTrain(Numbers(16), views, sampler)[Request(0, sampler.positions(0, micro))]
        return dict(seen)

    assert run(Sampler(16, 16, 9)) == run(Sampler(16, 4, 9, accumulation=4))
    assert run(Sampler(16, 16, 9)) != run(Sampler(16, 16, 8))


# --- what view makers decide ----------------------------------------------------------------------------------


def reply_of(maker: ViewMaker, source: Source, count: int = 8) -> Reply:
    return ReadTrain(source, maker, Sampler(len(source), count, 3))[Request(0, np.arange(count))]


def test_the_label_of_a_pretext_task_takes_the_place_of_the_images() -> None:
    maker = RotatedViews(transforms=[RandomResizedCrop(size=2)])
    first, second = reply_of(maker, Numbers(50)).batch(), reply_of(maker, Numbers(50)).batch()
    assert first.label is not None
    assert second.label is not None
    assert first.label.dtype == torch.int64
    assert set(first.label.tolist()) <= {0, 1, 2, 3}
    assert first.label.tolist() != [i % 7 for i in first.index.tolist()]
    assert torch.equal(first.label, second.label)


class Rows(Numbers):
    def label(self, index: int) -> list[int]:
        return [index % 3 - 1, -1, index % 2]


class Unlabelled(Numbers):
    @property
    def labelled(self) -> bool:
        return False

    def label(self, index: int) -> int:
        raise AssertionError("nobody may ask")


def test_rows_of_labels() -> None:
    batch = reply_of(VIEWS, Rows(50)).batch()
    assert batch.label is not None
    assert batch.label.tolist() == [[i % 3 - 1, -1, i % 2] for i in batch.index.tolist()]


def test_an_unlabelled_source_has_labels_of_a_task_only() -> None:
    assert reply_of(VIEWS, Unlabelled(50)).batch().label is None
    assert reply_of(RotatedViews(transforms=[RandomResizedCrop(size=2)]), Unlabelled(50)).batch().label is not None


def test_masks_of_a_batch() -> None:
    """Masks are stacked by view; row b is the mask of image b, whatever its place in the batch."""
    maker = MaskedViews(
        views=RepeatViews(num_views=3, transforms=[RandomResizedCrop(size=8)]), masked=[0, 2], patch_size=2
    )
    batch = reply_of(maker, Numbers(50)).batch()
    assert [mask is None for mask in batch.masks] == [False, True, False]
    for view in (0, 2):
        mask = batch.masks[view]
        assert mask is not None
        assert (mask.dtype, tuple(mask.shape)) == (torch.bool, (8, 4, 4))
        for image, index in enumerate(batch.index.tolist()):
            alone = maker(Numbers(50).read(index), partial(random_of, 3, 0, index)).masks[view]
            assert alone is not None
            assert np.array_equal(mask[image].numpy(), alone)
    assert reply_of(VIEWS, Numbers(50)).batch().masks == ()


def tensors_of(batch: Batch) -> list[torch.Tensor]:
    """All that a batch holds."""
    every = (*batch.views, batch.index, batch.label, *batch.masks)
    return [one for one in every if one is not None]


def test_all_of_a_batch_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Page-locked memory needs a GPU's driver: here copies stand for it, and what the batch holds is they."""
    copies: list[torch.Tensor] = []

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        copies.append(tensor.clone())
        return copies[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    views = RepeatViews(num_views=2, transforms=[RandomResizedCrop(size=8)])
    reply = reply_of(MaskedViews(views=views, masked=[0], patch_size=2), Numbers(50))
    plain, pinned = reply.batch(), reply.pin_memory().batch()
    mine, theirs = tensors_of(pinned), tensors_of(plain)
    assert [one.data_ptr() for one in mine] == [one.data_ptr() for one in copies]
    assert len(mine) == len(theirs) == 5
    assert all(torch.equal(*pair) for pair in zip(mine, theirs, strict=True))
    assert [mask is None for mask in pinned.masks] == [False, True]


class Sometimes(ViewMaker):
    """Masks every other image: a mistake."""

    crop_sizes = (4,)

    def __call__(self, image: Image, random: Callable[[int], Random]) -> Views:
        mask = np.zeros((2, 2), dtype=bool) if int(image[0, 0, 0]) % 2 else None
        return Views([image], masks=[mask])


def test_a_mask_that_was_not_promised_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Sometimes gave masks of (2 x 2|none); its mask_grids say no view"):
        reply_of(Sometimes(), Numbers(50))


# --- what plug-ins give ---------------------------------------------------------------------------------------


class Gives(Numbers):
    """Image 2 is something else."""

    other: object = None

    def read(self, index: int) -> Image:
        return cast(Image, self.other) if index == 2 else super().read(index)


OTHERS = [
    (torch.zeros(3, 4, 4), r"a torch\.float32 tensor \[3, 4, 4\].*255\)\.round\(\)"),
    (torch.zeros(3, 4, 4, dtype=torch.uint16), r"a torch\.uint16 tensor.* // 257"),
    (torch.zeros(3, 4, 4, dtype=torch.int64), r"a torch\.int64 tensor"),
    (torch.zeros(4, 4, dtype=torch.uint8), r"a torch\.uint8 tensor \[4, 4\]"),
    (torch.zeros(3, 0, 4, dtype=torch.uint8), r"a torch\.uint8 tensor \[3, 0, 4\]"),
    (np.zeros((4, 4, 3), dtype=np.uint8), r"a uint8 numpy array \[4, 4, 3\].*to_image"),
    (Pillow.new("RGB", (4, 4)), r"a PIL\.Image\.Image.*to_image"),
    (None, "None"),
]


@pytest.mark.parametrize("other, message", OTHERS)
def test_what_is_no_image_is_named(other: object, message: str) -> None:
    source = Gives(5)
    source.other = other
    with pytest.raises(ValueError, match=rf"^Gives, image 2 \(number 2\), gave {message}"):
        ReadEval(source, [])[Request(0, np.arange(5))]
    with pytest.raises(ValueError, match=rf"^Gives, image 2 \(number 2\), gave {message}"):
        ReadTrain(source, VIEWS, Sampler(5, 5, 0))[Request(0, np.arange(5))]


class Returns(Transform):
    """What it is told, instead of the image."""

    def __init__(self, *, value: object, size: int = 4) -> None:
        self.value, self.size = value, size

    def __call__(self, image: Image, random: Random) -> Image:
        return cast(Image, self.value)


@pytest.mark.parametrize("other, message", OTHERS)
def test_a_transform_that_gives_no_image_is_named(other: object, message: str) -> None:
    for maker in (RepeatViews(transforms=[Returns(value=other)]), RotatedViews(transforms=[Returns(value=other)])):
        with pytest.raises(ValueError, match=f"^Returns gave {message}") as caught:
            reply_of(maker, Numbers(50))
        assert "while making the views of number" in caught.value.__notes__[0]
    with pytest.raises(ValueError, match=f"^Returns gave {message}"):
        ReadEval(Numbers(9), [Returns(value=other)])[Request(0, np.arange(2))]


def test_views_of_another_size_than_promised_are_an_error() -> None:
    small = torch.zeros(3, 5, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="RepeatViews gave views of 5 x 4, 5 x 4; its crop_sizes say 4 x 4, 4 x 4"):
        reply_of(RepeatViews(transforms=[Returns(value=small)]), Numbers(50))


class Labels(Numbers):
    given: Sequence[object] = ()

    def label(self, index: int) -> int | list[int]:
        return cast(int, self.given[index])


@pytest.mark.parametrize(
    "given, message",
    [
        ((0, 1, 0.7), r"image 2 \(number 2\), gave the label 0\.7"),
        ((0, "cat", 1), r"image 1 \(number 1\), gave the label 'cat'"),
        ((None, 0, 1), r"image 0 \(number 0\), gave the label None"),
        (([1, 0], [1, 0.5], [0, 0]), r"image 1 \(number 1\), gave the label \[1, 0\.5\]: a label is a whole"),
        (([1, 0], [1, 0, 0], [0, 0]), r"image 1 \(number 1\), gave the label \[1, 0, 0\]: others are rows of 2"),
    ],
)
def test_what_is_no_label_is_named(given: Sequence[object], message: str) -> None:
    source = Labels(3)
    source.given = given
    with pytest.raises(ValueError, match=message):
        ReadEval(source, [])[Request(0, np.arange(3))]
