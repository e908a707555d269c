"""Vision transformer: other libraries' networks, options, tokens and masks in plain steps, what is refused."""

import importlib
import math
from functools import partial

import pytest
import torch
from facts import FACTS
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer as Reference

from ssltyped.trunks.base import Input, InputColor
from ssltyped.trunks.transformer import Attention, DropPath
from ssltyped.trunks.vit import Masking, Part, Reading, VisionTransformer, VisionTransformerConf, readings


def tiny(masking: Masking = Masking.NONE, drop_path_rate: float = 0.0, dropout_rate: float = 0.0) -> VisionTransformer:
    return VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=3,
        num_heads=4,
        hidden_dim=16,
        mlp_dim=20,
        qkv_bias=True,
        masking=masking,
        drop_path_rate=drop_path_rate,
        dropout_rate=dropout_rate,
    )


def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def randomized(module: nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


@pytest.mark.parametrize(
    "dim, heads, layers, patch, parameters",
    [(384, 6, 12, 16, 22_050_664), (768, 12, 12, 16, 86_567_656), (1024, 16, 24, 16, 304_326_632)],
)
def test_published_sizes(dim: int, heads: int, layers: int, patch: int, parameters: int) -> None:
    """DeiT-S (Touvron et al. 2021), ViT-B and ViT-L as torchvision states them, without their 1000 classes."""
    with torch.device("meta"):
        trunk = VisionTransformer(
            hidden_dim=dim, num_heads=heads, mlp_dim=4 * dim, num_layers=layers, patch_size=patch, qkv_bias=True
        )
    assert sum(parameter.numel() for parameter in trunk.parameters()) == parameters - 1000 * (dim + 1)


def test_same_outputs_as_torchvision_with_its_weights() -> None:
    reference = Reference(image_size=32, patch_size=8, num_layers=3, num_heads=4, hidden_dim=16, mlp_dim=20).eval()
    reference.heads = nn.Sequential()
    randomized(reference)
    names = {
        "class_token": "cls_token",
        "encoder.pos_embedding": "pos_embed",
        "conv_proj.": "patch_embed.proj.",
        "encoder.layers.encoder_layer_": "blocks.",
        "encoder.ln.": "norm.",
        "ln_1": "norm1",
        "ln_2": "norm2",
        "self_attention.in_proj_": "attn.qkv.",
        "self_attention.out_proj": "attn.proj",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
    }
    state: dict[str, Tensor] = {}
    for key, value in reference.state_dict().items():
        for theirs, ours in names.items():
            key = key.replace(theirs, ours)
        state[key] = value
    trunk = tiny().eval()
    trunk.load_state_dict(state)
    torch.testing.assert_close(trunk(images(), ["lastCLS"])[0], reference(images()))


def test_same_outputs_as_timm_with_its_weights_also_pooled() -> None:
    timm = importlib.import_module("timm.models.vision_transformer")
    options = {"img_size": 32, "patch_size": 8, "depth": 3, "num_heads": 4, "embed_dim": 16, "mlp_ratio": 1.25}
    for class_token in (True, False):
        pooling = "token" if class_token else "avg"
        reference = timm.VisionTransformer(
            **options, num_classes=0, class_token=class_token, global_pool=pooling, fc_norm=False
        ).eval()
        randomized(reference)
        trunk = VisionTransformer(
            image_size=32,
            patch_size=8,
            num_layers=3,
            num_heads=4,
            hidden_dim=16,
            mlp_dim=20,
            qkv_bias=True,
            use_class_token=class_token,
        ).eval()
        trunk.load_state_dict(reference.state_dict())
        default = list(trunk.feature_dims)[-1]
        torch.testing.assert_close(trunk(images(), ["lastBLK"])[0], reference.forward_features(images()))
        torch.testing.assert_close(trunk(images(), [default])[0], reference(images()))


def test_weights_start_as_they_should() -> None:
    torch.manual_seed(0)
    trunk = VisionTransformer(hidden_dim=192, num_heads=3, mlp_dim=768, num_layers=2, patch_size=8, qkv_bias=True)
    for name, parameter in trunk.named_parameters():
        if "norm" in name:
            assert (parameter == (1 if name.endswith("weight") else 0)).all(), name
        elif name.startswith("patch_embed"):
            bound = 1 / math.sqrt(3 * 8 * 8)
            assert parameter.abs().max() <= bound
            assert parameter.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2)
        elif name.endswith("bias"):
            assert not parameter.any(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.15), name


