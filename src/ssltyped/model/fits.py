"""Do trunk and heads take what they will get, and give what they say? Tried without numbers, before a run."""

from collections.abc import Iterator, Mapping
from typing import cast

import torch
from torch import Tensor

from ssltyped.config.hints import failure
from ssltyped.types import Head, Problem, Trunk


def misfits(trunk: Trunk, heads: Mapping[str, Head], channels: int, sizes: Mapping[int, str]) -> Iterator[Problem]:
    """Images that the trunk does not take, of these sides and whose they are; heads that are not what they say.

    All of it on the meta device.
    """
    given: Mapping[str, Tensor] = {}
    for size, whose in sizes.items():
        reason, features = tried(trunk, channels, size)
        if reason:
            yield Problem("trunk", f"does not fit {whose}, {size} pixels: {reason}")
            return
        given = given or features
    for name, head in heads.items():
        if reason := head_misfit_of(head, given):
            yield Problem(f"heads.{name}", reason)


def tried(trunk: Trunk, channels: int, size: int) -> tuple[str, Mapping[str, Tensor]]:
    """Why a trunk (on the meta device) does not take images of this side, and the features that it gives of two.

    What they are called and how wide they are must be what `feature_dims` says. Empty: it takes them, or cannot be
    tried there; then there are no features.
    """
    names = list(trunk.feature_dims)
    images = torch.empty(2, channels, size, size, device="meta")
    try:
        with torch.no_grad():
            found = trunk.eval()(images, names)
    except NotImplementedError:
        return "", {}
    except Exception as error:  # whatever somebody's network raises
        # What depends on values, or on a device, cannot be tried without them.
        if any(word in str(error).lower() for word in ("meta", "cuda", "device")):
            return "", {}
        return str(error) if type(error) is ValueError else failure(error), {}
    if not isinstance(found, list | tuple) or len(found) != len(names):
        return f"gives {type(found).__name__}, where a list of {len(names)} features is wanted: {', '.join(names)}", {}
    features = dict(zip(names, found, strict=True))
    for name, feature in features.items():
        if trunk.feature_dims[name] not in feature.shape[1:]:
            width, shape = trunk.feature_dims[name], ", ".join(map(str, ("B", *feature.shape[1:])))
            return f"feature_dims says that {name} is {width} wide, and it has the shape ({shape})", {}
    return "", features


def head_misfit_of(head: Head, features: Mapping[str, Tensor]) -> str:
    """Why a head (on the meta device) does not give what its `out_dims` say; empty: it does, or cannot be tried so.

    A head that wants more than the features of single images, such as those of all patches, is not tried.
    """
    try:
        with torch.no_grad():
            found = cast(object, head.eval()(features[head.feature or list(features)[-1]]))
    except Exception:  # the plan's step, and the run's, tell what fails
        return ""
    outputs = found if isinstance(found, list) else [found]
    shapes = [tuple(output.shape[1:]) for output in outputs if isinstance(output, Tensor)]
    if len(shapes) != len(outputs):
        return f"gives {type(found).__name__}, where a tensor, or a list of them, is wanted"
    widths = list(head.out_dims)
    if [shape[-1] for shape in shapes if shape] != widths:
        return f"out_dims says {widths}, and it gives rows of the shapes {shapes}"
    return ""
