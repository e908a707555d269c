"""Chains of transforms, and what makes views with them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Annotated, Optional, Self

from annotated_types import Ge, Gt, Le, Len
from jaxtyping import UInt8
from torch import Tensor

from ssltyped.config import build, config_for, part_of, walk
from ssltyped.transforms.blur import GaussianBlur, kernel_width
from ssltyped.types import Facts, Image, Problem, Random, Transform, ViewMaker, Views, check_image


def last_size(transforms: Sequence[object]) -> int:
    """The side that the last transform (or config of one) with a `size` gives; 0 if none has one."""
    sizes = [size for transform in transforms if isinstance(size := getattr(transform, "size", None), int)]
    return sizes[-1] if sizes else 0


def wide_blurs(field: str, transforms: Sequence[object]) -> Iterator[Problem]:
    """Blurs of the views (configs, after the crop) whose kernel is wider than a view: its border would count most."""
    size = last_size(transforms)
    sized = [place for place, transform in enumerate(transforms) if last_size([transform])]
    for place, transform in enumerate(transforms):
        for path, part in walk(transform, f"{field}.{place}") if sized and place > sized[-1] else ():
            if part_of(part).kind is GaussianBlur and size < (width := kernel_width(part.radius_max)):
                message = f"{part.radius_max:g} makes a kernel of {width} pixels for views of {size}"
                yield Problem(f"{path}.radius_max", f"{message}: at most {(size - 1) // 2 / 3:.3g} fits")


def applied(transforms: Sequence[Transform], image: Image, random: Random) -> UInt8[Tensor, "C _ _"]:
    """The image after a chain of transforms. Raises ValueError for one that gives no image."""
    for transform in transforms:
        image = transform(image, random)
        check_image(image, type(transform).__name__)
    return image


class RandomApply(Transform):
    """With probability p all of the transforms, in their order; else the image as it is.

    Args:
        transforms: what is done to the image
        p: probability of all of them
    """

    def __init__(
        self, *, transforms: Annotated[list[Transform], Len(1)], p: Annotated[float, Ge(0), Le(1)] = 0.5
    ) -> None:
        self.transforms, self.p = transforms, p

    def __call__(self, image: Image, random: Random) -> Image:
        return applied(self.transforms, image, random) if random.random() < self.p else image


class RepeatViews(ViewMaker):
    """V views of an image by the same chain of transforms, each with its own randomness.

        view v = t_n(... t_2(t_1(image, r_v), r_v) ..., r_v)   with r_v = random(v), v = 0 .. V - 1

    The side of the views is the `size` of the last transform that has one. SimCLR (arXiv 2002.05709), section
    2.1: two views an image.

    Args:
        num_views: V, how many views of each image
        transforms: the chain, applied in this order to every view
    """

    def __init__(self, *, num_views: Annotated[int, Gt(0)] = 2, transforms: list[Transform]) -> None:
        self.num_views, self.transforms = num_views, transforms

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        if not last_size(config.transforms):
            yield Problem(
                "transforms",
                "no transform gives the views one size, so they cannot be stacked; add one with a `size`, "
                "such as RandomResizedCrop",
            )

    @classmethod
    def warnings(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        yield from wide_blurs("transforms", config.transforms)

    @property
    def crop_sizes(self) -> Sequence[int]:
        """The same side V times. Raises ValueError if no transform gives a size."""
        size = last_size(self.transforms)
        if not size:
            raise ValueError("RepeatViews: no transform has a `size`, such as RandomResizedCrop has")
        return (size,) * self.num_views

    def __call__(self, image: Image, random: Callable[[int], Random]) -> Views:
        return Views([applied(self.transforms, image, random(view)) for view in range(self.num_views)])


class MultiCrop(ViewMaker):
    """The views of several makers, one after the other, such as 2 large crops and 6 small ones.

        views = [v for maker in groups for v in maker(image)]

    View v of the whole draws from `random(v)`. One group may label the image, as a pretext task. Multi-crop: SwAV
    (arXiv 2006.09882), section 3.3. With groups of one view each view has transforms of its own: BYOL's two views
    differ in blur and solarization.

    Args:
        groups: makers of the views, in order
    """

    def __init__(self, *, groups: Annotated[list[ViewMaker], Len(1)]) -> None:
        self.groups = groups

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        return several_labels("groups", config.groups)

    @property
    def num_classes(self) -> Optional[int]:
        return next((group.num_classes for group in self.groups if group.num_classes is not None), None)

    @property
    def crop_sizes(self) -> Sequence[int]:
        return [size for group in self.groups for size in group.crop_sizes]

    @property
    def mask_grids(self) -> Sequence[Optional[tuple[int, int]]]:
        if not any(group.mask_grids for group in self.groups):
            return ()
        return [grid for group in self.groups for grid in group.mask_grids or [None] * len(group.crop_sizes)]

    def prepare(self) -> None:
        for group in self.groups:
            group.prepare()

    def __call__(self, image: Image, random: Callable[[int], Random]) -> Views:
        firsts = accumulate((len(group.crop_sizes) for group in self.groups), initial=0)
        made = [group(image, from_view(random, first)) for group, first in zip(self.groups, firsts, strict=False)]
        masks = [mask for views in made for mask in views.masks or [None] * len(views.images)]
        label = next((views.label for views in made if views.label is not None), None)
        images = [view for views in made for view in views.images]
        return Views(images, label=label, masks=masks if self.mask_grids else ())


class SeveralInputs(MultiCrop):
    """The views of several makers as inputs of the model that different heads read, such as an image and its patches.

    PIRL (arXiv 1912.01991), section 2.2. One of the makers may label the image. Raises ValueError for names that are
    not one a maker, each another.

    Args:
        names: of the inputs, which `inputs` of the recipe refers to
        views: the maker of each input's views, in the same order
    """

    def __init__(self, *, names: Annotated[list[str], Len(1)], views: Annotated[list[ViewMaker], Len(1)]) -> None:
        if len(set(names)) != len(names) or len(names) != len(views):
            raise ValueError(f"names are {names} for {len(views)} view makers: give a different name for each")
        super().__init__(groups=views)
        self.names, self.views = names, views

    @classmethod
    def problems(cls, config: Self, facts: Facts) -> Iterable[Problem]:
        return several_labels("views", config.views)

    @property
    def inputs(self) -> Mapping[str, int]:
        return {name: len(maker.crop_sizes) for name, maker in zip(self.names, self.views, strict=True)}


def several_labels(field: str, makers: Sequence[object]) -> Iterator[Problem]:
    """What is wrong if more than one of these configs of makers labels the image."""
    built = [build(maker) for maker in makers]
    labelling = [i for i, maker in enumerate(built) if isinstance(maker, ViewMaker) and maker.num_classes is not None]
    if len(labelling) > 1:
        yield Problem(field, f"{len(labelling)} of the makers label the image ({labelling}): one may")


def from_view(random: Callable[[int], Random], first: int) -> Callable[[int], Random]:
    """The streams from a view on: its view 0 is view `first`."""
    return lambda view: random(first + view)


RandomApplyConf = config_for(RandomApply)
RepeatViewsConf = config_for(RepeatViews)
MultiCropConf = config_for(MultiCrop)
SeveralInputsConf = config_for(SeveralInputs)
