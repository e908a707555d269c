"""A trunk taken home: written as another library reads it, whole or not at all."""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.hints import brief
from ssltyped.model.files import sync, written
from ssltyped.model.model import default_feature
from ssltyped.trunks.resnet import ResNet
from ssltyped.types import Problem, Trunk
from ssltyped.weights.closed_pickle import write_arrays
from ssltyped.weights.hugging_face import FAMILIES, config_json
from ssltyped.weights.layout import Layout
from ssltyped.weights.load import Load
from ssltyped.weights.networks import TIMM, TORCHVISION, LacksError, Make, require, resnet_differences
from ssltyped.weights.pretrained import Pretrained, pretrained_in, said_of
from ssltyped.weights.recognise import as_override, as_overrides
from ssltyped.weights.schemes import SCHEMES, Library, family_of
from ssltyped.weights.stored import read_stored
from ssltyped.weights.vissl import trunk_layout
from ssltyped.weights.vissl_fit import heads_of
from ssltyped.weights.vissl_heads import names_of

ONNX_OPSET = 18
"""Of the operators that are written: the least of torch's exporter."""


class Target(Enum):
    """Who reads what is written."""

    TORCHVISION = "torchvision"
    TIMM = "timm"
    HUGGING_FACE = "hf"
    DETECTRON2 = "detectron2"
    VISSL = "vissl"
    SAFETENSORS = "safetensors"
    ONNX = "onnx"


@dataclasses.dataclass(frozen=True)
class Taken:
    """What is taken home.

    Args:
        trunk: with its weights, in evaluation.
        heads: the same, by name.
        found: their configs and their images.
        about: what the weights say of themselves.
    """

    trunk: Trunk
    heads: nn.ModuleDict
    found: Pretrained
    about: Mapping[str, str]

    @property
    def feature(self) -> str:
        """What the trunk gives, if nothing else is asked for."""
        return default_feature(self.trunk)


def export(path: Path, to: Target, out: Path, *, overwrite: bool = False) -> str:
    """Write the trunk of a run or a file as `to` reads it; what was written, and the code that loads it.

    Vissl and safetensors get the heads of a run too. Raises `ConfigError` for what cannot be read, for a trunk that the
    target has not, with the targets that have it, and for an `out` that is there already.
    """
    taken = take(path)
    if reason := _lacks(to, taken):
        others = ", ".join(one.value for one in Target if not _lacks(one, taken))
        name = type(taken.trunk).__name__
        raise ConfigError([Problem("to", f"{to.value} does not have this {name}: {reason}; it can go to {others}")])
    with _placed(out, to is Target.HUGGING_FACE, overwrite) as partial:
        code = _WRITERS[to](taken, partial).replace(str(partial), str(out))
    feature = (
        f"{type(taken.trunk).__name__}, {taken.feature} ({taken.trunk.feature_dims[taken.feature]} values an image)"
    )
    mean, std = (list(values) for values in (taken.found.mean, taken.found.std))
    images = f"images of {taken.found.image_size} pixels in [0, 1], less {mean}, over {std}"
    return f"{out}: {feature} of {images}\n\n{code}\n"


def take(path: Path) -> Taken:
    """The trunk and the heads at `path`, filled. Raises `ConfigError`."""
    stored = read_stored(path)
    found = pretrained_in(path, stored)
    trunk, heads = config.build(found.trunk), nn.ModuleDict(config.build(dict(found.heads)))
    load: Load = config.build(config.replaced(found.load, {"into": "" if found.heads else "trunk"}))
    load.load(nn.ModuleDict({"trunk": trunk, "heads": heads}), stored)
    return Taken(trunk.eval(), heads.eval(), found, stored.said)


def _lacks(to: Target, taken: Taken) -> str:
    """Why a target does not have a trunk; "" if it has."""
    try:
        _CHECKS[to](taken.trunk)
    except LacksError as error:
        return str(error)
    return ""


