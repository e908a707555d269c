"""What a user calls the parts of a model and of a method."""

from torch import nn

from ssltyped.config.hints import nearest


def as_named(path: str) -> str:
    """What a user calls a part of the module of model and loss: "trunk.layer1", "heads.projector", "loss.predictor"."""
    return path.removeprefix("model.")


def can_be_named(name: str) -> bool:
    """Whether a part of a dict of modules can have this name: no method of such a dict has it."""
    return name.isidentifier() and not hasattr(nn.ModuleDict, name)


def named(module: nn.Module, name: str) -> nn.Module | nn.Parameter:
    """The module or parameter of this name (see `as_named`). Raises ValueError, with the nearest name, for another."""
    places = (*module.named_modules(remove_duplicate=False), *module.named_parameters(remove_duplicate=False))
    found: dict[str, nn.Module | nn.Parameter] = {
        as_named(path): part for path, part in places if path not in ("", "model")
    }
    if name not in found:
        raise ValueError(f"there is no module and no parameter {name!r}{nearest(name, list(found))}")
    return found[name]


def parameters_of(module: nn.Module, name: str) -> list[nn.Parameter]:
    """The parameters of the part of this name. Raises ValueError, with the nearest name, if there is none."""
    return list(part.parameters()) if isinstance(part := named(module, name), nn.Module) else [part]
