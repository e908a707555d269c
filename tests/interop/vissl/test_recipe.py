"""Whole recipes: every part there, what is inferred said, nothing ignored unnoticed, mistakes by their paths."""

from pathlib import Path

import pytest
import torch

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.engine.parallel import Precision
from ssltyped.interop.vissl.recipe import LATER, Imported, build_model, import_config, import_trunk
from ssltyped.losses.simclr import SimCLRLossConf
from ssltyped.model.freeze import FreezeConf
from ssltyped.optimizers.decay import DecayConf
from ssltyped.optimizers.larc import LARCConf
from ssltyped.optimizers.rate import RateConf, peak_lr
from ssltyped.optimizers.torch_optim import SGDConf
from ssltyped.schedulers.composite import CompositeConf, Interval
from ssltyped.schedulers.cosine import CosineConf
from ssltyped.schedulers.curves import LinearConf
from ssltyped.trunks.resnet import ResNetConf

CONFIGS = Path(__file__).parents[2] / "golden" / "vissl_configs"
SIMCLR = "config=pretrain/simclr/simclr_8node_resnet"
SWAV = "config=pretrain/swav/swav_8node_resnet"
LINEAR = "config=benchmark/linear_image_classification/imagenet1k/eval_resnet_8gpu_transfer_in1k_linear"
SMALL = ["config.MODEL.TRUNK.RESNETS.DEPTH=18", "config.MODEL.TRUNK.RESNETS.WIDTH_MULTIPLIER=0.125"]
SMALL_HEAD = "config.MODEL.HEAD.PARAMS=[[swav_head,{dims:[64,16],use_bn:False,num_clusters:[6]}]]"
ALL = sorted(
    f"config={path.relative_to(CONFIGS / 'config').with_suffix('')}"
    for path in (CONFIGS / "config").rglob("*.yaml")
    if path.parent.name != "models"
)


def imported(*overrides: str) -> Imported:
    return import_config(CONFIGS, overrides)


@pytest.mark.parametrize("name", ALL)
def test_every_recipe_gives_parts_that_can_be_built(name: str) -> None:
    found = imported(name)
    with torch.device("meta"):
        model = build_model(found, {head.input: 1 for head in found.wired.heads.values() if head.input is not None})
    config.check(found.loss)
    config.build(found.optimizer)
    highest = max(config.build(found.schedule)(i / 2000) for i in range(2000))
    assert peak_lr(found.optimizer) == pytest.approx(highest)
    assert all(key.startswith(("trunk.", "heads.")) for key in found.layout(model).export(model))


def test_simclr_on_eight_nodes_in_full() -> None:
    found = imported(SIMCLR)
    wanted = (
        (found.trunk, ResNetConf()),
        (found.loss, SimCLRLossConf()),
        (
            found.optimizer,
            SGDConf(
                rate=RateConf(lr=4.8),
                weight_decay=1e-6,
                decay=DecayConf(norm=True),
                larc=LARCConf(trust_coefficient=0.001, clip=False),
            ),
        ),
        (
            found.schedule,
            CompositeConf(
                schedulers=[LinearConf(start=0.6, end=4.8), CosineConf(start=4.8, end=0.0)],
                lengths=[0.1, 0.9],
                intervals=[Interval.RESCALED, Interval.FIXED],
            ),
        ),
    )
    for got, want in wanted:
        if want is wanted[2][1]:  # the highest of 2000 points of the schedule
            assert config.get(got, "rate.lr") == pytest.approx(4.8, rel=0.03)
            got = config.replaced(got, {"rate.lr": 4.8})
        assert config.to_tree(got) == config.to_tree(config.check(want))
    assert (found.epochs, found.batch_size, found.seed) == (100, 64, 0)
    assert (found.precision, found.grad_clip) == (Precision.FP32, None)
    world = found.distributed
    assert [config.get(world, name) for name in ("nodes", "num_procs", "sync_bn_group")] == [8, 8, 8]
    assert found.ignored == {}