@contextmanager
def _placed(out: Path, folder: bool, overwrite: bool) -> Iterator[Path]:
    """Where to write what takes the place of `out` when all of it is there."""
    if not out.parent.is_dir():
        raise ConfigError([Problem("out", f"{out.parent} is no folder")])
    if out.exists() and not overwrite:
        raise ConfigError([Problem("out", f"{out} is there already: --overwrite lets it be replaced")])
    if out.exists() and out.is_dir() != folder:
        raise ConfigError([Problem("out", f"{out} is {'a file' if folder else 'a folder'}, which is not replaced")])
    if not folder:
        try:
            with written(out) as partial:
                yield partial
        finally:
            out.with_name(out.name + ".part").unlink(missing_ok=True)
        return
    if out.exists() and (strange := sorted({file.name for file in out.iterdir()} - set(_HF_FILES))):
        raise ConfigError([Problem("out", f"{out} has {strange[0]}, which no export has written: it is not replaced")])
    partial = out.with_name(out.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        for file in partial.iterdir():
            sync(file)
        if out.exists():
            shutil.rmtree(out)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _layout(trunk: nn.Module, library: Library) -> Layout:
    """The names of a library for a trunk."""
    family = family_of(trunk)
    if family == "TimmTrunk":
        return Layout(renames=[(r"^model\.", "")])
    if family == "ResNet" and library is Library.TIMM:
        library = Library.TORCHVISION  # whose names it took over
    known = [scheme for scheme in SCHEMES if (scheme.library, scheme.family) == (library, family)]
    scaled = getattr(trunk, "layer_scale", None) is not None
    dinov2 = [scheme for scheme in known if scheme.anchor.endswith("lambda1")]
    return (dinov2 if scaled and dinov2 else known)[0].layout_of(trunk)


def _network_of(makes: Mapping[str, Make], library: Library) -> Callable[[Taken, Path], str]:
    """Writes a state dict that a network of torchvision or timm loads."""

    def write(taken: Taken, out: Path) -> str:
        network = makes[family_of(taken.trunk)](taken.trunk)
        torch.save(_layout(taken.trunk, library).export(taken.trunk), out)
        return network.lines(f'torch.load("{out}", weights_only=True)')

    return write


def _write_hugging_face(taken: Taken, out: Path) -> str:
    from safetensors.torch import save_file

    described = config_json(family_of(taken.trunk), taken.trunk)
    weights = _layout(taken.trunk, Library.HUGGING_FACE).export(taken.trunk)
    images = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "size": {"height": taken.found.image_size, "width": taken.found.image_size},
        "image_mean": list(taken.found.mean),
        "image_std": list(taken.found.std),
    }
    for name, content in zip(_HF_FILES, (described, images), strict=False):
        (out / name).write_text(json.dumps(content, indent=2) + "\n")
    save_file({name: value.contiguous() for name, value in weights.items()}, out / _HF_FILES[2], {"format": "pt"})
    options = ", add_pooling_layer=False" if described["model_type"] == "vit" else ""
    place = ".last_hidden_state[:, 0]" if "num_attention_heads" in described else ".pooler_output.flatten(1)"
    kind = "ViTModel" if options else "AutoModel"
    lines = f'from transformers import {kind}\n\nnetwork = {kind}.from_pretrained("{out}"{options})'
    return f"{lines}\nfeatures = network(images){place}"


def _write_detectron2(taken: Taken, out: Path) -> str:
    weights = _layout(taken.trunk, Library.DETECTRON2).export(taken.trunk)
    arrays = {name: value.numpy() for name, value in weights.items()}
    write_arrays(out, {"model": arrays, "__author__": "ssltyped", "matching_heuristics": True})
    assert isinstance(taken.trunk, ResNet)
    mean, std = ([round(255 * value, 4) for value in values] for values in (taken.found.mean, taken.found.std))
    settings = {
        "WEIGHTS": f'"{out}"',
        "RESNETS.DEPTH": taken.trunk.depth,
        "RESNETS.STRIDE_IN_1X1": False,
        "RESNETS.NUM_GROUPS": taken.trunk.groups,
        "RESNETS.WIDTH_PER_GROUP": taken.trunk.width_per_group,
        "PIXEL_MEAN": mean,
        "PIXEL_STD": std,
    }
    lines = "\n".join(f"cfg.MODEL.{name} = {value}" for name, value in settings.items())
    return f'{lines}\ncfg.INPUT.FORMAT = "RGB"'


def _write_vissl(taken: Taken, out: Path) -> str:
    heads: dict[str, Tensor] = {}
    for number, (_, head) in enumerate(heads_of(nn.ModuleDict({"heads": taken.heads}))):
        heads |= {f"{number}.{name}": value for name, value in names_of(head)[0].export(head).items()}
    model = {"trunk": trunk_layout(taken.trunk).export(taken.trunk), "heads": heads}
    state = {"type": "consolidated", "classy_state_dict": {"base_model": {"model": model, "meta": {}}}}
    torch.save(state, out)
    settings = ("PARAMS_FILE", out), ("STATE_DICT_KEY_NAME", "classy_state_dict")
    return " \\\n    ".join(f"config.MODEL.WEIGHTS_INIT.{name}={value}" for name, value in settings)


