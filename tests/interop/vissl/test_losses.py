"""Losses from VISSL's settings: its defaults, its inferred queue, its words for ours, what is left for later."""

import pytest

from ssltyped import config
from ssltyped.config import ConfigError
from ssltyped.config.resolve import Row
from ssltyped.interop.vissl.losses import LOSSES, Given, loss
from ssltyped.interop.vissl.settings import Settings
from ssltyped.interop.vissl.yaml import Tree
from ssltyped.losses.barlow_twins import BarlowTwinsLossConf, Standardize
from ssltyped.losses.deepcluster import DeepClusterV2LossConf
from ssltyped.losses.dino import DINOLossConf
from ssltyped.losses.ibot import IBOTLossConf
from ssltyped.losses.moco import MoCoLossConf
from ssltyped.losses.npid import Contrast, MemoryBankLossConf
from ssltyped.losses.simclr import MultiCropSimCLRLossConf, SimCLRLossConf
from ssltyped.losses.supervised import BCELossConf, CrossEntropyLossConf, TorchLossConf
from ssltyped.losses.swav import SwAVLossConf
from ssltyped.types import Loss

CASES: list[tuple[str, Tree, Loss]] = [
    ("simclr_info_nce_loss", {"temperature": 0.3, "buffer_params": {"world_size": 9}}, SimCLRLossConf(temperature=0.3)),
    ("multicrop_simclr_info_nce_loss", {"num_crops": 4}, MultiCropSimCLRLossConf()),
    (
        "swav_loss",
        {"queue": {"queue_length": 30, "start_iter": 5}, "temp_hard_assignment_iters": 3, "shk_powerlaw": 0.5},
        SwAVLossConf(queue_size=24, queue_start_steps=5, hard_assignment_steps=3, power_law=0.5),
    ),
    (
        "swav_loss",
        {"queue": {"queue_length": 7, "start_iter": 5}, "normalize_last_layer": False},
        SwAVLossConf(normalize_prototypes=False),
    ),
    ("swav_momentum_loss", {"momentum": 0.9, "use_double_precision": True}, SwAVLossConf(momentum=0.9)),
    (
        "dino_loss",
        {"teacher_temp_min": 0.03, "teacher_temp_max": 0.05, "teacher_temp_warmup_iters": 7, "ema_center": 0.8},
        DINOLossConf(
            warmup_teacher_temperature=0.03,
            teacher_temperature=0.05,
            temperature_warmup_steps=7,
            center_momentum=0.8,
        ),
    ),
    (
        "ibot_loss",
        {"teacher_temp": 0.07, "lambda2": 0.5, "mim_start_epoch": 2},
        IBOTLossConf(
            local_feature="lastPOOL",
            temperature_warmup_epochs=30.0,
            lambda_patch=0.5,
            masking_start_epochs=2.0,
        ),
    ),
    ("moco_loss", {"queue_size": 32}, MoCoLossConf(embedding_dim=128, queue_size=32, shuffle=False)),
    (
        "barlow_twins_loss",
        {"lambda_": 0.1, "scale_loss": 0.5},
        BarlowTwinsLossConf(lambda_off=0.1, scale=0.5, standardize=Standardize.JOINT),
    ),
    (
        "nce_loss_with_memory",
        {
            "loss_type": "cross_entropy",
            "loss_weights": [0.5, 0.5],
            "update_mem_with_emb_index": 1,
            "memory_params": {"update_mem_on_forward": False, "memory_size": 9},
            "negative_sampling_params": {"num_negatives": 12, "type": "random"},
        },
        MemoryBankLossConf(
            embedding_dim=128,
            contrast=Contrast.INFO_NCE,
            loss_weights=[0.5, 0.5],
            memory_head="patches",
            num_negatives=12,
        ),
    ),
    (
        "deepclusterv2_loss",
        {"num_clusters": [5, 6], "memory_params": {"crops_for_mb": [0, 1], "embedding_dim": 4}},
        DeepClusterV2LossConf(num_clusters=[5, 6], crops_for_memory=[0, 1], embedding_dim=4),
    ),
    (
        "cross_entropy_multiple_output_single_target",
        {"label_smoothing": 0.1, "ignore_index": -2, "reduction": "sum", "normalize_output": True},
        CrossEntropyLossConf(label_smoothing=0.1, ignore_label=-2, normalize=True),
    ),
    (
        "bce_logits_multiple_output_single_target",
        {"world_size": 8, "normalize_output": True},
        BCELossConf(normalize=True),
    ),
    ("CrossEntropyLoss", {"ignore_index": -1}, TorchLossConf(name="CrossEntropyLoss", args={"ignore_index": -1})),
]


def imported(name: str, values: Tree, rows: list[Row]) -> tuple[Loss, set[str]]:
    section = Settings({"name": name, name: values}, "config.LOSS", set())
    run = Given(
        global_batch=8, sync_bn=True, feature_of={"local_views": "lastPOOL"}, heads=["images", "patches"], rows=rows
    )
    return loss(section, run), section.read


@pytest.mark.parametrize(("name", "values", "wanted"), CASES, ids=[case[0] for case in CASES])
def test_a_loss_has_the_options_that_the_settings_say(name: str, values: Tree, wanted: Loss) -> None:
    found, read = imported(name, values, [])
    if hasattr(wanted, "heads"):  # VISSL has no names: its loss reads all outputs
        wanted = config.replaced(wanted, {"heads": ["images", "patches"]})
    assert config.to_tree(found) == config.to_tree(config.check(wanted))
    root = f"config.LOSS.{name}"
    assert all(f"{root}.{key}" in read or root in read or isinstance(values[key], dict) for key in values)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_has_defaults(name: str) -> None:
    config.check(imported(name, {}, [])[0])


def test_a_queue_is_cut_to_whole_batches_and_that_is_said() -> None:
    rows: list[Row] = []
    imported("swav_loss", {"queue": {"queue_length": 30}}, rows)
    path = "config.LOSS.swav_loss.queue.queue_length"
    assert rows == [Row(path, 30, 24, "a multiple of the 8 images of a step")]


def test_without_synchronised_batch_norm_moco_shuffles() -> None:
    section = Settings({"name": "moco_loss"}, "config.LOSS", set())
    assert config.get(loss(section, Given(8, False, {}, ["head"], [])), "shuffle") is True


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("simclr_loss", {}, "there is no such loss; did you mean 'simclr_info_nce_loss'?"),
        ("msn_loss", {}, "a placeholder in VISSL"),
        ("dino_distillation_loss", {}, "distillation is not imported yet"),
        ("simclr_info_nce_loss", {"temperature": 0}, "config.LOSS.simclr_info_nce_loss.temperature: got 0"),
        ("nce_loss_with_memory", {"memory_params": {"norm_init": False}}, "always starts normalized"),
        ("nce_loss_with_memory", {"negative_sampling_params": {"type": "debug"}}, "the only one is random"),
        ("swav_momentum_loss", {"momentum_eval_mode_iter_start": 3}, "in eval mode from the start"),
    ],
)
def test_mistakes_are_named(name: str, values: Tree, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imported(name, values, [])
    assert message in str(caught.value)
