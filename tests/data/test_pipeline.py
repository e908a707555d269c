import itertools
import math
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from facts import FACTS
from images import BROKEN, broken_files, encoded, mixed_files, pixels, write, write_plain
from jaxtyping import Int64
from torchvision.transforms.v2 import functional

from ssltyped.data.digits import Digits, DigitSplit
from ssltyped.data.pipeline import Data, DataConf, TrainPipeline, iterate, spread
from ssltyped.data.reading import DataError, Unreadable
from ssltyped.data.sampler import Sampler
from ssltyped.data.sources import FlatFolder, ImageFolder
from ssltyped.data.splits import EvalSplit, TrainSplit
from ssltyped.transforms.blur import GaussianBlur
from ssltyped.transforms.colour import ColorDistortion
from ssltyped.transforms.geometry import CenterCrop, HorizontalFlip, RandomResizedCrop, Resize
from ssltyped.transforms.views import RepeatViews
from ssltyped.types import Batch, Image, Source, Subset, Transform, UnreadableImageError

torch.set_num_threads(1)

SIMCLR: list[Transform] = [
    RandomResizedCrop(size=16),
    HorizontalFlip(),
    ColorDistortion(strength=0.5),
    GaussianBlur(),
]


def split(source: Source, batch_size: int = 8, num_workers: int = 0, max_unreadable: float = 0.1) -> TrainSplit:
    return TrainSplit(
        views=RepeatViews(transforms=SIMCLR),
        batch_size=batch_size,
        source=source,
        num_workers=num_workers,
        max_unreadable=max_unreadable,
    )


def take(pipeline: TrainPipeline, count: int) -> list[Batch]:
    with pipeline:
        return list(itertools.islice(pipeline, count))


def assert_same(first: Sequence[Batch], second: Sequence[Batch]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.index, b.index)
        assert all(torch.equal(x, y) for x, y in zip(a.views, b.views, strict=True))
        assert (a.label is None and b.label is None) or (
            a.label is not None and b.label is not None and torch.equal(a.label, b.label)
        )


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Readable and broken files of every kind: 23 and 4."""
    return write(tmp_path_factory.mktemp("mixed"), {**mixed_files(), **broken_files()})


def test_a_batch() -> None:
    batch = take(TrainPipeline(split=split(Digits()), seed=0), 1)[0]
    assert [(view.shape, view.dtype) for view in batch.views] == [((8, 3, 16, 16), torch.uint8)] * 2
    assert batch.label is not None
    assert batch.label.tolist() == [Digits().label(i) for i in batch.index.tolist()]
    assert not torch.equal(*batch.views)


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_the_same_bits_for_any_number_of_workers(mixed: Path, num_workers: int) -> None:
    """Over more than one epoch, with broken files."""
    source = FlatFolder(path=mixed)
    reference = take(TrainPipeline(split=split(source, 4, max_unreadable=1.0), seed=3), 15)
    got = take(TrainPipeline(split=split(source, 4, num_workers, max_unreadable=1.0), seed=3), 15)
    assert_same(got, reference)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_same_bits_from_any_step_on(mixed: Path, num_workers: int) -> None:
    source = FlatFolder(path=mixed)
    reference = take(TrainPipeline(split=split(source, 4, max_unreadable=1.0), seed=3, accumulation=2), 16)
    for step in (1, 3, 5):
        asked = split(source, 4, num_workers, max_unreadable=1.0)
        got = take(TrainPipeline(split=asked, seed=3, accumulation=2, start_step=step), 4)
        assert_same(got, reference[2 * step : 2 * step + 4])


def test_closing_in_the_middle_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the memory of a batch is just being fetched from a worker."""
    noise: list[object] = []
    monkeypatch.setattr("threading.excepthook", noise.append)
    for count in range(12):
        take(TrainPipeline(split=split(Digits(), 4, num_workers=3), seed=0), 1 + count % 3)
    assert noise == []


