"""Layouts of heads: the keys and shapes that VISSL's heads were recorded with."""

from collections.abc import Mapping

import pytest
import torch

from ssltyped import config
from ssltyped.interop.vissl.heads import HEADS, head
from ssltyped.interop.vissl.settings import Settings
from ssltyped.interop.vissl.yaml import Tree
from ssltyped.weights.vissl_heads import LAYOUTS


def bn(name: str, width: int) -> dict[str, list[int]]:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {**{f"{name}.{part}": [width] for part in vectors}, f"{name}.num_batches_tracked": []}


def linear(name: str, width: int, inputs: int) -> dict[str, list[int]]:
    return {f"{name}.weight": [width, inputs], f"{name}.bias": [width]}


def prototypes(name: str, count: int, width: int) -> dict[str, list[int]]:
    return {f"{name}.weight_g": [count, 1], f"{name}.weight_v": [count, width]}


CASES: list[tuple[str, Tree, Mapping[str, list[int]]]] = [
    ("mlp", {"dims": [16, 8]}, linear("clf.0", 8, 16)),
    (
        "mlp",
        {"dims": [10, 14, 6], "use_bn": True, "use_relu": True, "skip_last_layer_relu_bn": False},
        {**linear("clf.0", 14, 10), **bn("clf.1", 14), **linear("clf.3", 6, 14), **bn("clf.4", 6)},
    ),
    (
        "mlp_res",
        {"dims": [10, 10, 6], "use_relu": True, "use_bn": True},
        {
            **linear("clf.0.mlp_res_block.0", 10, 10),
            **bn("clf.0.mlp_res_block.1", 10),
            **linear("clf.1.mlp_res_block.0", 6, 10),
        },
    ),
    ("eval_mlp", {"in_channels": 4, "dims": [36, 7]}, {**bn("channel_bn", 4), **linear("clf.clf.0", 7, 36)}),
    ("eval_mlp_pooled", {"in_channels": 8, "dims": [8, 5]}, {**bn("channel_bn", 8), **linear("clf.0", 5, 8)}),
    (
        "swav_head",
        {"dims": [12, 10, 6], "use_bn": True, "num_clusters": [9], "skip_last_bn": False},
        {
            **linear("projection_head.0", 10, 12),
            **bn("projection_head.1", 10),
            **linear("projection_head.3", 6, 10),
            **bn("projection_head.4", 6),
            "prototypes0.weight": [9, 6],
        },
    ),
    (
        "swav_head",
        {"dims": [12, 6], "use_bn": False, "num_clusters": [9, 5], "use_weight_norm_prototypes": True},
        {**linear("projection_head.0", 6, 12), **prototypes("prototypes0", 9, 6), **prototypes("prototypes1", 5, 6)},
    ),
    (
        "dino_head",
        {"in_dim": 12, "num_clusters": [16], "hidden_dim": 20, "bottleneck_dim": 8},
        {
            **linear("mlp.0", 20, 12),
            **linear("mlp.2", 20, 20),
            **linear("mlp.4", 8, 20),
            **prototypes("prototypes0", 16, 8),
        },
    ),
    (
        "dino_head",
        {"in_dim": 10, "num_clusters": [14], "num_layers": 1, "bottleneck_dim": 6},
        {**linear("mlp", 6, 10), **prototypes("prototypes0", 14, 6)},
    ),
    (
        "ibot_head",
        {"in_dim": 12, "out_dim": 16, "hidden_dim": 14, "bottleneck_dim": 8, "num_layers": 2, "patch_out_dim": 10},
        {
            **linear("mlp.0", 14, 12),
            **linear("mlp.2", 8, 14),
            **prototypes("prototypes0", 16, 8),
            **prototypes("prototypes1", 10, 8),
        },
    ),
    (
        "ibot_head",
        {
            "in_dim": 12,
            "out_dim": 16,
            "hidden_dim": 14,
            "bottleneck_dim": 8,
            "num_layers": 2,
            "shared_head": True,
            "norm": "ln",
        },
        {
            **linear("mlp.0", 14, 12),
            "mlp.1.weight": [14],
            "mlp.1.bias": [14],
            **linear("mlp.3", 8, 14),
            **prototypes("prototypes0", 16, 8),
            **prototypes("prototypes1", 16, 8),
        },
    ),
    (
        "msn_head",
        {"in_dim": 12, "num_prototypes": 9, "use_bn": True, "hidden_dim": 16, "output_dim": 8},
        {
            "prototypes": [9, 8],
            **linear("fc.fc1", 16, 12),
            **bn("fc.bn1", 16),
            **linear("fc.fc2", 16, 16),
            **bn("fc.bn2", 16),
            **linear("fc.fc3", 8, 16),
        },
    ),
    ("vision_transformer_head", {"in_plane": 12, "num_classes": 7}, linear("layers.head", 7, 12)),
    (
        "vision_transformer_head",
        {"in_plane": 12, "num_classes": 7, "hidden_dim": 5},
        {**linear("layers.pre_logits", 5, 12), **linear("layers.head", 7, 5)},
    ),
    (
        "mobilenet_v3_head",
        {"in_channels": 10, "mid_channels": 14, "num_classes": 6, "with_bn": True},
        {**bn("channel_bn", 10), **linear("classifier.0", 14, 10), **linear("classifier.3", 6, 14)},
    ),
    ("siamese_concat_view", {"num_towers": 3}, {}),
    ("identity", {}, {}),
]


@pytest.mark.parametrize(("name", "values", "wanted"), CASES, ids=[case[0] for case in CASES])
def test_keys_and_shapes_are_those_recorded(name: str, values: Tree, wanted: Mapping[str, list[int]]) -> None:
    made = config.build(head([name, values], 12, Settings({}, "HEAD", set()), "x")[1].head)
    layout = LAYOUTS[name](made)
    theirs = layout.export(made)
    assert {key: list(value.shape) for key, value in theirs.items()} == dict(wanted)
    moved = {key: torch.full_like(value, 3) for key, value in theirs.items()}
    layout.load(made, moved)
    assert all((value == 3).all() for value in made.state_dict().values())


def test_every_head_has_a_layout_but_two_whose_names_are_not_recorded() -> None:
    assert set(HEADS) - set(LAYOUTS) == {"ibot_distillation_head", "mobilenet_v3_head_timm"}
