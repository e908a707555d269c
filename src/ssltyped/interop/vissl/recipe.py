"""A recipe of VISSL, its YAML files and overrides, to typed configs of ours.

    imported = import_config(Path("vissl/configs"), ["config=pretrain/simclr/simclr_8node_resnet"])

Model, method, optimizer and schedule are imported; what VISSL infers about them (the scaled learning rate, a warmup
left out on one node, a shortened queue) is computed as VISSL does and listed in `Imported.rows`. Every key that was
given and is not the default is read, or is in one of two tables of the result, or is an error that names it:

    left_out    what this importer does not make yet (data, callbacks, checkpoints, meters, machines; `LATER`)
    ignored     what VISSL does not read either, in any run or with this trunk, loss and optimizer (`UNREAD`, `ONE_OF`)
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import torch

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.hints import nearest
from ssltyped.config.resolve import Row
from ssltyped.engine.parallel import Distributed, Precision
from ssltyped.interop.vissl.losses import Given, loss
from ssltyped.interop.vissl.optimizer import Weights, training
from ssltyped.interop.vissl.schedules import Size
from ssltyped.interop.vissl.settings import Settings, changed, covered, make
from ssltyped.interop.vissl.trunks import trunk
from ssltyped.interop.vissl.wiring import Wired, wiring
from ssltyped.interop.vissl.yaml import ROOT, Tree, Value, compose, read
from ssltyped.model.freeze import Freeze, for_ever
from ssltyped.model.model import SSLModel
from ssltyped.trunks.beit import BEiT
from ssltyped.trunks.libraries import TimmTrunk
from ssltyped.trunks.resnet import ResNet
from ssltyped.types import Loss, Optimizer, Problem, Scheduler, Trunk
from ssltyped.weights.vissl import EVALUATED, ModelLayout, model_layout

_LATER: Mapping[str, Sequence[str]] = {
    "sources, transforms, collation": ("DATA",),
    "callbacks": ("HOOKS", "MONITORING", "PROFILING"),
    "meters": ("METERS",),
    "checkpoints": ("CHECKPOINT",),
    "weights to start from": ("MODEL.WEIGHTS_INIT",),
    "machines": ("MACHINE", "DISTRIBUTED", "SLURM", "MULTI_PROCESSING_METHOD", "REPRODUCIBILITY"),
    "memory of machines": ("MODEL.CUDA_CACHE", "MODEL.FSDP_CONFIG", "MODEL.SHARDED_DDP_SETUP"),
    "the engine": ("TRAINER",),
    "evaluation": ("TEST_ONLY", "TEST_MODEL", "TEST_EVERY_NUM_EPOCH", "MODEL.FEATURE_EVAL_SETTINGS"),
    "features, for other programs": ("EXTRACT_FEATURES", "CLUSTERFIT", "RANKING", "GEO_LOCALIZATION"),
    "benchmarks": ("SVM", "SVM_FEATURES_PATH", "IMG_RETRIEVAL", "NEAREST_NEIGHBOR", "LOW_SHOT_BENCHMARK"),
    "a teacher": ("DISTILLATION",),
    "logging": ("VERBOSE", "LOG_FREQUENCY"),
}

LATER = {"engine_name", *(f"config.{key}" for keys in _LATER.values() for key in keys)}
"""What is not imported yet."""

UNREAD = {"VERSION", "node_id", "DISTRIBUTED", "MONITOR_PERF_STATS", "engine", "config.MONITOR_PERF_STATS"}
"""What VISSL reads in no run."""

UNSUPPORTED = dict.fromkeys(
    ("config.MODEL.HEAD.BATCHNORM_EPS", "config.MODEL.HEAD.BATCHNORM_MOMENTUM"),
    "only the norms of an mlp, eval_mlp or swav_head take it, and there is none: leave it at its default",
)
"""What VISSL has and we have not."""

ONE_OF = ("config.MODEL.TRUNK", "config.LOSS")
"""Sections of sections, of which a run reads those of its trunk and its loss."""


@dataclasses.dataclass(frozen=True)
class Imported:
    """The parts of an `Experiment` that a recipe of VISSL says.

    Args:
        trunk: the config of the trunk; so are heads, loss, optimizer, schedule and freeze configs.
        wired: the heads, and which feature of which input each reads.
        loss: the method.
        optimizer: with its parameter groups; `lr` is the highest value of the schedule.
        schedule: of the learning rate, with all its values.
        epochs: passes over the images.
        freeze: parts that do not learn.
        grad_clip: largest norm of the gradient; None: not clipped.
        precision: of the forward pass.
        distributed: processes, nodes, and how many ranks share BatchNorm statistics.
        batch_size: images a rank.
        seed: of the run.
        trunk_prefix: what VISSL's names of the trunk's weights start with.
        rows: what was changed, and by which rule.
        left_out: values that are not imported yet, by path.
        ignored: values that VISSL itself does not read here, by path.
    """

    trunk: Trunk
    wired: Wired
    loss: Loss
    optimizer: Optimizer
    schedule: Scheduler
    epochs: int
    freeze: list[Freeze]
    grad_clip: Optional[float]
    precision: Precision
    distributed: Distributed
    batch_size: int
    seed: int
    trunk_prefix: str
    rows: tuple[Row, ...]
    left_out: Mapping[str, Value] = dataclasses.field(default_factory=dict)
    ignored: Mapping[str, Value] = dataclasses.field(default_factory=dict)

    def layout(self, model: SSLModel) -> ModelLayout:
        """VISSL's names for the weights of the model that `build_model` makes."""
        return model_layout(model, self.wired.leaves, self.trunk_prefix)