def test_stochastic_depth_grows_and_ends_with_training() -> None:
    trunk = tiny(drop_path_rate=0.4)
    rates = [module.rate for module in trunk.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0, 0.2, 0.4])
    first, second = (trunk(images(), ["blkCLS0", "lastCLS"]) for _ in range(2))
    assert torch.equal(first[0], second[0])
    torch.manual_seed(1)
    assert not all(torch.equal(trunk(images(), ["lastCLS"])[0], first[1]) for _ in range(4))
    trunk.eval()
    assert torch.equal(trunk(images(), ["lastCLS"])[0], trunk(images(), ["lastCLS"])[0])


def test_dropout_is_on_in_training_only() -> None:
    trunk, plain = tiny(dropout_rate=0.5), tiny()
    trunk.load_state_dict(plain.state_dict())
    assert not torch.allclose(trunk(images(), ["lastCLS"])[0], plain(images(), ["lastCLS"])[0])
    torch.testing.assert_close(trunk.eval()(images(), ["lastCLS"]), plain.eval()(images(), ["lastCLS"]))
    dropped, _ = trunk.train().embed(images(), None)
    assert 0.3 < (dropped == 0).float().mean() < 0.7


def test_options_of_attention() -> None:
    bare = VisionTransformer(
        image_size=8, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, qkv_bias=False
    )
    assert "blocks.0.attn.qkv.bias" not in bare.state_dict()
    assert "blocks.0.attn.qkv.bias" in VisionTransformer(hidden_dim=8, num_heads=2, num_layers=1).state_dict()
    attentions = [module for module in tiny().modules() if isinstance(module, Attention)]
    assert {(a.style.qk_scale, a.style.attention_dropout_rate, a.style.num_heads) for a in attentions} == {
        (None, 0.0, 4)
    }
    flat = VisionTransformer(
        image_size=32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=20, qkv_bias=True, qk_scale=1e-9
    )
    sharp = VisionTransformer(
        image_size=32, patch_size=8, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=20, qkv_bias=True, qk_scale=9.0
    )
    randomized(flat)
    sharp.load_state_dict(flat.state_dict())
    kinds = [next(m for m in trunk.modules() if isinstance(m, Attention)) for trunk in (flat, sharp)]
    x = torch.randn(1, 5, 16)
    even, uneven = (attention(x) for attention in kinds)
    torch.testing.assert_close(even, even[:, :1].expand_as(even))  # all logits are 0: each token gets the mean
    assert not torch.allclose(uneven, uneven[:, :1].expand_as(uneven))


def test_gradients_reach_every_parameter() -> None:
    trunk = tiny()
    trunk(images(), ["lastCLS"])[0].square().sum().backward()
    for name, parameter in trunk.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_colours() -> None:
    plain = tiny().eval()
    bgr = VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=3,
        num_heads=4,
        hidden_dim=16,
        mlp_dim=20,
        qkv_bias=True,
        input=Input(color=InputColor.BGR),
    ).eval()
    bgr.load_state_dict(plain.state_dict())
    torch.testing.assert_close(bgr(images().flip(1), ["lastCLS"]), plain(images(), ["lastCLS"]))


@pytest.mark.parametrize(
    "config, path, text",
    [
        (VisionTransformerConf(num_heads=7), "num_heads", "7 heads do not divide the hidden_dim of 768"),
        (VisionTransformerConf(image_size=225), "image_size", "225 is no multiple of the patch_size of 16"),
    ],
)
def test_what_cannot_work_is_a_problem_of_the_config_and_refused_when_built(
    config: VisionTransformer, path: str, text: str
) -> None:
    problems = list(VisionTransformer.problems(config, FACTS))
    assert [problem.path for problem in problems] == [path]
    assert text in problems[0].message
    options = {key: getattr(config, key) for key in ("num_heads", "image_size")}
    with pytest.raises(ValueError, match=text):
        VisionTransformer(**options)


