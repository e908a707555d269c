"""BEiT: timm's network with the same weights, relative positions in plain loops, pooling, starting weights."""

import importlib
import math

import pytest
import torch
from facts import FACTS
from torch import Tensor, nn

from ssltyped.trunks.base import Input
from ssltyped.trunks.beit import BEiT, BEiTAttention, BEiTConf, RelativeBias
from ssltyped.trunks.transformer import Block, DropPath, Style
from ssltyped.trunks.vit import Masking


def tiny(
    own: bool = True,
    shared: bool = False,
    pooling: bool = True,
    masking: Masking = Masking.NONE,
    splits: int = 0,
) -> BEiT:
    trunk = BEiT(
        image_size=32,
        patch_size=8,
        num_layers=3,
        num_heads=4,
        hidden_dim=16,
        mlp_ratio=2.0,
        qkv_bias=True,
        use_rel_pos_bias=own,
        use_shared_rel_pos_bias=shared,
        use_mean_pooling=pooling,
        init_values=0.1,
        masking=masking,
        input=Input(checkpoint_splits=splits),
    )
    randomize(trunk)
    return trunk


def randomize(module: nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


def images(height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("pooling", [False, True])
def test_same_outputs_as_timm_with_its_weights(shared: bool, pooling: bool) -> None:
    timm = importlib.import_module("timm.models.beit")
    reference = timm.Beit(
        img_size=32,
        patch_size=8,
        embed_dim=16,
        depth=3,
        num_heads=4,
        mlp_ratio=2.0,
        qkv_bias=True,
        init_values=0.1,
        num_classes=0,
        use_rel_pos_bias=not shared,
        use_shared_rel_pos_bias=shared,
        global_pool="avg" if pooling else "token",
    ).eval()
    randomize(reference)
    trunk = tiny(own=not shared, shared=shared, pooling=pooling).eval()
    theirs = {
        key.replace("attn.relative_position_bias_table", "attn.relative.relative_position_bias_table"): value
        for key, value in reference.state_dict().items()
        if not key.endswith(("k_bias", "relative_position_index"))
    }
    places = [key for key in trunk.state_dict() if key.endswith("relative_position_index")]
    missing, left = trunk.load_state_dict(theirs, strict=False)
    assert (set(missing), left) == (set(places), [])
    default = list(trunk.feature_dims)[-1]
    assert default == ("lastPOOL" if pooling else "lastCLS")
    torch.testing.assert_close(trunk(images(), [default])[0], reference(images()))


def test_relative_biases_in_plain_loops() -> None:
    bias = RelativeBias((3, 2), 2)
    randomize(bias)
    table = bias.relative_position_bias_table
    assert table.shape == (5 * 3 + 3, 2)
    got = bias((3, 2))[0]
    places = [(y, x) for y in range(3) for x in range(2)]
    for i, (y, x) in enumerate(places):
        for j, (b, a) in enumerate(places):
            torch.testing.assert_close(got[:, 1 + i, 1 + j], table[(y - b + 2) * 3 + x - a + 1])
        torch.testing.assert_close(got[:, 0, 1 + i], table[-3])
        torch.testing.assert_close(got[:, 1 + i, 0], table[-2])
    torch.testing.assert_close(got[:, 0, 0], table[-1])


def test_relative_biases_of_another_grid_keep_the_ends_and_the_class() -> None:
    bias = RelativeBias((3, 3), 2)
    randomize(bias)
    old, new = bias((3, 3))[0], bias((6, 4))[0]
    assert new.shape == (2, 25, 25)
    torch.testing.assert_close(new[:, 0, :2], old[:, 0, :2])
    torch.testing.assert_close(new[:, 1, 0], old[:, 1, 0])
    torch.testing.assert_close(new[:, 1, 24], old[:, 1, 9])  # from one corner to the opposite one
    torch.testing.assert_close(new[:, 7, 7], old[:, 5, 5])  # a patch and itself
    trunk = tiny(shared=True)
    assert trunk(images(48, 16), ["lastMAP"])[0].shape == (2, 6, 2, 16)


def test_own_and_shared_biases_add_up() -> None:
    both, plain = tiny(own=True, shared=True), tiny(own=True)
    state = both.state_dict()
    shared = state.pop("rel_pos_bias.relative_position_bias_table")
    state.pop("rel_pos_bias.relative_position_index")
    for key in state:
        if key.endswith("relative_position_bias_table"):
            state[key] = state[key] + shared
    plain.load_state_dict(state)
    torch.testing.assert_close(both(images(), ["lastBLK"]), plain(images(), ["lastBLK"]))


def test_keys_have_no_bias() -> None:
    layer = BEiTAttention(Style(6, 2, 8, True, None, 0.0, 0.0), None)
    randomize(layer)
    assert layer.q_bias is not None
    assert layer.v_bias is not None
    x = torch.randn(1, 3, 6)
    queries, keys, values = torch.split(layer.projections(x), 6, dim=2)
    weights = torch.split(layer.qkv.weight, 6)
    torch.testing.assert_close(queries, x @ weights[0].T + layer.q_bias)
    torch.testing.assert_close(keys, x @ weights[1].T)
    torch.testing.assert_close(values, x @ weights[2].T + layer.v_bias)
    bare = BEiTAttention(Style(6, 2, 8, False, None, 0.0, 0.0), None)
    torch.testing.assert_close(bare.projections(x), x @ bare.qkv.weight.T)


def test_mean_pooling_pools() -> None:
    """With it single tokens are not normalized; the mean of the patches is."""
    trunk = tiny().eval()
    assert trunk.fc_norm is not None
    tokens, grid, class_token, two, pooled = trunk(
        images(), ["lastBLK", "lastMAP", "lastCLS", "concatCLS2", "lastPOOL"]
    )
    torch.testing.assert_close(pooled, trunk.fc_norm(tokens[:, 1:].mean(1)))
    torch.testing.assert_close(grid.flatten(1, 2), tokens[:, 1:])
    torch.testing.assert_close(class_token, tokens[:, 0])
    torch.testing.assert_close(two[:, 16:], class_token)
    assert [name for name in trunk.feature_dims if "POOL" in name] == ["lastPOOL"]
    normed = tiny(pooling=False).eval()
    state = {key: value for key, value in trunk.state_dict().items() if not key.startswith("fc_norm")}
    normed.load_state_dict(state | {f"norm.{kind}": trunk.fc_norm.state_dict()[kind] for kind in ("weight", "bias")})
    torch.testing.assert_close(normed(images(), ["lastBLK"])[0], trunk.fc_norm(tokens))
    assert "concatPOOL2" in normed.feature_dims


def test_branches_start_smaller_the_deeper_they_are() -> None:
    torch.manual_seed(0)
    trunk = BEiT(hidden_dim=192, num_heads=3, num_layers=3, init_values=0.1, use_rel_pos_bias=True)
    blocks = [module for module in trunk.modules() if isinstance(module, Block)]
    for number, block in enumerate(blocks, start=1):
        assert isinstance(block.attn, BEiTAttention)
        for layer in (block.attn.proj, block.mlp.fc2):
            assert layer.weight.std().item() == pytest.approx(0.02 / math.sqrt(2 * number), rel=0.05)
        for layer in (block.attn.qkv, block.mlp.fc1):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert block.gamma_1 is not None
        assert (block.gamma_1 == 0.1).all()
        assert block.attn.relative is not None
        assert not block.attn.relative.relative_position_bias_table.any()


def test_options_of_blocks() -> None:
    trunk = BEiT(
        image_size=16,
        num_layers=3,
        hidden_dim=12,
        num_heads=2,
        mlp_ratio=1.5,
        dropout_rate=0.2,
        attention_dropout_rate=0.3,
        drop_path_rate=0.4,
        qk_scale=0.7,
        use_abs_pos_emb=False,
    )
    assert trunk.pos_embed is None
    rates = [module.rate for module in trunk.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0, 0.2, 0.4])
    for block in (module for module in trunk.modules() if isinstance(module, Block)):
        assert isinstance(block.attn, BEiTAttention)
        assert block.attn.style == Style(12, 2, 18, False, 0.7, 0.2, 0.3)
        assert (block.mlp.hidden_dropout_rate, block.mlp.dropout_rate) == (0.0, 0.2)
        assert block.gamma_1 is None


def test_masked_patches_do_not_matter() -> None:
    trunk = tiny(masking=Masking.REPLACE).eval()
    mask = torch.zeros(2, 4, 4, dtype=torch.bool)
    mask[:, 1:3, 2] = True
    changed = images()
    changed[:, :, 8:24, 16:24] += 2
    torch.testing.assert_close(trunk(changed, ["lastPOOL"], mask), trunk(images(), ["lastPOOL"], mask))
    assert not torch.allclose(trunk(changed, ["lastPOOL"])[0], trunk(images(), ["lastPOOL"])[0])


@pytest.mark.parametrize("pooling", [False, True])
def test_gradients_reach_every_parameter_and_checkpointing_changes_none(pooling: bool) -> None:
    one, other = (tiny(shared=True, pooling=pooling, masking=Masking.REPLACE, splits=n) for n in (0, 3))
    mask = torch.eye(4, dtype=torch.bool).expand(2, -1, -1)
    for trunk in (one, other):
        trunk(images(), [list(trunk.feature_dims)[-1]], mask)[0].square().sum().backward()
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert mine.grad is not None, name
        assert mine.grad.abs().sum() > 0, name
        torch.testing.assert_close(theirs.grad, mine.grad)


@pytest.mark.parametrize(
    "config, path, text",
    [
        (BEiTConf(num_heads=7), "num_heads", "7 heads do not divide the hidden_dim of 768"),
        (BEiTConf(image_size=225), "image_size", "225 is no multiple of the patch_size of 16"),
        (BEiTConf(masking=Masking.DROP, use_rel_pos_bias=True), "masking", "DROP leaves no grid"),
    ],
)
def test_what_cannot_work_is_a_problem_of_the_config_and_refused_when_built(config: BEiT, path: str, text: str) -> None:
    problems = list(BEiT.problems(config, FACTS))
    assert [problem.path for problem in problems] == [path]
    assert text in problems[0].message
    options = {key: getattr(config, key) for key in ("num_heads", "image_size", "masking", "use_rel_pos_bias")}
    with pytest.raises(ValueError, match=text):
        BEiT(**options)
