"""`MODEL.HEAD.PARAMS` of VISSL to configs of our heads: ["mlp", {"dims": [2048, 128]}], or a list of those in a row."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

from ssltyped.config import ConfigError
from ssltyped.config.hints import nearest
from ssltyped.heads.classifier import MobileNetV3Head, ViTHead
from ssltyped.heads.ibot import IBOTDistillationHead, IBOTHead, TokenNorm
from ssltyped.heads.mlp import EvalMLPHead, MLPHead
from ssltyped.heads.plumbing import IdentityHead, SiameseConcatHead
from ssltyped.heads.prototypes import Activation, DINOHead, MSNHead, PrototypesHead, Scale
from ssltyped.interop.vissl.settings import Settings, choice, make
from ssltyped.interop.vissl.yaml import Value
from ssltyped.types import Head, Problem


@dataclasses.dataclass(frozen=True)
class Made:
    """A head, and the width of what it gives, where its settings say it."""

    head: Head
    width: int | None


Build = Callable[[Settings, int | None, Settings], Made]
"""From a head's settings, the width of what it reads (None: not known) and the `HEAD` section."""


def head(entry: Value, width: int | None, section: Settings, where: str) -> tuple[str, Made]:
    """The name and the config of one head. Raises `ConfigError`, also for a setting that the head does not have."""
    if not isinstance(entry, list) or len(entry) not in (1, 2) or not isinstance(entry[0], str):
        raise ConfigError([Problem(where, f"got {entry!r}: want [NAME, {{...}}]")])
    name, values = entry[0], entry[1] if len(entry) > 1 else {}
    if name not in HEADS:
        raise ConfigError([Problem(where, f"there is no head {name!r}{nearest(name, sorted(HEADS))}")])
    if not isinstance(values, dict):
        raise ConfigError([Problem(where, f"got {values!r}: want the settings of {name}")])
    settings = Settings(values, where, set())
    made = HEADS[name](settings, width, section)
    known = [path.removeprefix(f"{where}.") for path in settings.read]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ConfigError(
            [Problem(f"{where}.{key}", f"{name} has no such setting{nearest(key, known)}") for key in unknown]
        )
    return name, made


def _dims(s: Settings) -> tuple[int, list[int]]:
    first, *rest = s.require("dims", list[int])
    if not rest:
        raise s.wrong("dims", "want the width of the input and of at least one layer")
    return first, rest


def _mlp(residual: bool, s: Settings, width: int | None, section: Settings) -> Made:
    in_dim, dims = _dims(s)
    bare = s.get("skip_last_layer_relu_bn", bool, True)
    # On a single layer that stays bare, norm and dropout are there in name only.
    hidden = not (bare and len(dims) == 1)
    use_bn = s.get("use_bn", bool, False) and hidden
    fields: dict[str, object] = {
        "in_dim": in_dim,
        "dims": dims,
        "use_bn": use_bn,
        **s.same(use_relu=False, use_bias=True),
        "dropout": 0.5 if s.get("use_dropout", bool, False) and hidden else 0.0,
        "last_layer_bare": bare,
        "residual": residual,
        "init_scale": section.get("PARAMS_MULTIPLIER", float, 1.0),
    }
    return Made(make(MLPHead, {**fields, **(_bn(section) if use_bn else {})}, s.path), dims[-1])


def _bn(section: Settings) -> dict[str, object]:
    """What all BatchNorms of the heads share."""
    return {
        "bn_eps": section.get("BATCHNORM_EPS", float, 1e-5),
        "bn_momentum": section.get("BATCHNORM_MOMENTUM", float, 0.1),
    }


def _eval_mlp(pooled: bool, s: Settings, width: int | None, section: Settings) -> Made:
    in_dim, dims = _dims(s)
    channels = s.require("in_channels", int)
    if pooled and channels != in_dim:
        raise s.wrong("in_channels", f"each vector is {in_dim} wide")
    fields = {
        "in_dim": in_dim,
        "dims": dims,
        "in_channels": channels,
        "use_bn": s.get("use_bn", bool, False) and len(dims) > 1,
        "use_relu": s.get("use_relu", bool, False),
        "residual": False if pooled else s.get("use_residual", bool, False),
        **_bn(section),
    }
    return Made(make(EvalMLPHead, fields, s.path), dims[-1])


def _scale(s: Settings, weight_norm: bool, default: bool) -> Scale:
    """The lengths of prototypes."""
    fixed = s.get("normalize_last_layer", bool, default)
    if fixed and not weight_norm:
        raise s.wrong("normalize_last_layer", "needs use_weight_norm_prototypes")
    return Scale.FREE if not weight_norm else Scale.ONE if fixed else Scale.LEARNED