def rough(masking: Masking = Masking.NONE, class_token: bool = True, splits: int = 0) -> VisionTransformer:
    """Positions, class token and mask token are random, so that each leaves its mark."""
    trunk = VisionTransformer(
        image_size=16,
        patch_size=4,
        num_layers=3,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=12,
        use_class_token=class_token,
        masking=masking,
        input=Input(checkpoint_splits=splits),
    )
    for parameter in trunk.parameters():
        nn.init.normal_(parameter, std=0.5)
    return trunk


def pictures(height: int = 16, width: int = 16) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def some_mask() -> Tensor:
    """Five patches of each image, other ones."""
    order = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)])
    return (order < 5).view(2, 4, 4)


def through_blocks(trunk: VisionTransformer, x: Tensor) -> list[Tensor]:
    """The normalized tokens after each block."""
    after: list[Tensor] = []
    for block in trunk.blocks:
        x = block(x)
        after.append(trunk.norm(x))
    return after


def embedded(trunk: VisionTransformer, mask: Tensor) -> list[list[Tensor]]:
    """Patch by patch: what goes into the first block for each image, before anything is left out."""
    assert trunk.pos_embed is not None
    rows: list[list[Tensor]] = []
    for image, masked in zip(pictures(), mask, strict=True):
        tokens = [] if trunk.cls_token is None else [trunk.cls_token[0, 0]]
        for y in range(4):
            for x in range(4):
                patch = image[:, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].flatten()
                token = trunk.patch_embed.proj.weight.flatten(1) @ patch + trunk.patch_embed.proj.bias
                if masked[y, x] and trunk.mask_token is not None:
                    token = trunk.mask_token.flatten()
                tokens.append(token)
        rows.append([token + place for token, place in zip(tokens, trunk.pos_embed[0], strict=True)])
    return rows


def test_names_and_what_they_mean() -> None:
    found = readings(4, class_token=True)
    assert found["blkCLS1"] == Reading((1,), Part.CLASS)
    assert found["concatCLS2"] == Reading((2, 3), Part.CLASS)
    assert found["concatBLK4"] == Reading((0, 1, 2, 3), Part.ALL)
    assert found["concatPOOL1"] == found["lastPOOL"] == Reading((3,), Part.POOL)
    assert found["stridePOOL_2"] == found["stridePOOL_2_2"] == Reading((3, 1), Part.POOL)
    assert found["stridePOOL_2_3"] == Reading((3, 0), Part.POOL)
    assert "stridePOOL_3" not in found  # in steps of 2 there are only two
    assert not {"stridePOOL_3_2", "concatCLS5", "concatCLS0", "blkCLS4"} & found.keys()
    assert list(found)[-1] == "lastCLS"
    without = readings(4, class_token=False)
    assert list(without)[-1] == "lastPOOL"
    assert set(found) - set(without) == {name for name in found if "CLS" in name}


@pytest.mark.parametrize("class_token", [True, False])
def test_every_feature_in_plain_steps(class_token: bool) -> None:
    trunk = rough(class_token=class_token).eval()
    names = list(trunk.feature_dims)
    nothing = torch.zeros(2, 4, 4, dtype=torch.bool)
    after = through_blocks(trunk, torch.stack([torch.stack(row) for row in embedded(trunk, nothing)]))
    first = int(class_token)
    want = {"lastMAP": after[2][:, first:].view(2, 4, 4, 8), "lastBLK": after[2], "blkBLK1": after[1]}
    want["concatBLK2"] = torch.cat(after[1:], dim=2)
    pooled = [x[:, first:].mean(1) for x in after]
    want |= {"lastPOOL": pooled[2], "concatPOOL3": torch.cat(pooled, dim=1)}
    want |= {"stridePOOL_2": torch.cat([pooled[2], pooled[0]], dim=1), "stridePOOL_3_1": torch.cat(pooled[::-1], dim=1)}
    if class_token:
        want |= {"lastCLS": after[2][:, 0], "blkCLS0": after[0][:, 0], "concatCLS2": want["concatBLK2"][:, 0]}
    got = dict(zip(names, trunk(pictures(), names), strict=True))
    assert {name: x.shape[-1] for name, x in got.items()} == trunk.feature_dims
    for name, x in want.items():
        assert torch.allclose(got[name], x, atol=1e-5), name