def test_on_one_node_the_warmup_goes_and_the_rows_say_so() -> None:
    found = imported(SIMCLR, "config.DISTRIBUTED.NUM_NODES=1")
    assert config.to_tree(found.schedule) == config.to_tree(CosineConf(start=0.6, end=0.0))
    rows = {row.field: row for row in found.rows}
    row = rows["config.OPTIMIZER.param_schedulers.lr.name"]
    assert (row.before, row.value, row.rule) == (
        "composite",
        "cosine",
        "0.3 x 512 images a step / 256 (linear scaling)",
    )


@pytest.mark.parametrize(
    ("group", "convert", "ranks"), [(-1, True, 8), (0, True, 16), (4, True, 4), (99, True, 16), (4, False, 1)]
)
def test_ranks_that_share_batch_norm(group: int, convert: bool, ranks: int) -> None:
    sync = "config.MODEL.SYNC_BN_CONFIG"
    settings = [f"{sync}.GROUP_SIZE={group}", f"{sync}.CONVERT_BN_TO_SYNC_BN={convert}"]
    found = imported(SIMCLR, "config.DISTRIBUTED.NUM_NODES=2", *settings)
    assert config.get(found.distributed, "sync_bn_group") == ranks


def test_gradients_are_clipped_and_the_forward_pass_is_in_single_precision_if_they_say_so() -> None:
    assert imported(SWAV).precision is Precision.FP16
    clip = ["config.MODEL.GRAD_CLIP.USE_GRAD_CLIP=True", "config.MODEL.GRAD_CLIP.MAX_NORM=3"]
    found = imported(SIMCLR, *clip, "config.MODEL.AMP_PARAMS.USE_AMP=False")
    assert (found.grad_clip, found.precision) == (3.0, Precision.FP32)
    with pytest.raises(ConfigError, match="want 2"):
        imported(SIMCLR, *clip, "config.MODEL.GRAD_CLIP.NORM_TYPE=inf")


def test_prototypes_are_frozen_for_some_steps_by_our_name() -> None:
    names = "['module.heads.0.prototypes0.weight',5],['module.heads.0.projection_head.0.bias',0]"
    frozen = f"config.MODEL.TEMP_FROZEN_PARAMS_ITER_MAP=[{names}]"
    found = imported(SWAV, *SMALL, SMALL_HEAD, frozen)
    wanted = [FreezeConf(parts=["heads.head.prototypes.0.weight"], steps=5)]
    assert config.to_tree(found.freeze) == config.to_tree(wanted)


def test_parameters_are_frozen_for_ever_by_our_name() -> None:
    name = "config.MODEL.NON_TRAINABLE_PARAMS=['trunk._feature_blocks.conv1.weight']"
    assert config.to_tree(imported(SIMCLR, name).freeze) == config.to_tree([FreezeConf(parts=["trunk.conv1.weight"])])
    with pytest.raises(ConfigError, match=r"no parameter 'trunk\.conv1\.weight'"):
        imported(SIMCLR, "config.MODEL.NON_TRAINABLE_PARAMS=['trunk.conv1.weight']")


def test_a_linear_evaluation_freezes_the_trunk_whose_weights_are_one_level_down() -> None:
    found = imported(LINEAR)
    assert config.to_tree(found.freeze) == config.to_tree([FreezeConf(parts=["trunk"])])
    assert found.trunk_prefix == "trunk.base_model."
    with torch.device("meta"):
        model = build_model(found, {})
    assert not any(parameter.requires_grad for parameter in model.trunk.parameters())
    assert all(parameter.requires_grad for parameter in model.heads.parameters())
    assert (model.trunk.training, model.heads.training) == (False, True)
    features = ["conv1", "res2", "res3", "res4", "res5", "res5avg", "res5avg"]
    assert [head.feature for head in found.wired.heads.values()] == features
    assert list(found.wired.heads) == [*features[:-1], "res5avg_2"]
    both = imported(LINEAR, "config.MODEL.FEATURE_EVAL_SETTINGS.FREEZE_TRUNK_AND_HEAD=True")
    assert config.to_tree(both.freeze) == config.to_tree([FreezeConf(parts=["trunk", "heads"])])