def import_config(configs: Path, overrides: Sequence[str]) -> Imported:
    """The recipe that VISSL would run with these overrides; `configs` is its folder of `defaults.yaml` and `config/`.

    Raises `ConfigError` for a file, a key or a value that does not exist, and for what cannot be imported.
    """
    tree = compose(configs, overrides)
    top = Settings(tree, "", set()).at("config")
    imported = _imported(top)
    left_out, ignored, problems = _rest(tree, read(configs / ROOT), top.read)
    if problems:
        raise ConfigError(problems)
    return dataclasses.replace(imported, left_out=left_out, ignored=ignored)


def import_trunk(configs: Path, overrides: Sequence[str]) -> tuple[Trunk, str]:
    """The config of the trunk alone, and the feature that heads read who ask for none. Raises `ConfigError`."""
    its_trunk = trunk(Settings(compose(configs, overrides), "", set()).at("config", "MODEL"))
    return its_trunk, _features(its_trunk)[1]


def _features(its_trunk: Trunk) -> tuple[Mapping[str, int], str]:
    """Its features with their widths; what VISSL's trunk gives when asked for nothing: the last, but for two trunks."""
    with torch.device("meta"):
        dims = config.build(its_trunk, "config.MODEL.TRUNK").feature_dims
    others: Mapping[type, str] = {BEiT: "lastCLS", TimmTrunk: "global_pool"}
    return dims, others.get(config.part_of(its_trunk).kind, list(dims)[-1])


def build_model(imported: Imported, views_of: Mapping[str, int]) -> SSLModel:
    """The model, what never learns frozen; `views_of` is the number of views of each of its inputs."""
    wired = imported.wired
    return SSLModel(
        trunk=config.build(imported.trunk, "trunk"),
        heads={name: config.build(head, f"heads.{name}") for name, head in wired.heads.items()},
        views_of=views_of,
        passes=wired.passes,
        frozen=for_ever(imported.freeze),
        extra=wired.extra,
    )


def _imported(top: Settings) -> Imported:
    rows: list[Row] = []
    model, machines, amp = top.at("MODEL"), top.at("DISTRIBUTED"), top.at("MODEL", "AMP_PARAMS")
    nodes, procs = machines.get("NUM_NODES", int, 1), machines.get("NUM_PROC_PER_NODE", int, 8)
    batch = top.at("DATA", "TRAIN").get("BATCHSIZE_PER_REPLICA", int, 256)
    its_trunk = trunk(model)
    wired = wiring(model, *_features(its_trunk), rows)
    frozen, pooled = _frozen_parts(model), model.at("FEATURE_EVAL_SETTINGS").values.get("LINEAR_EVAL_FEAT_POOL_OPS_MAP")
    # A frozen trunk whose features are pooled is one level further down.
    prefix = EVALUATED if frozen and pooled else "trunk."
    theirs, ours = _names(its_trunk, wired, prefix)
    sync = _sync_bn(model, nodes * procs, procs)
    ranks = {"nodes": nodes, "num_procs": procs, "sync_bn_group": sync}
    amp.skip("AMP_ARGS", "AMP_TYPE")
    trained = training(
        top.at("OPTIMIZER"),
        Size(images=batch * nodes * procs, images_of_a_node=batch * procs, nodes=nodes, epochs=0),
        Weights(theirs, of_resnet=config.part_of(its_trunk).kind is ResNet),
        rows,
    )
    return Imported(
        trunk=its_trunk,
        wired=wired,
        loss=loss(top.at("LOSS"), Given(batch * nodes * procs, sync != 1, wired.feature_of, list(wired.heads), rows)),
        optimizer=trained.optimizer,
        schedule=trained.schedule,
        epochs=trained.epochs,
        freeze=_freeze(model, frozen, ours),
        grad_clip=_grad_clip(model),
        # Both of VISSL's ways to mixed precision compute in float16 with a scaled loss.
        precision=Precision.FP16 if amp.get("USE_AMP", bool, False) else Precision.FP32,
        distributed=make(Distributed, ranks, "config.DISTRIBUTED"),
        batch_size=batch,
        seed=top.get("SEED_VALUE", int, 0),
        trunk_prefix=prefix,
        rows=tuple(rows),
    )