def test_a_restart_far_into_training_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order is asked for one batch, and read are its images, however many came before."""
    orders, reads = list[int](), list[int]()
    images, read = Sampler.images, Digits.read

    def counted(sampler: Sampler, epoch: int, positions: Int64[np.ndarray, "P"]) -> Int64[np.ndarray, "P"]:
        orders.append(len(positions))
        return images(sampler, epoch, positions)

    def counted_read(source: Digits, index: int) -> Image:
        reads.append(index)
        return read(source, index)

    monkeypatch.setattr(Sampler, "images", counted)
    monkeypatch.setattr(Digits, "read", counted_read)
    (batch,) = take(TrainPipeline(split=split(Digits()), seed=0, start_step=10**9), 1)
    assert orders == [len(batch.index)]
    assert reads == batch.index.tolist()


def test_two_ranks_read_what_one_reads() -> None:
    one = take(TrainPipeline(split=split(Digits(), 16), seed=1), 3)
    ranks = [take(TrainPipeline(split=split(Digits(), 8), seed=1, rank=r, world_size=2), 3) for r in range(2)]
    for whole, first, second in zip(one, *ranks, strict=True):
        assert torch.equal(whole.index, torch.cat([first.index, second.index]))
        for view in range(2):
            assert torch.equal(whole.views[view], torch.cat([first.views[view], second.views[view]]))


def test_epochs_and_seeds_differ() -> None:
    digits = Digits(split=DigitSplit.TEST)
    batches = take(TrainPipeline(split=split(digits, 397), seed=0), 2)
    other = take(TrainPipeline(split=split(digits, 397), seed=1), 1)[0]
    for later in (batches[1], other):
        assert not torch.equal(later.index, batches[0].index)
        again = later.index.argsort()[batches[0].index.argsort().argsort()]
        assert torch.equal(later.index[again], batches[0].index)
        assert not torch.equal(later.views[0][again], batches[0].views[0])


def test_a_few_hundred_jpegs_with_three_percent_broken_train_and_are_reported(tmp_path: Path) -> None:
    image = pixels(60, 80)
    jpegs = {
        f"{i:03}.jpg": encoded(image.convert(("RGB", "L", "CMYK")[i % 3]), "JPEG", progressive=i % 2 == 0)
        for i in range(291)
    }
    broken = {
        f"broken/{i}-{Path(name).name}": data
        for i in (0, 1, 2)
        for name, data in broken_files().items()
        if i < 2 or "empty" in name
    }
    write(tmp_path, {**jpegs, **broken})
    records: list[Unreadable] = []
    pipeline = TrainPipeline(split=split(FlatFolder(path=tmp_path), 16, 2), seed=0, on_unreadable=records.extend)
    batches = take(pipeline, 3 * 18)
    assert {record.name for record in records} == {str(tmp_path / name) for name in broken}
    assert all(len(batch.index) == 16 == len(set(batch.index.tolist())) for batch in batches)
    assert pipeline.num_unreadable == len(records)
    assert pipeline.num_reads == 3 * 18 * 16 + len(records)
    names = [FlatFolder(path=tmp_path).name(i) for i in range(300)]
    assert all("broken" not in names[i] for batch in batches for i in batch.index.tolist())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_many_unreadable_images_end_training(tmp_path: Path, num_workers: int) -> None:
    source = FlatFolder(path=write_plain(tmp_path, 120, tuple(range(0, 120, 6))))
    pipeline = TrainPipeline(split=split(source, 10, num_workers), seed=0)
    with pytest.raises(DataError, match=r"\(1\d\.\d%\) failed, more than max_unreadable=10\.0%") as caught:
        list(itertools.islice(pipeline, 30))
    assert str(caught.value).count("cannot identify image file") == 10
    assert f"{tmp_path}/" in str(caught.value)
    assert 200 <= pipeline.num_reads < 250, "the share is judged from 200 reads on"
    assert take(pipeline, 1) == []
    tolerant = split(source, 10, num_workers, max_unreadable=0.3)
    assert len(take(TrainPipeline(split=tolerant, seed=0), 30)) == 30


def test_less_than_a_batch_is_an_error() -> None:
    with pytest.raises(ValueError, match="397 images are fewer than a global batch of 400"):
        TrainPipeline(split=split(Digits(split=DigitSplit.TEST), 200), seed=0, world_size=2)


def test_everything_a_worker_needs_can_be_pickled(mixed: Path) -> None:
    """Where processes are not forked, this is how they get it."""
    asked = split(FlatFolder(path=mixed))
    again: TrainSplit = pickle.loads(pickle.dumps(asked))
    assert_same(take(TrainPipeline(split=again, seed=0), 1), take(TrainPipeline(split=asked, seed=0), 1))


def eval_split(source: Source, num_workers: int = 0, batch_size: int = 10) -> EvalSplit:
    crops: list[Transform] = [Resize(size=20), CenterCrop(size=16)]
    return EvalSplit(transforms=crops, source=source, batch_size=batch_size, num_workers=num_workers)


@pytest.mark.parametrize("num_workers, world_size", [(0, 1), (0, 3), (2, 2)])
def test_evaluation_reads_everything_once_in_order(num_workers: int, world_size: int) -> None:
    source = Digits(split=DigitSplit.TEST)
    shares = [list(iterate(eval_split(source, num_workers), rank=r, world_size=world_size)) for r in range(world_size)]
    for rank, batches in enumerate(shares):
        assert torch.cat([batch.index for batch in batches]).tolist() == list(range(rank, 397, world_size))
        assert {len(batch.index) for batch in batches[:-1]} == {10}
        assert len(batches) == math.ceil(len(range(rank, 397, world_size)) / 10)
        for batch in batches:
            assert batch.label is not None
            assert batch.label.tolist() == [source.label(i) for i in batch.index.tolist()]
    unused = np.random.default_rng(0)
    expected = CenterCrop(size=16)(Resize(size=20)(source.read(0), unused), unused)
    assert torch.equal(shares[0][0].views[0][0], expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_leaves_out_and_reports_what_is_broken(mixed: Path, num_workers: int) -> None:
    records: list[Unreadable] = []
    batches = list(iterate(eval_split(FlatFolder(path=mixed), num_workers, 2), on_unreadable=records.extend))
    assert sum(len(batch.index) for batch in batches) == len(mixed_files())
    assert sorted(record.name for record in records) == sorted(str(mixed / name) for name in BROKEN)
    assert all(len(batch.index) for batch in batches)


def test_many_batches_kept_hold_no_files_open() -> None:
    """Every tensor that comes from a worker holds a file open; only views are sent as such."""
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    kept = [(batch.index, batch.label) for batch in iterate(eval_split(Digits(), 2, 2))]
    assert len(kept) == 700
    assert len(list(Path("/proc/self/fd").iterdir())) - open_before < 50


def data(train: Source, val: Source | None = None) -> Data:
    return Data(train=split(train), val=None if val is None else eval_split(val))


def test_normalize_is_that_of_torchvision() -> None:
    batch = take(TrainPipeline(split=split(Digits()), seed=0), 1)[0]
    normalized = data(Digits()).normalize(batch)
    for view, raw in zip(normalized.views, batch.views, strict=True):
        expected = functional.normalize(raw.float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        assert view.dtype == torch.float32
        assert view.is_contiguous()
        assert torch.equal(view, expected)
        assert raw.dtype == torch.uint8
    assert normalized.index is batch.index


def test_normalize_takes_the_number_of_channels_from_mean() -> None:
    batch = Batch(views=(torch.full((2, 5, 4, 4), 255, dtype=torch.uint8),), index=torch.arange(2))
    five = Data(train=split(Digits()), mean=(0.5,) * 5, std=(0.25,) * 5)
    assert torch.equal(five.normalize(batch).views[0], torch.full((2, 5, 4, 4), 2.0))
    with pytest.raises(ValueError, match=r"images have 5 channels, data.mean has 3 values"):
        data(Digits()).normalize(batch)


def test_problems_of_data() -> None:
    wrong = DataConf(train=split(Digits()), mean=(0.5, 0.5), std=(0.5, 0.0, 0.5))
    assert [problem.path for problem in Data.problems(wrong, FACTS)] == ["std", "std"]
    assert not list(Data.problems(DataConf(train=split(Digits())), FACTS))


def test_evaluate_reads_either_subset_with_the_transforms_of_val(tmp_path: Path) -> None:
    for name in "0123456789":  # classes have the same names in both
        write_plain(tmp_path / name, 7 if name in "05" else 1)
    both = data(ImageFolder(path=tmp_path), Digits(split=DigitSplit.TEST))
    train, val = list(both.evaluate(Subset.TRAIN)), list(both.evaluate(Subset.VAL))
    assert [len(batch.index) for batch in train] == [10, 10, 2]
    assert sum(len(batch.index) for batch in val) == 397
    assert train[0].views[0].shape == val[0].views[0].shape == (10, 3, 16, 16)
    mine = list(both.evaluate(Subset.TRAIN, rank=1, world_size=2))
    assert torch.cat([batch.index for batch in mine]).tolist() == list(range(1, 22, 2))
    with pytest.raises(ValueError, match=r"data\.val is not given"):
        data(Digits()).evaluate(Subset.TRAIN)


def test_views_are_not_the_same_for_all_images() -> None:
    """A stream that ignored the index would crop every image alike."""
    gradient = np.tile(np.arange(100, dtype=np.uint8), (100, 1))

    class OneImage(Digits):
        def read(self, index: int) -> torch.Tensor:
            return torch.from_numpy(np.stack([gradient, gradient.T, gradient]))

    views = RepeatViews(transforms=[RandomResizedCrop(size=8)])
    pipeline = TrainPipeline(split=TrainSplit(views=views, batch_size=32, source=OneImage(), num_workers=0), seed=0)
    batch = take(pipeline, 1)[0]
    assert len({tuple(view.flatten().tolist()) for both in batch.views for view in both}) > 55


class Floats(Digits):
    def read(self, index: int) -> torch.Tensor:
        return super().read(index) / 255


class Five(Digits):
    def read(self, index: int) -> torch.Tensor:
        return super().read(index)[[0, 1, 2, 0, 1]]


class Broken(Digits):
    def read(self, index: int) -> torch.Tensor:
        raise UnreadableImageError("broken")


class BrokenButOne(Broken):
    def read(self, index: int) -> torch.Tensor:
        return Digits.read(self, index) if index == 1260 else super().read(index)


def test_some_images_are_tried_until_one_can_be_read() -> None:
    """Of 1,400 they are 0, 140, ...: a folder whose paths are all wrong is told before the run."""
    assert not list(data(Digits(), BrokenButOne()).trial())
    (problem,) = data(Digits(), Broken()).trial()
    assert problem.path == "data.val"
    assert problem.message == "none of 10 images that were tried can be read: digits/train/0: broken"
    assert spread(1400, 10) == list(range(0, 1400, 140))
    assert [spread(count, 10) for count in (0, 1, 3)] == [[], [0], [0, 1, 2]]


def test_the_first_image_of_each_split_is_tried() -> None:
    assert not list(data(Digits(), Digits()).trial())
    wrong = {problem.path: problem.message for problem in data(Floats(), Five()).trial()}
    assert sorted(wrong) == ["data.train", "data.val"]
    assert wrong["data.train"].startswith("Floats, image 0 (digits/train/0), gave a torch.float32 tensor [3, 32, 32]")
    assert wrong["data.val"] == "images have 5 channels, data.mean has 3 values: one a channel"
    small = EvalSplit(transforms=[CenterCrop(size=64)], source=Digits())
    (problem,) = Data(train=split(Digits()), val=small).trial()
    assert problem.message.endswith("put Resize before it, while making the views of digits/train/0, (3, 32, 32)")
