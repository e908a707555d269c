"""Does a trunk take the images that it will get, and give what it says? Tried without numbers, before a run."""

import torch

from ssltyped.config.hints import failure
from ssltyped.types import Trunk


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
        # What depends on values cannot be tried without them.
        return "" if "meta" in str(error).lower() else str(error) if type(error) is ValueError else failure(error)
    if not isinstance(found, list) or len(found) != len(names):
        return f"gives {type(found).__name__}, where a list of {len(names)} features is wanted: {', '.join(names)}"
    for name, feature in zip(names, found, strict=True):
        if trunk.feature_dims[name] not in feature.shape[1:]:
            width, shape = trunk.feature_dims[name], ("B", *feature.shape[1:])
            return f"feature_dims says that {name} is {width} wide, and it has the shape ({', '.join(map(str, shape))})"
    return ""
