"""`LOSS` of VISSL to the config of one of our methods."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from ssltyped.config import replaced
from ssltyped.config.hints import nearest
from ssltyped.config.resolve import Row
from ssltyped.interop.vissl.settings import Settings, choice, make
from ssltyped.losses.barlow_twins import BarlowTwinsLoss, Standardize
from ssltyped.losses.deepcluster import DeepClusterV2Loss
from ssltyped.losses.dino import DINOLoss
from ssltyped.losses.ibot import IBOTLoss
from ssltyped.losses.moco import MoCoLoss
from ssltyped.losses.npid import Contrast, MemoryBankLoss
from ssltyped.losses.simclr import MultiCropSimCLRLoss, SimCLRLoss
from ssltyped.losses.supervised import KNOWN, BCELoss, CrossEntropyLoss, TorchLoss
from ssltyped.losses.swav import SwAVLoss
from ssltyped.types import Loss


@dataclasses.dataclass(frozen=True)
class Given:
    """What a loss depends on beside its own section.

    Args:
        global_batch: images per step over all ranks.
        sync_bn: whether BatchNorm is synchronised.
        feature_of: for a head that reads several inputs, the feature of each.
        heads: names of the model's heads.
        rows: what was changed, to be added to.
    """

    global_batch: int
    sync_bn: bool
    feature_of: Mapping[str, str]
    heads: Sequence[str]
    rows: list[Row]


def loss(section: Settings, given: Given) -> Loss:
    """The loss of a `LOSS` section. Raises `ConfigError`."""
    name = section.require("name", str)
    own = section.at(name)
    if name in LOSSES:
        made = LOSSES[name](own, given)
    elif name in KNOWN:
        own.skip_all()
        made = make(TorchLoss, {"name": name, "args": dict(own.values)}, own.path)
    else:
        unknown = f"there is no such loss{nearest(name, sorted([*LOSSES, *KNOWN]))}"
        raise section.wrong("name", _LATER.get(name, unknown))
    return replaced(made, {"heads": list(given.heads)}) if len(given.heads) > 1 and hasattr(made, "heads") else made


def _simclr(s: Settings, given: Given) -> Loss:
    s.skip("buffer_params")
    return make(SimCLRLoss, s.same(temperature=0.1), s.path)


def _multicrop_simclr(s: Settings, given: Given) -> Loss:
    s.skip("buffer_params", "num_crops")
    return make(MultiCropSimCLRLoss, s.same(temperature=0.1), s.path)


def _swav(s: Settings, given: Given) -> Loss:
    s.skip("num_crops", "num_prototypes", "embedding_dim", "output_dir")
    fields = {
        **_swav_fields(s, given),
        "hard_assignment_steps": s.get("temp_hard_assignment_iters", int, 0) or None,
        "double_precision": s.get("use_double_precision", bool, False),
        "power_law": s.get("shk_powerlaw", float, 0.0),
    }
    return make(SwAVLoss, fields, s.path)


def _swav_momentum(s: Settings, given: Given) -> Loss:
    # use_double_precision is not read there; the momentum encoder is always in eval mode here.
    s.skip("num_crops", "num_prototypes", "embedding_dim", "use_double_precision")
    if s.get("momentum_eval_mode_iter_start", int, 0) != 0:
        raise s.wrong("momentum_eval_mode_iter_start", "the momentum encoder is in eval mode from the start: want 0")
    return make(SwAVLoss, {**_swav_fields(s, given), **s.same(momentum=0.99)}, s.path)


def _swav_fields(s: Settings, given: Given) -> dict[str, object]:
    queue = s.at("queue")
    queue.skip("local_queue_length")
    length = queue.get("queue_length", int, 0)
    whole = length - length % given.global_batch
    if whole != length:
        rule = f"a multiple of the {given.global_batch} images of a step"
        given.rows.append(Row(f"{queue.path}.queue_length", length, whole, rule))
    start = queue.get("start_iter", int, 0)
    return {
        **s.same(temperature=0.1, epsilon=0.05, num_iters=3),
        "crops_for_assign": s.get("crops_for_assign", list[int], [0, 1]),
        "normalize_prototypes": s.get("normalize_last_layer", bool, True),
        "queue_size": whole,
        "queue_start_steps": start if whole and start else None,
    }


def _dino(s: Settings, given: Given) -> Loss:
    s.skip("output_dim", "num_crops", "normalize_last_layer")
    fields = {
        "momentum": s.get("momentum", float, 0.996),
        "student_temperature": s.get("student_temp", float, 0.1),
        "warmup_teacher_temperature": s.get("teacher_temp_min", float, 0.04),
        "teacher_temperature": s.get("teacher_temp_max", float, 0.07),
        "temperature_warmup_steps": s.get("teacher_temp_warmup_iters", int, 37500),
        "crops_for_teacher": s.get("crops_for_teacher", list[int], [0, 1]),
        "center_momentum": s.get("ema_center", float, 0.9),
    }
    return make(DINOLoss, fields, s.path)


def _ibot(s: Settings, given: Given) -> Loss:
    s.skip("num_global_crops", "num_local_crops", "out_dim", "patch_out_dim", "num_epochs")
    fields = {
        "local_feature": given.feature_of.get("local_views", "lastCLS"),
        "momentum": s.get("teacher_momentum", float, 0.996),
        "student_temperature": s.get("student_temp", float, 0.1),
        "teacher_temperature": s.get("teacher_temp", float, 0.04),
        "warmup_teacher_temperature": s.get("warmup_teacher_temp", float, 0.04),
        "teacher_patch_temperature": s.get("teacher_patch_temp", float, 0.07),
        "warmup_teacher_patch_temperature": s.get("warmup_teacher_patch_temp", float, 0.04),
        "temperature_warmup_epochs": s.get("warmup_teacher_temp_epochs", float, 30.0),
        "center_momentum": s.get("center_momentum", float, 0.9),
        "patch_center_momentum": s.get("center_momentum2", float, 0.9),
        "lambda_cls": s.get("lambda1", float, 1.0),
        "lambda_patch": s.get("lambda2", float, 1.0),
        "masking_start_epochs": s.get("mim_start_epoch", int, 0) or None,
    }
    return make(IBOTLoss, fields, s.path)


def _moco(s: Settings, given: Given) -> Loss:
    fields = s.same(embedding_dim=128, queue_size=65536, momentum=0.999, temperature=0.2)
    return make(MoCoLoss, {**fields, "shuffle": not given.sync_bn}, s.path)


def _barlow(s: Settings, given: Given) -> Loss:
    s.skip("embedding_dim")
    numbers = {"lambda_off": s.get("lambda_", float, 0.0051), "scale": s.get("scale_loss", float, 0.024)}
    fields = {**numbers, "standardize": Standardize.JOINT}
    return make(BarlowTwinsLoss, fields, s.path)


def _memory_bank(s: Settings, given: Given) -> Loss:
    s.skip("num_train_samples", "ignore_index")
    memory, sampling = s.at("memory_params"), s.at("negative_sampling_params")
    memory.skip("memory_size")
    if not memory.get("norm_init", bool, True):
        raise memory.wrong("norm_init", "the memory always starts normalized")
    if sampling.get("type", str, "random") != "random":
        raise sampling.wrong("type", "the only one is random")
    constant = s.get("norm_constant", float, -1.0)
    output = s.get("update_mem_with_emb_index", int, -100)
    on_forward = memory.get("update_mem_on_forward", bool, True)
    if not on_forward and output >= len(given.heads):
        raise s.wrong("update_mem_with_emb_index", f"the model has {len(given.heads)} outputs, from 0")
    fields = {
        "embedding_dim": memory.get("embedding_dim", int, 128),
        "contrast": choice(s, "loss_type", {"nce": Contrast.NCE, "cross_entropy": Contrast.INFO_NCE}, "nce"),
        "num_negatives": sampling.get("num_negatives", int, 16000),
        "temperature": s.get("temperature", float, 0.07),
        "momentum": memory.get("momentum", float, 0.5),
        "loss_weights": s.get("loss_weights", list[float], [1.0]),
        "memory_head": None if on_forward or output < 0 else given.heads[output],
        "norm_constant": constant if constant > 0 else None,
        "normalize": s.get("norm_embedding", bool, True),
    }
    return make(MemoryBankLoss, fields, s.path)


def _deepcluster(s: Settings, given: Given) -> Loss:
    s.skip("DROP_LAST", "BATCHSIZE_PER_REPLICA", "num_crops", "num_train_samples")
    memory = s.at("memory_params")
    fields = {
        "num_clusters": s.get("num_clusters", list[int], [3000, 3000, 3000]),
        "embedding_dim": memory.get("embedding_dim", int, 128),
        **s.same(temperature=0.1, kmeans_iters=10),
        "crops_for_memory": memory.get("crops_for_mb", list[int], [0]),
    }
    return make(DeepClusterV2Loss, fields, s.path)


def _cross_entropy(s: Settings, given: Given) -> Loss:
    # VISSL reads `reduction` and then always takes the mean.
    s.skip("reduction")
    fields = {
        **s.same(temperature=1.0, label_smoothing=0.0),
        "ignore_label": s.get("ignore_index", int, -1),
        "class_weights": s.get("weight", list[float], []) or None,
        "normalize": s.get("normalize_output", bool, False),
    }
    return make(CrossEntropyLoss, fields, s.path)


def _bce(s: Settings, given: Given) -> Loss:
    s.skip("reduction", "world_size")
    return make(BCELoss, {"normalize": s.get("normalize_output", bool, False)}, s.path)


LOSSES: Mapping[str, Callable[[Settings, Given], Loss]] = {
    "simclr_info_nce_loss": _simclr,
    "multicrop_simclr_info_nce_loss": _multicrop_simclr,
    "swav_loss": _swav,
    "swav_momentum_loss": _swav_momentum,
    "dino_loss": _dino,
    "ibot_loss": _ibot,
    "moco_loss": _moco,
    "barlow_twins_loss": _barlow,
    "nce_loss_with_memory": _memory_bank,
    "deepclusterv2_loss": _deepcluster,
    "cross_entropy_multiple_output_single_target": _cross_entropy,
    "bce_logits_multiple_output_single_target": _bce,
}
"""VISSL's names; every class of `torch.nn.modules.loss` is one too."""

_LATER = {
    **{
        f"{of}distillation_loss": "distillation is not imported yet, for its teacher is a model of its own"
        for of in ("", "swav_", "dino_", "ibot_", "msn_")
    },
    "msn_loss": "a placeholder in VISSL, which computes no MSN: take MSNLoss in a recipe of your own",
}