def _write_safetensors(taken: Taken, out: Path) -> str:
    """With our names, and all that `pretrained` gives again."""
    from safetensors.torch import save_file

    model = nn.ModuleDict({"trunk": taken.trunk, **({"heads": taken.heads} if len(taken.heads) else {})})
    said = {key: value for key, value in taken.about.items() if key in ("product", "method", "step", "classes")}
    about = {
        "product": "",
        **said,
        **said_of(taken.found),
    }
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, out, {"format": "pt", "ssltyped": json.dumps(about)})
    overrides = [*as_overrides(taken.found.trunk, "trunk"), "+init=Load", as_override("init.0.path", out)]
    return f"python -m ssltyped.run RECIPE {' '.join(overrides)}"


class _Feature(nn.Module):
    """Images to the default feature of a trunk."""

    def __init__(self, trunk: Trunk, feature: str) -> None:
        super().__init__()
        self.trunk, self.feature = trunk, feature

    def forward(self, images: Tensor) -> Tensor:
        found: list[Tensor] = self.trunk(images, [self.feature])
        return found[0]


def _write_onnx(taken: Taken, out: Path) -> str:
    import onnx

    side, channels = taken.found.image_size, len(taken.found.mean)
    try:
        torch.onnx.export(
            _Feature(taken.trunk, taken.feature).eval(),
            (torch.zeros(2, channels, side, side),),
            out,
            input_names=["images"],
            output_names=["features"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            opset_version=ONNX_OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        message = f"torch's exporter cannot write this {type(taken.trunk).__name__}: {brief(str(error))}"
        raise ConfigError([Problem("to", message)]) from error
    batch = onnx.load(out, load_external_data=False).graph.input[0].type.tensor_type.shape.dim[0]
    if not batch.dim_param:
        message = f"torch's exporter writes this {type(taken.trunk).__name__} for {batch.dim_value} images only"
        raise ConfigError([Problem("to", message)])
    return f'import onnxruntime\n\n(features,) = onnxruntime.InferenceSession("{out}").run(None, {{"images": images}})'


def _check_network(makes: Mapping[str, Make]) -> Callable[[Trunk], object]:
    return lambda trunk: makes.get(family_of(trunk), _nothing)(trunk)


def _nothing(trunk: nn.Module) -> object:
    raise LacksError("nothing there computes the same")


def _check_hugging_face(trunk: Trunk) -> object:
    _needs("safetensors")
    return config_json(family_of(trunk), trunk) if family_of(trunk) in FAMILIES else _nothing(trunk)


def _check_detectron2(trunk: Trunk) -> None:
    if not isinstance(trunk, ResNet):
        raise LacksError("its backbones that such files are for are ResNets")
    wide = {f"it is {trunk.width_multiplier:g} times as wide": trunk.width_multiplier != 1}
    require({**wide, **resnet_differences(trunk)})


def _check_vissl(trunk: Trunk) -> object:
    require({"VISSL's VisionTransformer has no layer scale": getattr(trunk, "layer_scale", None) is not None})
    try:
        return trunk_layout(trunk)
    except ValueError as error:
        raise LacksError(str(error)) from error


def _needs(*packages: str) -> None:
    if lacking := [name for name in packages if find_spec(name) is None]:
        raise LacksError(f"{', '.join(lacking)} is not installed: pip install 'ssltyped[export]'")


_HF_FILES = ("config.json", "preprocessor_config.json", "model.safetensors")
_CHECKS: Mapping[Target, Callable[[Trunk], object]] = {
    Target.TORCHVISION: _check_network(TORCHVISION),
    Target.TIMM: _check_network(TIMM),
    Target.HUGGING_FACE: _check_hugging_face,
    Target.DETECTRON2: _check_detectron2,
    Target.VISSL: _check_vissl,
    Target.SAFETENSORS: lambda trunk: _needs("safetensors"),
    Target.ONNX: lambda trunk: _needs("onnx", "onnxscript"),
}
_WRITERS: Mapping[Target, Callable[[Taken, Path], str]] = {
    Target.TORCHVISION: _network_of(TORCHVISION, Library.TORCHVISION),
    Target.TIMM: _network_of(TIMM, Library.TIMM),
    Target.HUGGING_FACE: _write_hugging_face,
    Target.DETECTRON2: _write_detectron2,
    Target.VISSL: _write_vissl,
    Target.SAFETENSORS: _write_safetensors,
    Target.ONNX: _write_onnx,
}
"""Write to a path, and give the code that loads what is there."""
