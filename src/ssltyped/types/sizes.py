"""Sizes that suit few images: rules for fields whose defaults are those of a paper's large data set."""

from collections.abc import Iterable

from ssltyped.config.component import Facts, Inference


def fewer(field: str, most: int, images_each: int, facts: Facts, *, several: int = 0) -> Iterable[Inference]:
    """`field` is one for every `images_each` images, at most `most` and at least 2; `several`: a list of so many."""
    if facts.num_images is None:
        return
    count = min(most, max(2, facts.num_images // images_each))
    rule = f"{facts.num_images:,} images / {images_each}, at most {most:,}"
    yield Inference(field, [count] * several if several else count, rule, default=True)


def queue(field: str, most: int, images_each: int, facts: Facts) -> Iterable[Inference]:
    """`field` holds a share of the images, in whole steps; at least one step."""
    if facts.num_images is None:
        return
    step = facts.global_batch_size
    wanted = min(most, facts.num_images // images_each)
    rule = f"whole steps of {step} in {facts.num_images:,} images / {images_each}, at most {most:,}"
    yield Inference(field, max(1, wanted // step) * step, rule, default=True)
