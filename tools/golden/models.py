"""Recorded trunks, models and training steps of VISSL: composed from its YAML, built, filled and run through ours.

Weights are those of a closed formula over VISSL's names (`fill`), so they go through the importer of its weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Optional, TypeAlias, cast

import torch
from pydantic import JsonValue, TypeAdapter
from torch import Tensor, nn

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.resolve import resolve
from ssltyped.engine.parallel import Rates
from ssltyped.engine.step import Step
from ssltyped.engine.strategy import Strategy
from ssltyped.heads.plumbing import SiameseConcatHead
from ssltyped.interop.vissl.recipe import Imported, build_model, import_config, import_trunk
from ssltyped.interop.vissl.yaml import NO_FILE, compose
from ssltyped.model.freeze import Frozen
from ssltyped.model.model import SSLModel
from ssltyped.trunks.alexnet import AlexNet
from ssltyped.trunks.resnet import ResNetSK
from ssltyped.types import Batch, Facts, Loss, Moment, Outputs, StepOutput, Trunk, Update
from ssltyped.weights.layout import Layout
from ssltyped.weights.vissl import trunk_layout

RawCase: TypeAlias = Mapping[str, JsonValue]
Arrays: TypeAlias = Callable[[JsonValue], Tensor]
Fill: TypeAlias = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
"""The state dict of the closed formula with the keys and shapes of another one."""

Result: TypeAlias = dict[str, object]

DEFAULT, PROBE, NOTHING = "<default>", "<order probe", "<default, out_feat_keys=[]>"
SAMPLES = ("mean", "abs_mean", "std", "samples", "sample_index")

EXCUSED: Sequence[tuple[str, Callable[[RawCase], bool], str]] = (
    (
        "trunk_forward",
        lambda case: "bvlc" in str(case["name"]),
        "its forward pass raises TypeError in VISSL: nothing can have been recorded",
    ),
)
"""Component, which of its cases, and the bug of VISSL that they recorded. The others with one are run with it put back:
an AlexNet's `flatten` that flattens nothing, a ResNet-SK whose every feature is the pooled one, standardized
convolutions that are not, and features that come in the order of the network."""


def lacking(case: RawCase, configs: Path) -> str:
    """The YAML files that a case names and that are not here; empty if all are."""
    overrides = case.get("overrides", _mapping(case.get("params", {})).get("overrides"))
    try:
        compose(configs, _strings(overrides))
    except ConfigError as error:
        gone = [problem.path for problem in error.problems if problem.message.startswith(NO_FILE)]
        return f"{', '.join(gone)} {'is' if len(gone) == 1 else 'are'} not here" if gone else ""
    return ""


def trunk_listing(case: RawCase, configs: Path) -> list[str]:
    """What is wrong with one listing of a trunk: keys, shapes, numbers of parameters, shapes of features."""
    expected = TypeAdapter(dict[str, JsonValue]).validate_python(case["expected"])
    try:
        conf, default = import_trunk(configs, _strings(case["overrides"]))
    except ConfigError as error:
        return [str(error)]
    with torch.device("meta"):
        trunk = config.build(conf)
    state = {key: list(value.shape) for key, value in _layout(trunk).export(trunk).items()}
    shapes = TypeAdapter(dict[str, list[int]]).validate_python(expected["state_dict"])
    wrong = [f"{key}: {state.get(key)}, recorded {shape}" for key, shape in shapes.items() if state.get(key) != shape]
    wrong += [f"{key}: not recorded" for key in state if key not in shapes]
    known = [p for key, p in trunk.named_parameters() if _layout(trunk).name(key) in shapes]
    for name, count in (
        ("num_params", sum(p.numel() for p in known)),
        ("num_trainable", sum(p.numel() for p in known if p.requires_grad)),
    ):
        if count != expected[name]:
            wrong.append(f"{name}: {count}, recorded {expected[name]}")
    size = TypeAdapter(int).validate_python(case["image_size"])
    features = TypeAdapter(dict[str, JsonValue]).validate_python(expected["feature_shapes_batch1"])
    return [*wrong, *_wrong_shapes(trunk.eval(), size, features, default)]


def _wrong_shapes(trunk: Trunk, size: int, recorded: Mapping[str, JsonValue], default: str) -> Iterator[str]:
    images = torch.empty(1, 3, size, size, device="meta")
    for name, shape in recorded.items():
        if name.startswith(PROBE):  # VISSL gives features in the order of the network, ours as asked
            continue
        wanted = [default] if name == NOTHING else [_asked(trunk, name, default)]
        want = shape[0] if name == NOTHING and isinstance(shape, list) else shape
        got = list(_as_recorded(trunk, wanted[0], trunk(images, wanted)[0]).shape)
        if got != want:
            yield f"{name}: the shape {got}, recorded {want}"


def trunk_forward(case: RawCase, arrays: Arrays, configs: Path, fill: Fill) -> Result:
    """Means and samples of each feature that was recorded, in eval mode."""
    params = _mapping(case["params"])
    conf, default = import_trunk(configs, _strings(params["overrides"]))
    trunk = config.build(conf)
    _load(trunk, _layout(trunk), fill)
    trunk.eval()
    inputs, expected = _mapping(case["inputs"]), _mapping(case["expected"])
    repeat = int(arrays(inputs["repeat"])) if "repeat" in inputs else 1
    images = arrays(inputs["x"]).repeat_interleave(repeat, dim=2).repeat_interleave(repeat, dim=3)
    names = list(expected)
    asked = {name: _asked(trunk, name, default) for name in names}
    unique = list(dict.fromkeys(asked.values()))
    with torch.no_grad():
        features = dict(zip(unique, trunk(images, unique), strict=True))
    return {
        name: _summary(
            _as_recorded(trunk, asked[name], features[asked[name]]), arrays(_mapping(expected[name])["sample_index"])
        )
        for name in names
    }


def _asked(trunk: Trunk, name: str, default: str) -> str:
    """Our name of a recorded feature; a ResNet-SK of VISSL gives the pooled one under all names."""
    return "flatten" if isinstance(trunk, ResNetSK) else default if name == DEFAULT else name


def _as_recorded(trunk: Trunk, name: str, feature: Tensor) -> Tensor:
    """Flattening leaves an AlexNet's map as it is there."""
    if isinstance(trunk, AlexNet) and name == "flatten":
        channels = trunk.feature_dims["pool5"]
        side = round((feature.shape[1] // channels) ** 0.5)
        return feature.reshape(len(feature), channels, side, side)
    return feature


def _summary(feature: Tensor, index: Tensor) -> Result:
    x = feature.double()
    values = (x.mean(), x.abs().mean(), x.std(), feature.contiguous().flatten()[index.long()], index)
    return dict(zip(SAMPLES, values, strict=True))


def model_forward(case: RawCase, arrays: Arrays, configs: Path, fill: Fill) -> Result:
    """All outputs of the heads."""
    params = _mapping(case["params"])
    imported = import_config(configs, _strings(params["overrides"]))
    batch = _tree(_mapping(case["inputs"])["batch"], arrays)
    views, views_of = _views(batch, imported)
    model = build_model(imported, views_of)
    _load(model, imported.layout(model), fill)
    model.train(params.get("mode") == "train")
    with torch.no_grad():
        return {"outputs_flat": _flat(model(views))}


def train_steps(case: RawCase, arrays: Arrays, configs: Path, fill: Fill) -> Result:
    """Loss and learning rates of each step, the outputs of the first one, and a summary of the weights at the end."""
    params, inputs = _mapping(case["params"]), _mapping(case["inputs"])
    imported = import_config(configs, [*_strings(params["overrides"]), *_loss_overrides(params, configs)])
    batches = [_batch(*pair, imported) for pair in zip(*_lists(inputs, arrays), strict=True)]
    model = build_model(imported, _views_of(imported, len(batches[0].views)))
    layout = imported.layout(model)
    _load(model, layout, fill)
    step = _step(model, imported, batches)
    where = TypeAdapter(list[float]).validate_python(params["where_per_step"])
    schedule = config.build(imported.schedule)
    expected = _mapping(case["expected"])
    result: Result = {}
    seen: list[list[Tensor]] = []
    hook = model.register_forward_hook(lambda _, __, found: seen.append([x.detach().clone() for x in _flat(found)]))
    for number, (batch, progress) in enumerate(zip(batches, where, strict=True)):
        # A schedule that changes once an epoch stays where the first step found it.
        lr = schedule(progress if schedule.update is Update.STEP else where[0])
        (output,) = step([batch], Rates(lr=lr), Moment(number, len(where), len(where)), _nothing)
        result[f"loss_step{number}"] = output.loss.detach()
        groups = len(arrays(expected[f"lr_step{number}"]))
        result[f"lr_step{number}"] = _rates(step.optimizer, groups)
    hook.remove()
    result["outputs_step0"] = seen[0]
    state = layout.export(model)
    kept = _mapping(expected["state_summary_after_3_steps"])
    result["state_summary_after_3_steps"] = {key: _weights(value) for key, value in state.items() if key in kept}
    return result


def _step(model: SSLModel, imported: Imported, batches: Sequence[Batch]) -> Step:
    loss = _loss(imported.loss, model, batches[0])
    strategy = Strategy(torch.device("cpu"))
    module = strategy.prepare(model, loss)
    # What is frozen for a while was frozen for one step there, however long the recipe says.
    frozen = [config.replaced(part, {"steps": 1}) for part in imported.freeze if part.steps is not None]
    return Step(
        module=module,
        strategy=strategy,
        optimizer=config.build(imported.optimizer)(module),
        grad_clip=imported.grad_clip,
        frozen=Frozen(model, frozen),
    )


def _loss(conf: Loss, model: SSLModel, batch: Batch) -> Loss:
    """The method, with what it infers from the model and the batch."""
    facts = Facts(
        world_size=1,
        ranks_per_node=1,
        batch_size=len(batch.index),
        accumulation=1,
        num_views=len(batch.views),
        crop_sizes=tuple(view.shape[-1] for view in batch.views),
        feature_dims=model.trunk.feature_dims,
        heads=tuple(model.heads),
        output_dims={name: tuple(_out_dims(head)) for name, head in model.heads.items()},
        train_labelled=True,
        num_images=1000,
        epochs=1,
    )
    return config.build(resolve(conf, lambda _: facts).config)


def _out_dims(head: nn.Module) -> Sequence[int]:
    return cast("Sequence[int]", head.out_dims)


def _rates(optimizer: torch.optim.Optimizer, groups: int) -> list[float]:
    """As many learning rates as groups were recorded: first those of the trunk, then those of the heads."""
    ours = [(str(group["name"]), float(group["lr"])) for group in optimizer.param_groups]
    trunk = [lr for name, lr in ours if name.startswith("trunk")] or [ours[0][1]]
    heads = [lr for name, lr in ours if name.startswith("head")] or [ours[-1][1]]
    return [trunk[0]] * (groups // 2) + [heads[0]] * (groups - groups // 2)


def _flat(found: Outputs) -> list[Tensor]:
    """All outputs in a row; of a model without heads its features."""
    return [x for outputs in found.heads.values() for x in outputs] or list(found.features.values())


def _weights(value: Tensor) -> list[float]:
    """Sum, sum of absolute values, first four values."""
    x = value.double()
    return [float(x.sum()), float(x.abs().sum()), *x.flatten()[:4].tolist()]


def _nothing(batch: Batch, output: StepOutput) -> None: ...


def _loss_overrides(params: Mapping[str, JsonValue], configs: Path) -> list[str]:
    """What was set on the loss after VISSL's inference, as overrides."""
    changes = _mapping(params.get("loss_overrides_after_inference") or {})
    run = compose(configs, _strings(params["overrides"]))["config"]
    assert isinstance(run, dict)
    section = run["LOSS"]
    assert isinstance(section, dict)
    return [f"++config.LOSS.{section['name']}.{path}={_written(value)}" for path, value in _leaves(changes)]


def _leaves(values: Mapping[str, JsonValue], path: str = "") -> Iterator[tuple[str, JsonValue]]:
    """Each value that is no mapping, with its path."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _written(value: JsonValue) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return "null" if value is None else f"'{value}'" if isinstance(value, str) else str(value)


def _lists(inputs: Mapping[str, JsonValue], arrays: Arrays) -> tuple[Sequence[object], Sequence[object]]:
    batches, targets = _tree(inputs["batches"], arrays), _tree(inputs["targets"], arrays)
    assert isinstance(batches, list)
    assert isinstance(targets, list)
    return batches, targets


def _batch(images: object, target: object, imported: Imported) -> Batch:
    views, _ = _views(images, imported)
    assert isinstance(target, Tensor)
    count = len(views[0])
    return Batch(views=tuple(views), index=torch.arange(count), label=target[:count])


def _views(batch: object, imported: Imported) -> tuple[list[Tensor], dict[str, int]]:
    """A batch as VISSL's collator makes it, as views: the rows of all views of an image stand together there (towers),
    or all of one view (simclr_collator), or each view is a tensor, or there is a tensor for each input."""
    towers = _towers(imported)
    if isinstance(batch, list):
        return list(batch), _views_of(imported, len(batch))
    if isinstance(batch, Mapping):
        views: list[Tensor] = []
        views_of: dict[str, int] = {}
        order = [str(head.input) for head in imported.wired.heads.values()]
        for name, side_by_side in zip(order, towers, strict=True):
            count = side_by_side or 1
            views += _split(batch[name], count)
            views_of[name] = count
        return views, views_of
    assert isinstance(batch, Tensor)
    siamese = next((number for number in towers if number), None)
    if siamese is None and _collator(imported) == "simclr_collator":
        views = list(batch.chunk(2))
        return views, {"images": 2}
    views = _split(batch, siamese or 1)
    return views, {"images": len(views)}


def _views_of(imported: Imported, views: int) -> dict[str, int]:
    return {"images": views}


def _collator(imported: Imported) -> Optional[object]:
    return imported.left_out.get("config.DATA.TRAIN.COLLATE_FUNCTION")


def _split(rows: object, count: int) -> list[Tensor]:
    """View v of each image, for rows in which the `count` views of an image stand together."""
    assert isinstance(rows, Tensor)
    return [rows[view::count] for view in range(count)]


def _towers(imported: Imported) -> list[Optional[int]]:
    """For each head, how many views of an image it puts side by side."""
    found: list[Optional[int]] = []
    for head in imported.wired.heads.values():
        parts = [part for _, part in config.walk(head)]
        kinds = {config.part_of(part).kind: part for part in parts}
        siamese = kinds.get(SiameseConcatHead)
        found.append(None if siamese is None else cast(SiameseConcatHead, siamese).num_towers)
    return found


def _load(module: nn.Module, layout: Layout, fill: Fill) -> None:
    layout.load(module, fill(layout.export(module)))


def _layout(trunk: Trunk) -> Layout:
    return trunk_layout(trunk)


def _tree(node: JsonValue, arrays: Arrays) -> object:
    """A node with arrays in the place of references."""
    if isinstance(node, list):
        return [_tree(item, arrays) for item in node]
    if isinstance(node, dict) and "npz" not in node and "value" not in node:
        return {key: _tree(item, arrays) for key, item in node.items()}
    return arrays(node)


def _mapping(value: JsonValue) -> dict[str, JsonValue]:
    return TypeAdapter(dict[str, JsonValue]).validate_python(value)


def _strings(value: JsonValue) -> list[str]:
    return TypeAdapter(list[str]).validate_python(value)
