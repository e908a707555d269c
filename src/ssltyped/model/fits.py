"""Do trunk and heads take what they will get, and give what they say? Tried without numbers, before a run."""

from typing import cast

import torch
from torch import Tensor

from ssltyped.config.hints import failure
from ssltyped.types import Head, Trunk


def misfit_of(trunk: Trunk, channels: int, size: int) -> str:
    """Why a trunk (on the meta device) does not take images of this side; empty: it does, or cannot be tried there.

    What its features are called and how wide they are must be what `feature_dims` says.
    """
    names = list(trunk.feature_dims)
    images = torch.empty(1, channels, size, size, device="meta")
    try:
        with torch.no_grad():
            found = trunk.eval()(images, names)
    except NotImplementedError:
        return ""
    except Exception as error:  # whatever somebody's network raises
        # What depends on values, or on a device, cannot be tried without them.
        if any(word in str(error).lower() for word in ("meta", "cuda", "device")):
            return ""
        return str(error) if type(error) is ValueError else failure(error)
    if not isinstance(found, list | tuple) or len(found) != len(names):
        return f"gives {type(found).__name__}, where a list of {len(names)} features is wanted: {', '.join(names)}"
    for name, feature in zip(names, found, strict=True):
        if trunk.feature_dims[name] not in feature.shape[1:]:
            width, shape = trunk.feature_dims[name], ("B", *feature.shape[1:])
            return f"feature_dims says that {name} is {width} wide, and it has the shape ({', '.join(map(str, shape))})"
    return ""


def head_misfit_of(head: Head, trunk: Trunk, channels: int, size: int) -> str:
    """Why a head (on the meta device) does not give what its `out_dims` say; empty: it does, or cannot be tried so.

    A head that wants more than the features of single images, such as those of all patches, is not tried.
    """
    name = head.feature or list(trunk.feature_dims)[-1]
    try:
        with torch.no_grad():
            (feature,) = trunk.eval()(torch.empty(2, channels, size, size, device="meta"), [name])
            found = cast(object, head.eval()(feature))
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