def test_what_is_not_imported_yet_is_listed_with_its_values() -> None:
    found = imported(SIMCLR, "config.DATA.TRAIN.DATA_PATHS=[/images]", "config.HOOKS.CHECK_NAN=False")
    assert found.left_out["config.DATA.TRAIN.DATA_PATHS"] == ["/images"]
    assert found.left_out["config.HOOKS.CHECK_NAN"] is False
    assert all(any(path == root or path.startswith(f"{root}.") for root in LATER) for path in found.left_out)


def test_what_vissl_does_not_read_either_is_listed() -> None:
    found = imported(SIMCLR, "config.LOSS.moco_loss.momentum=0.5", "config.MODEL.TRUNK.XCIT.ETA=2")
    assert found.ignored == {"config.LOSS.moco_loss.momentum": 0.5, "config.MODEL.TRUNK.XCIT.ETA": 2}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "+config.OPTIMIZER.momentun=0.9",
            "config.OPTIMIZER.momentun: is not known; did you mean 'config.OPTIMIZER.mom",
        ),
        (
            "+config.MODEL.INPUT_TYP=lab",
            "config.MODEL.INPUT_TYP: is not known; did you mean 'config.MODEL.INPUT_TYPE'?",
        ),
        ("+config.LOSS.simclr_info_nce_loss.temprature=1", "config.LOSS.simclr_info_nce_loss.temprature: is not known"),
        ("+config.MODEL.TRUNK.RESNETS.DEPT=18", "config.MODEL.TRUNK.RESNETS.DEPT: is not known"),
        ("config.MODEL.BASE_MODEL_NAME=other", "config.MODEL.BASE_MODEL_NAME: is not known"),
        ("config.MODEL.TRUNK.NAME=vision_transformer", "reads 2048, but 'lastCLS' is 768 wide"),
        ("config.LOSS.name=simclr_info_nse", "did you mean 'simclr_info_nce_loss'?"),
    ],
)
def test_mistakes_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imported(SIMCLR, override)
    assert message in str(caught.value)


def test_a_trunk_alone_comes_with_its_default_feature() -> None:
    conf, feature = import_trunk(CONFIGS, [SIMCLR, *SMALL])
    assert config.to_tree(conf) == config.to_tree(ResNetConf(depth=18, width_multiplier=0.125))
    assert feature == "flatten"


@pytest.mark.parametrize(
    ("overrides", "feature"),
    [
        (["NAME=beit"], "lastCLS"),
        (["NAME=swin_transformer"], "lastPOOL"),
        (["NAME=vision_transformer"], "lastCLS"),
        (["NAME=convit", "VISION_TRANSFORMERS.CLASSIFIER=gap"], "lastPOOL"),
        (["NAME=mobilenetv3_timm"], "global_pool"),
    ],
)
def test_heads_that_ask_for_no_feature_read_what_vissl_gives(overrides: list[str], feature: str) -> None:
    assert import_trunk(CONFIGS, [SIMCLR, *(f"config.MODEL.TRUNK.{text}" for text in overrides)])[1] == feature


def test_a_small_model_computes() -> None:
    found = imported(SWAV, *SMALL, SMALL_HEAD, "config.MODEL.TEMP_FROZEN_PARAMS_ITER_MAP=[]")
    model = build_model(found, {})
    z, scores = model([torch.randn(2, 3, 32, 32), torch.randn(2, 3, 24, 24)]).all_of("head")
    assert (z.shape, scores.shape) == ((4, 16), (4, 6))