def _frozen_parts(model: Settings) -> list[str]:
    """The trunk (and the heads) of an evaluation."""
    evaluation = model.at("FEATURE_EVAL_SETTINGS")
    if not evaluation.get("EVAL_MODE_ON", bool, False):
        return []
    if evaluation.get("FREEZE_TRUNK_AND_HEAD", bool, False):
        return ["trunk", "heads"]
    return ["trunk"] if evaluation.get("FREEZE_TRUNK_ONLY", bool, False) else []


def _names(its_trunk: Trunk, wired: Wired, prefix: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """VISSL's name of each of our parameters (ours where theirs is not known), and our name for each of theirs."""
    try:
        with torch.device("meta"):
            heads = {name: config.build(head, f"heads.{name}") for name, head in wired.heads.items()}
            views_of = {str(head.input): 1 for head in wired.heads.values()} if len(heads) > 1 else {}
            model = SSLModel(trunk=config.build(its_trunk), heads=heads, views_of=views_of)
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError([Problem("config.MODEL", str(error))]) from error
    try:
        known: Mapping[str, str] = model_layout(model, wired.leaves, prefix).names
    except ValueError:
        known = {}
    # A parameter that two modules share has two names there, and one here.
    first = {parameter: name for name, parameter in model.named_parameters()}
    places = list(model.named_parameters(remove_duplicate=False))
    theirs = {name: known.get(name, name) for name in first.values()}
    return theirs, {known.get(name, name): first[parameter] for name, parameter in places}


def _freeze(model: Settings, parts: Sequence[str], names: Mapping[str, str]) -> list[Freeze]:
    """What does not learn: these parts for ever, and parameters by name, for ever or for some steps."""
    key = "NON_TRAINABLE_PARAMS"
    for_ever = [*parts, *(_ours(name, names, model, key) for name in model.get(key, list[str], []))]
    until: dict[int | None, list[str]] = {None: for_ever}
    key = "TEMP_FROZEN_PARAMS_ITER_MAP"
    for name, steps in model.get(key, list[tuple[str, int]], []):
        if "_fsdp_wrapped_module" not in name:  # the other name of a parameter that is listed by its plain one too
            until.setdefault(steps, []).append(_ours(name.removeprefix("module."), names, model, key))
    return [
        make(Freeze, {"parts": list(dict.fromkeys(frozen)), "steps": steps}, model.path)
        for steps, frozen in until.items()
        if frozen and steps != 0
    ]


def _ours(theirs: str, names: Mapping[str, str], model: Settings, key: str) -> str:
    if theirs not in names:
        raise model.wrong(key, f"the model has no parameter {theirs!r}{nearest(theirs, list(names))}")
    return names[theirs]


def _grad_clip(model: Settings) -> Optional[float]:
    section = model.at("GRAD_CLIP")
    norm, most = section.get("NORM_TYPE", float, 2.0), section.get("MAX_NORM", float, 1.0)
    if not section.get("USE_GRAD_CLIP", bool, False):
        return None
    if norm != 2:
        raise section.wrong("NORM_TYPE", "the norm is the Euclidean one: want 2")
    return most


def _sync_bn(model: Settings, world: int, procs: int) -> int:
    """How many ranks share the statistics of BatchNorm; 0 asks for all, less than 0 for those of a node."""
    section = model.at("SYNC_BN_CONFIG")
    section.skip("SYNC_BN_TYPE")
    group = section.get("GROUP_SIZE", int, -1)
    if not section.get("CONVERT_BN_TO_SYNC_BN", bool, False):
        return 1
    return min(world, group) if group > 0 else world if group == 0 else procs


def _rest(tree: Tree, defaults: Tree, read_keys: set[str]) -> tuple[dict[str, Value], dict[str, Value], list[Problem]]:
    """What was not read: left for later, ignored as VISSL does, or wrong."""
    left_out: dict[str, Value] = {}
    ignored: dict[str, Value] = {}
    problems: list[Problem] = []
    for path, value in changed(tree, defaults):
        if covered(path, read_keys):
            continue
        if covered(path, LATER):
            left_out[path] = value
        elif covered(path, UNREAD) or _of_another(path, read_keys):
            ignored[path] = value
        else:
            known = nearest(path, sorted(read_keys | LATER))
            problems.append(Problem(path, UNSUPPORTED.get(path, f"is not known{known}")))
    return left_out, ignored, problems


def _of_another(path: str, read_keys: set[str]) -> bool:
    """Whether a value is in the section of a trunk or a loss that this run does not have."""
    for root in ONE_OF:
        if path.startswith(f"{root}."):
            section = ".".join(path.split(".")[: root.count(".") + 2])
            return not any(covered(key, {section}) for key in read_keys)
    return False
