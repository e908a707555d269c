"""Recorded transforms and collators.

Arrays of floats go through our uint8 images as their bytes: what a collator or a cut does is to move them.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ssltyped.data.mixing import PairMixUp
from ssltyped.data.pipeline import Data
from ssltyped.data.reading import Reader
from ssltyped.data.splits import TrainSplit
from ssltyped.data.targets import target_rows
from ssltyped.transforms.blur import BlurFilter, GaussianBlur
from ssltyped.transforms.colour import LAB_MEAN, LAB_STD, ToLab
from ssltyped.transforms.geometry import RandomResizedCrop, ResizeLargerSide
from ssltyped.transforms.patches import PatchViews, cut_patches
from ssltyped.transforms.rotation import Rotate
from ssltyped.transforms.views import MultiCrop, RepeatViews
from ssltyped.types import Batch, Image, Source, Transform, Views
from tools.golden.arrays import Adapter, Bug, Case, Inputs, Tree, read_params


def as_bytes(image: Tensor) -> Tensor:
    """(C, H, W) of any dtype to uint8 (C n, H, W): the n bytes of each value as channels."""
    channels, height, width = image.shape
    values = image.contiguous().view(torch.uint8).reshape(channels, height, width, -1)
    return values.permute(0, 3, 1, 2).flatten(0, 1)


def from_bytes(images: Tensor, dtype: torch.dtype) -> Tensor:
    """The reverse of `as_bytes`, also for (B, C n, H, W)."""
    *rest, channels, height, width = images.shape
    values = images.reshape(*rest, channels // dtype.itemsize, dtype.itemsize, height, width)
    found: Tensor = values.movedim(-3, -1).contiguous().view(dtype)[..., 0]
    return found


def image_of(pixels: Tensor) -> Image:
    """(H, W, C) to (C, H, W)."""
    return pixels.permute(2, 0, 1)


def pixels_of(image: Tensor) -> Tensor:
    return image.permute(1, 2, 0)


@dataclass
class Params:
    """What the recorded transforms and collators are given."""

    num_patches: int = 9
    patch_jitter: int = 21
    output_stride: int = 1
    perm_index: int = 0
    num_angles: int = 4
    num_times: int = 2
    num_crops: list[int] = field(default_factory=list)
    size_crops: list[int] = field(default_factory=list)
    crop_scales: list[tuple[float, float]] = field(default_factory=list)
    size: int = 1024
    p: float = 1.0
    radius: float = 1.0
    num_classes: int = 2
    mixing_factor: float = 0.5
    create_multidimensional_tensor: bool = False


def transformed(transform: Transform, x: Inputs) -> Tensor:
    """(C, H, W), of a transform that draws nothing, or what it must draw."""
    return transform(image_of(x.tensor("image")), np.random.default_rng(0))


def normalized(image: Image, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """As the data normalizes a batch."""
    train = TrainSplit(views=RepeatViews(transforms=[]), batch_size=1)
    batch = Batch(views=(image[None],), index=torch.zeros(1, dtype=torch.int64))
    return Data(train=train, mean=mean, std=std).normalize(batch).views[0][0]


def lab_tensor(case: Case, x: Inputs) -> Mapping[str, Tree]:
    return {"tensor": normalized(transformed(ToLab(), x), LAB_MEAN, LAB_STD)}


def to_tensor(case: Case, x: Inputs) -> Mapping[str, Tree]:
    image = image_of(x.tensor("image"))
    return {"tensor": normalized(image, (0.0,) * len(image), (1.0,) * len(image))}


def patches_from_tensor(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params, image = read_params(case, Params), x.tensor("image")
    cut = cut_patches(as_bytes(image), x.tensor("jitter").numpy(), params.patch_jitter)
    patches = torch.stack([from_bytes(patch, image.dtype) for patch in cut])
    return {"patches": patches[:, :, :: params.output_stride, :: params.output_stride]}


def shuffled_patches(case: Case, x: Inputs) -> Mapping[str, Tree]:
    """The patches are put together to an image, column by column, which ours cuts up again."""
    number, patches = read_params(case, Params).perm_index, x.tensors("patches")
    side = math.isqrt(len(patches))
    columns = [torch.cat(patches[start : start + side], dim=1) for start in range(0, len(patches), side)]
    image = as_bytes(torch.cat(columns, dim=2))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "permutations.npy"
        np.save(file, x.tensor("perm_file_array").numpy())
        maker = PatchViews(transforms=[], num_patches=len(patches), jitter=0, permutations_file=file)
        seed = drawing(number, len(x.tensor("perm_file_array")))
        views = maker(image, lambda view: np.random.default_rng(seed))
    data = torch.stack([from_bytes(view, patches[0].dtype) for view in views.images])
    return {"data": data, "label": views.label}


def drawing(number: int, below: int) -> int:
    """A seed whose first draw is this number."""
    return next(seed for seed in itertools.count() if np.random.default_rng(seed).integers(below) == number)


def rotated(case: Case, x: Inputs) -> Mapping[str, Tree]:
    count = read_params(case, Params).num_angles
    angles = [360.0 * label / count for label in range(count)]
    images = [pixels_of(transformed(Rotate(angles=[angle]), x)) for angle in angles]
    return {"rotated_by_label": torch.stack(images), "angles": torch.tensor(angles)}


def multi_crop(case: Case, x: Inputs) -> Mapping[str, Tree]:
    """Only the sizes were recorded: those that are announced, and those that come out."""
    params = read_params(case, Params)
    parts = zip(params.num_crops, params.size_crops, params.crop_scales, strict=True)
    maker = MultiCrop(
        groups=[
            RepeatViews(num_views=count, transforms=[RandomResizedCrop(size=size, scale=scale)])
            for count, size, scale in parts
        ]
    )
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 40, 50), dtype=np.uint8))
    views = maker(pixels, np.random.default_rng).images
    assert [view.shape[1] for view in views] == list(maker.crop_sizes)
    return {"sizes_wh": torch.tensor([[view.shape[2], view.shape[1]] for view in views])}


def replicated(case: Case, x: Inputs) -> Mapping[str, Tree]:
    maker = RepeatViews(num_views=read_params(case, Params).num_times, transforms=[])
    views = maker(image_of(x.tensor("image")), np.random.default_rng).images
    return {"copies": torch.stack([pixels_of(view) for view in views])}


def larger_side(case: Case, x: Inputs) -> Mapping[str, Tree]:
    return {"image": pixels_of(transformed(ResizeLargerSide(size=read_params(case, Params).size), x))}


def blurred(case: Case, x: Inputs) -> Mapping[str, Tree]:
    params = read_params(case, Params)
    blur = GaussianBlur(p=params.p, radius_min=params.radius, radius_max=params.radius, filter=BlurFilter.PILLOW_BOXES)
    return {"image": pixels_of(transformed(blur, x))}


class GivenLabels(Source):
    """A source that only knows labels, by place."""

    def __init__(self, labels: Sequence[int]) -> None:
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int) -> Image:
        raise NotImplementedError("the views are given")

    def name(self, index: int) -> str:
        return str(index)

    @property
    def labelled(self) -> bool:
        return True

    def label(self, index: int) -> int:
        return self.labels[index]


def collated(samples: Sequence[Inputs], key: str, images: Sequence[Sequence[Tensor]]) -> Batch:
    """The batch that the pipeline makes of these views of each image, labelled by `key`; pixels are bytes."""
    labels = [int(first(sample, key)) for sample in samples]
    views = [Views([as_bytes(image) for image in one]) for one in images]
    source = GivenLabels(labels)
    return Reader(source, lambda image, random: Views([]), 0).reply(views, range(len(labels)), []).batch()


def first(sample: Inputs, key: str) -> Tensor:
    """The label of an image: those of all its views are the same."""
    value = sample.tree[key]
    while isinstance(value, list):
        value = value[0]
    assert isinstance(value, Tensor)
    assert (value == value.flatten()[0]).all()
    return value.flatten()[0]


@dataclass
class Collated:
    """What ours makes of the samples: float views (B, C, H, W), and a function for each kind of number beside them."""

    views: list[Tensor]
    labels: Mapping[str, Tensor]


def collate(
    x: Inputs, split: Callable[[Sequence[Tensor]], list[Tensor]] = list, share: float | None = None
) -> Collated:
    """Labels, flags and numbers of the samples all take the way of a label. `share`: pairs of images are mixed."""
    samples = x.parts("batch")
    images = [split(sample.tensors("data")) for sample in samples]
    labels, views = {}, []
    for key in ("label", "data_valid", "data_idx"):
        batch = collated(samples, key, images)
        floats = [from_bytes(view, images[0][0].dtype) for view in batch.views]
        batch = Batch(views=tuple(floats), index=batch.index, label=batch.label)
        if share is not None:
            batch = PairMixUp().merge(batch, share)
        assert batch.label is not None
        labels[key], views = batch.label, list(batch.views)
    return Collated(views, labels)


def of_every_view(found: Collated) -> dict[str, Tree]:
    """The numbers of all images, once a view."""
    return {key: [label.repeat(len(found.views))] for key, label in found.labels.items()}


def simclr_collator(case: Case, x: Inputs) -> Mapping[str, Tree]:
    found = collate(x)
    return {"data": [torch.cat(found.views)], **of_every_view(found)}


def moco_collator(case: Case, x: Inputs) -> Mapping[str, Tree]:
    found = collate(x)
    labels = {key: [label[:, None].repeat(1, len(found.views))] for key, label in found.labels.items()}
    return {"data": found.views[:1], "data_momentum": found.views[1:], **labels}


def multicrop_collator(case: Case, x: Inputs) -> Mapping[str, Tree]:
    found = collate(x)
    if read_params(case, Params).create_multidimensional_tensor:
        return {"data": [padded(found.views)], **of_every_view(found)}
    return {"data": [found.views], **of_every_view(found)}


def padded(views: Sequence[Tensor]) -> Mapping[str, Tree]:
    """Views of several sizes as one tensor with zeros around them, and where there are none, as it was recorded."""
    side = max(max(view.shape[-2:]) for view in views)
    rows = sum(len(view) for view in views)
    tensor, mask = torch.zeros(rows, views[0].shape[1], side, side), torch.ones(rows, side, side, dtype=torch.bool)
    row = 0
    for view in views:
        height, width = view.shape[-2:]
        tensor[row : row + len(view), :, :height, :width] = view
        mask[row : row + len(view), :height, :width] = False
        row += len(view)
    return {"tensor": tensor, "mask": mask, "image_sizes": torch.tensor([list(view.shape[-2:]) for view in views])}


def mixup_collator(case: Case, x: Inputs) -> Mapping[str, Tree]:
    found = collate(x, share=read_params(case, Params).mixing_factor)
    return {"data": [found.views], **of_every_view(found)}


def image_major(views: Sequence[Tensor]) -> Tensor:
    """All views of an image follow one another there."""
    return torch.stack(list(views), dim=1).flatten(0, 1)


def siamese_collator(case: Case, x: Inputs) -> Mapping[str, Tree]:
    found = collate(x, split=lambda data: list(data[0]))
    labels = {key: [found.labels[key]] for key in ("label", "data_valid")}
    return {"data": [image_major(found.views)], **labels}


def patch_and_image_collator(case: Case, x: Inputs) -> Mapping[str, Tree]:
    found = collate(x)
    labels = {key: [found.labels[key]] for key in ("label", "data_valid")}
    return {"images": found.views[:1], "patches": [image_major(found.views[1:])], **labels}


def target_collator(case: Case, x: Inputs) -> Mapping[str, Tree]:
    """Labels are lists of classes that are there and that are not."""
    samples = x.parts("batch")
    lists = [sample.items("label")[0] for sample in samples]
    positives, negatives = ([numbers(both, place) for both in lists] for place in (0, 1))
    rows = torch.from_numpy(target_rows(positives, negatives, read_params(case, Params).num_classes))
    images = [sample.tensors("data") for sample in samples]
    flags = {key: collated(samples, key, images) for key in ("data_valid", "data_idx")}
    views = [from_bytes(view, images[0][0].dtype) for view in flags["data_idx"].views]
    return {"data": views, "label": [rows], **{key: [batch.label] for key, batch in flags.items()}}


def numbers(both: Tree, place: int) -> list[int]:
    """The classes at one of the two places of a label."""
    assert isinstance(both, list)
    classes = both[place]
    assert isinstance(classes, list)
    return [int(number) for number in classes]


ADAPTERS: Mapping[str, Adapter] = {
    "transform/ImgPil2LabTensor": lab_tensor,
    "transform/ImgToTensor": to_tensor,
    "transform/ImgPatchesFromTensor": patches_from_tensor,
    "transform/ShuffleImgPatches": shuffled_patches,
    "transform/ImgRotatePil": rotated,
    "transform/ImgPilToMultiCrop": multi_crop,
    "transform/ImgReplicatePil": replicated,
    "transform/ImgPilResizeLargerSide": larger_side,
    "transform/ImgPilGaussianBlur": blurred,
    "collator/simclr_collator": simclr_collator,
    "collator/moco_collator": moco_collator,
    "collator/multicrop_collator": multicrop_collator,
    "collator/multicrop_mixup_collator": mixup_collator,
    "collator/siamese_collator": siamese_collator,
    "collator/patch_and_image_collator": patch_and_image_collator,
    "collator/targets_one_hot_default_collator": target_collator,
}

BUGS: Mapping[str, Sequence[Bug]] = {
    "collator/moco_collator": [
        Bug(
            "a batch of one image loses its dimension of images",
            lambda case, x: len(x.parts("batch")) == 1,
            put_back=False,
        )
    ],
}