def test_the_stages_are_the_blocks() -> None:
    trunk = rough()
    assert [stage.feature for stage in trunk.stages()] == ["block0", "block1", "block2"]
    assert [stage.block for stage in trunk.stages()] == list(trunk.blocks)


def test_order_repeats_and_nothing_past_the_last_block() -> None:
    trunk = rough()
    called: list[int] = []

    def noted(i: int, *_: object) -> None:
        called.append(i)

    for i, block in enumerate(trunk.blocks):
        block.register_forward_hook(partial(noted, i))
    block_1, class_0, again = trunk(pictures(), ["blkBLK1", "blkCLS0", "blkBLK1"])
    assert called == [0, 1]
    assert block_1.shape == (2, 17, 8)
    assert class_0.shape == (2, 8)
    assert torch.equal(block_1, again)
    assert trunk(pictures(), []) == []


def test_unknown_feature_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown feature 'lastCSL': did you mean 'lastCLS'"):
        rough()(pictures(), ["lastCSL"])
    with pytest.raises(ValueError, match="unknown feature 'lastCLS'"):
        rough(class_token=False)(pictures(), ["lastCLS"])


@pytest.mark.parametrize("class_token", [True, False])
def test_replaced_patches_in_plain_steps(class_token: bool) -> None:
    trunk, mask = rough(Masking.REPLACE, class_token), some_mask()
    want = through_blocks(trunk, torch.stack([torch.stack(row) for row in embedded(trunk, mask)]))[2]
    (got,) = trunk(pictures(), ["lastBLK"], mask)
    torch.testing.assert_close(got, want)
    (unmasked,) = trunk(pictures(), ["lastBLK"])
    assert not torch.allclose(unmasked, want)
    torch.testing.assert_close(trunk(pictures(), ["lastBLK"], torch.zeros_like(mask))[0], unmasked)


def test_what_is_under_the_mask_does_not_matter() -> None:
    for masking in (Masking.REPLACE, Masking.DROP):
        trunk, mask = rough(masking), some_mask()
        hidden = mask.repeat_interleave(4, 1).repeat_interleave(4, 2).unsqueeze(1)
        other = torch.where(hidden, pictures() + 3, pictures())
        torch.testing.assert_close(trunk(other, ["lastCLS"], mask), trunk(pictures(), ["lastCLS"], mask))
        assert not torch.allclose(trunk(other, ["lastCLS"])[0], trunk(pictures(), ["lastCLS"])[0])


@pytest.mark.parametrize("class_token", [True, False])
def test_left_out_patches_in_plain_steps(class_token: bool) -> None:
    """The rest, each with its own position, as if there were no other patches."""
    trunk, mask = rough(Masking.DROP, class_token), some_mask()
    rows: list[Tensor] = []
    for row, masked in zip(embedded(trunk, mask), mask, strict=True):
        out = [False] * class_token + masked.flatten().tolist()
        rows.append(torch.stack([token for token, gone in zip(row, out, strict=True) if not gone]))
    want = through_blocks(trunk, torch.stack(rows))[2]
    tokens, pooled = trunk(pictures(), ["lastBLK", "lastPOOL"], mask)
    assert tokens.shape == (2, 11 + class_token, 8)
    torch.testing.assert_close(tokens, want)
    torch.testing.assert_close(pooled, want[:, int(class_token) :].mean(1))