def _swav(s: Settings, width: int | None, section: Settings) -> Made:
    in_dim, dims = _dims(s)
    fields = {
        "in_dim": in_dim,
        "dims": dims,
        "num_prototypes": s.require("num_clusters", list[int]),
        "use_bn": s.require("use_bn", bool),
        "use_bias": s.get("use_bias", bool, True),
        "activation": choice(s, "activation_name", {"ReLU": Activation.RELU, "GELU": Activation.GELU}, "ReLU"),
        "last_layer_bare": s.get("skip_last_bn", bool, True),
        "normalize": s.get("normalize_feats", bool, True),
        "return_embedding": s.get("return_embeddings", bool, True),
        "scale": _scale(s, s.get("use_weight_norm_prototypes", bool, False), False),
    }
    return Made(make(PrototypesHead, {**fields, **(_bn(section) if fields["use_bn"] else {})}, s.path), None)


def _dino(s: Settings, width: int | None, section: Settings) -> Made:
    clusters = s.require("num_clusters", list[int])
    if len(clusters) != 1:
        raise s.wrong("num_clusters", "want one number")
    fields = {
        "in_dim": s.require("in_dim", int),
        "num_prototypes": clusters[0],
        **s.same(use_bn=False, num_layers=3, hidden_dim=2048, bottleneck_dim=256),
        "scale": _scale(s, True, True),
    }
    return Made(make(DINOHead, fields, s.path), clusters[0])


_NORMS = {"": TokenNorm.NONE, "bn": TokenNorm.BATCH, "syncbn": TokenNorm.BATCH, "ln": TokenNorm.LAYER}


def _ibot(distillation: bool, s: Settings, width: int | None, section: Settings) -> Made:
    shared = s.get("shared_head", bool, False)
    patches = s.get("patch_out_dim", int, 0)
    fields: dict[str, object] = {
        "in_dim": s.require("in_dim", int),
        "num_prototypes": s.require("out_dim", int),
        "num_patch_prototypes": None if shared else patches or None,
        "shared": shared,
        **s.same(num_layers=3, hidden_dim=2048),
        "norm": choice(s, "norm", _NORMS, ""),
        "activation": choice(s, "act", {"gelu": Activation.GELU, "relu": Activation.RELU}, "gelu"),
        "last_norm": choice(s, "last_norm", _NORMS, ""),
    }
    if distillation:
        return Made(make(IBOTDistillationHead, fields, s.path), None)
    fields |= {**s.same(bottleneck_dim=256), "scale": _scale(s, True, True)}
    return Made(make(IBOTHead, fields, s.path), None)


def _msn(s: Settings, width: int | None, section: Settings) -> Made:
    # VISSL's freeze_prototypes freezes a tensor that is not the parameter: they learn whatever it says.
    s.skip("freeze_prototypes")
    fields = {
        "in_dim": s.require("in_dim", int),
        "num_prototypes": s.require("num_prototypes", int),
        **s.same(use_bn=False, hidden_dim=2048, label_smoothing=0.0, temperature=0.1),
        "embedding_dim": s.get("output_dim", int, 256),
        "return_embedding": s.get("return_query", bool, False),
    }
    return Made(make(MSNHead, fields, s.path), None)


def _siamese(s: Settings, width: int | None, section: Settings) -> Made:
    towers = s.require("num_towers", int)
    head = make(SiameseConcatHead, {"num_towers": towers, "in_dim": width}, s.path)
    return Made(head, None if width is None else width * towers)


def _vit(s: Settings, width: int | None, section: Settings) -> Made:
    classes, hidden = s.require("num_classes", int), s.get("hidden_dim", int, 0)
    fields = {"in_dim": s.require("in_plane", int), "num_classes": classes, "hidden_dim": hidden or None}
    return Made(make(ViTHead, fields, s.path), classes)


def _mobilenet(s: Settings, width: int | None, section: Settings) -> Made:
    classes = s.get("num_classes", int, 1000)
    fields = {
        "in_dim": s.get("in_channels", int, 960),
        "hidden_dim": s.get("mid_channels", int, 1280),
        "num_classes": classes,
        "dropout": s.get("drop_out", float, 0.2),
        "use_bn": s.get("with_bn", bool, False),
    }
    return Made(make(MobileNetV3Head, fields, s.path), classes)


HEADS: Mapping[str, Build] = {
    "mlp": partial(_mlp, False),
    "mlp_fsdp": partial(_mlp, False),
    "mlp_res": partial(_mlp, True),
    "eval_mlp": partial(_eval_mlp, False),
    "eval_mlp_fsdp": partial(_eval_mlp, False),
    "eval_mlp_pooled": partial(_eval_mlp, True),
    "swav_head": _swav,
    "swav_head_fsdp": _swav,
    "dino_head": _dino,
    "dino_head_fsdp": _dino,
    "ibot_head": partial(_ibot, False),
    "ibot_distillation_head": partial(_ibot, True),
    "msn_head": _msn,
    "siamese_concat_view": _siamese,
    "vision_transformer_head": _vit,
    "mobilenet_v3_head": _mobilenet,
    "mobilenet_v3_head_timm": _mobilenet,
    "identity": lambda s, width, section: Made(make(IdentityHead, {"in_dim": width}, s.path), width),
}
"""VISSL's names."""