def test_the_mask_token_starts_at_zero_and_learns() -> None:
    trunk = VisionTransformer(image_size=8, patch_size=4, num_layers=1, num_heads=1, hidden_dim=4, mlp_dim=4)
    assert trunk.mask_token is None
    masked = rough(Masking.REPLACE)
    assert masked.mask_token is not None
    masked(pictures(), ["lastMAP"], some_mask())[0].square().sum().backward()
    assert masked.mask_token.grad is not None
    assert masked.mask_token.grad.abs().sum() > 0
    fresh = VisionTransformer(hidden_dim=8, num_heads=1, num_layers=1, masking=Masking.REPLACE)
    assert fresh.mask_token is not None
    assert not fresh.mask_token.any()


def test_masks_that_do_not_fit() -> None:
    mask = some_mask()
    with pytest.raises(ValueError, match="masking is NONE"):
        rough()(pictures(), ["lastCLS"], mask)
    with pytest.raises(ValueError, match=r"shape \(2, 4, 3\), and the images have patches \(2, 4, 4\)"):
        rough(Masking.REPLACE)(pictures(), ["lastCLS"], mask[:, :, :3])
    uneven = mask.clone()
    uneven[0] = False
    with pytest.raises(ValueError, match=r"as many masked patches as the others; there are \[0, 5\]"):
        rough(Masking.DROP)(pictures(), ["lastCLS"], uneven)
    with pytest.raises(ValueError, match="lastMAP: patches that are left"):
        rough(Masking.DROP)(pictures(), ["lastCLS", "lastMAP"], mask)
    assert rough(Masking.DROP)(pictures(), ["lastMAP"])[0].shape == (2, 4, 4, 8)


def test_a_plan_without_values_goes_through_with_all_patches() -> None:
    with torch.device("meta"):
        trunk = VisionTransformer(
            image_size=16, patch_size=4, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8, masking=Masking.DROP
        )
        tokens, summary = trunk(
            torch.empty(2, 3, 16, 16), ["lastBLK", "lastCLS"], torch.empty(2, 4, 4, dtype=torch.bool)
        )
    assert tokens.shape == (2, 17, 8)
    assert summary.shape == (2, 8)


@pytest.mark.parametrize("class_token", [True, False])
def test_images_of_another_size_get_interpolated_positions(class_token: bool) -> None:
    trunk = rough(class_token=class_token)
    assert trunk.pos_embed is not None
    (grid,) = trunk(pictures(24, 8), ["lastMAP"])
    assert grid.shape == (2, 6, 2, 8)
    for parameter in [trunk.patch_embed.proj.weight, trunk.patch_embed.proj.bias, trunk.cls_token]:
        if parameter is not None:
            nn.init.zeros_(parameter)
    first = int(class_token)
    positions, size = trunk.embed(pictures(24, 8), None)
    assert size == (6, 2)
    old = trunk.pos_embed[:, first:].view(1, 4, 4, 8).permute(0, 3, 1, 2)
    want = F.interpolate(old, size=(6, 2), mode="bicubic").permute(0, 2, 3, 1).reshape(1, 12, 8)
    torch.testing.assert_close(positions[:1, first:], want)
    assert torch.equal(positions[0, :first], trunk.pos_embed[0, :first])


def test_four_copies_of_an_image_are_its_tokens_four_times() -> None:
    """Attention does not see how often all there is comes, if positions are the same for all patches."""
    trunk = rough(class_token=False)
    assert trunk.pos_embed is not None
    with torch.no_grad():
        trunk.pos_embed[:] = trunk.pos_embed[:, :1].clone()
    (wide,) = trunk(pictures().repeat(1, 1, 2, 2), ["lastMAP"])
    (plain,) = trunk(pictures(), ["lastMAP"])
    torch.testing.assert_close(wide, plain.repeat(1, 2, 2, 1))


def test_checkpointing_changes_no_gradient() -> None:
    one, other = rough(Masking.REPLACE), rough(Masking.REPLACE, splits=3)
    other.load_state_dict(one.state_dict())
    for trunk in (one, other):
        sum(x.square().sum() for x in trunk(pictures(), ["concatCLS2", "lastMAP"], some_mask())).backward()
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert mine.grad is not None, name
        assert mine.grad.abs().sum() > 0, name
        torch.testing.assert_close(theirs.grad, mine.grad)
