"""Tokens: names of features, masks, and what is read, against plain steps."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.trunks.base import Input
from ssltyped.trunks.tokens import Masking, Part, Reading, readings
from ssltyped.trunks.vit import VisionTransformer


def tiny(masking: Masking = Masking.NONE, class_token: bool = True, splits: int = 0) -> VisionTransformer:
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


def images(height: int = 16, width: int = 16) -> Tensor:
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
    for image, masked in zip(images(), mask, strict=True):
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
    trunk = tiny(class_token=class_token).eval()
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
    got = dict(zip(names, trunk(images(), names), strict=True))
    assert {name: x.shape[-1] for name, x in got.items()} == trunk.feature_dims
    for name, x in want.items():
        assert torch.allclose(got[name], x, atol=1e-5), name


def test_the_stages_are_the_blocks() -> None:
    trunk = tiny()
    assert [stage.feature for stage in trunk.stages()] == ["block0", "block1", "block2"]
    assert [stage.block for stage in trunk.stages()] == list(trunk.blocks)


def test_order_repeats_and_nothing_past_the_last_block() -> None:
    trunk = tiny()
    called: list[int] = []

    def noted(i: int, *_: object) -> None:
        called.append(i)

    for i, block in enumerate(trunk.blocks):
        block.register_forward_hook(partial(noted, i))
    block_1, class_0, again = trunk(images(), ["blkBLK1", "blkCLS0", "blkBLK1"])
    assert called == [0, 1]
    assert block_1.shape == (2, 17, 8)
    assert class_0.shape == (2, 8)
    assert torch.equal(block_1, again)
    assert trunk(images(), []) == []


def test_unknown_feature_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown feature 'lastCSL': did you mean 'lastCLS'"):
        tiny()(images(), ["lastCSL"])
    with pytest.raises(ValueError, match="unknown feature 'lastCLS'"):
        tiny(class_token=False)(images(), ["lastCLS"])


@pytest.mark.parametrize("class_token", [True, False])
def test_replaced_patches_in_plain_steps(class_token: bool) -> None:
    trunk, mask = tiny(Masking.REPLACE, class_token), some_mask()
    want = through_blocks(trunk, torch.stack([torch.stack(row) for row in embedded(trunk, mask)]))[2]
    (got,) = trunk(images(), ["lastBLK"], mask)
    torch.testing.assert_close(got, want)
    (unmasked,) = trunk(images(), ["lastBLK"])
    assert not torch.allclose(unmasked, want)
    torch.testing.assert_close(trunk(images(), ["lastBLK"], torch.zeros_like(mask))[0], unmasked)


def test_what_is_under_the_mask_does_not_matter() -> None:
    for masking in (Masking.REPLACE, Masking.DROP):
        trunk, mask = tiny(masking), some_mask()
        hidden = mask.repeat_interleave(4, 1).repeat_interleave(4, 2).unsqueeze(1)
        other = torch.where(hidden, images() + 3, images())
        torch.testing.assert_close(trunk(other, ["lastCLS"], mask), trunk(images(), ["lastCLS"], mask))
        assert not torch.allclose(trunk(other, ["lastCLS"])[0], trunk(images(), ["lastCLS"])[0])


@pytest.mark.parametrize("class_token", [True, False])
def test_left_out_patches_in_plain_steps(class_token: bool) -> None:
    """The rest, each with its own position, as if there were no other patches."""
    trunk, mask = tiny(Masking.DROP, class_token), some_mask()
    rows: list[Tensor] = []
    for row, masked in zip(embedded(trunk, mask), mask, strict=True):
        out = [False] * class_token + masked.flatten().tolist()
        rows.append(torch.stack([token for token, gone in zip(row, out, strict=True) if not gone]))
    want = through_blocks(trunk, torch.stack(rows))[2]
    tokens, pooled = trunk(images(), ["lastBLK", "lastPOOL"], mask)
    assert tokens.shape == (2, 11 + class_token, 8)
    torch.testing.assert_close(tokens, want)
    torch.testing.assert_close(pooled, want[:, int(class_token) :].mean(1))


def test_the_mask_token_starts_at_zero_and_learns() -> None:
    trunk = VisionTransformer(image_size=8, patch_size=4, num_layers=1, num_heads=1, hidden_dim=4, mlp_dim=4)
    assert trunk.mask_token is None
    masked = tiny(Masking.REPLACE)
    assert masked.mask_token is not None
    masked(images(), ["lastMAP"], some_mask())[0].square().sum().backward()
    assert masked.mask_token.grad is not None
    assert masked.mask_token.grad.abs().sum() > 0
    fresh = VisionTransformer(hidden_dim=8, num_heads=1, num_layers=1, masking=Masking.REPLACE)
    assert fresh.mask_token is not None
    assert not fresh.mask_token.any()


def test_masks_that_do_not_fit() -> None:
    mask = some_mask()
    with pytest.raises(ValueError, match="masking is NONE"):
        tiny()(images(), ["lastCLS"], mask)
    with pytest.raises(ValueError, match=r"shape \(2, 4, 3\), and the images have patches \(2, 4, 4\)"):
        tiny(Masking.REPLACE)(images(), ["lastCLS"], mask[:, :, :3])
    uneven = mask.clone()
    uneven[0] = False
    with pytest.raises(ValueError, match=r"as many masked patches as the others; there are \[0, 5\]"):
        tiny(Masking.DROP)(images(), ["lastCLS"], uneven)
    with pytest.raises(ValueError, match="lastMAP: patches that are left"):
        tiny(Masking.DROP)(images(), ["lastCLS", "lastMAP"], mask)
    assert tiny(Masking.DROP)(images(), ["lastMAP"])[0].shape == (2, 4, 4, 8)


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
    trunk = tiny(class_token=class_token)
    assert trunk.pos_embed is not None
    (grid,) = trunk(images(24, 8), ["lastMAP"])
    assert grid.shape == (2, 6, 2, 8)
    for parameter in [trunk.patch_embed.proj.weight, trunk.patch_embed.proj.bias, trunk.cls_token]:
        if parameter is not None:
            nn.init.zeros_(parameter)
    first = int(class_token)
    positions, size = trunk.embed(images(24, 8), None)
    assert size == (6, 2)
    old = trunk.pos_embed[:, first:].view(1, 4, 4, 8).permute(0, 3, 1, 2)
    want = F.interpolate(old, size=(6, 2), mode="bicubic").permute(0, 2, 3, 1).reshape(1, 12, 8)
    torch.testing.assert_close(positions[:1, first:], want)
    assert torch.equal(positions[0, :first], trunk.pos_embed[0, :first])


def test_four_copies_of_an_image_are_its_tokens_four_times() -> None:
    """Attention does not see how often all there is comes, if positions are the same for all patches."""
    trunk = tiny(class_token=False)
    assert trunk.pos_embed is not None
    with torch.no_grad():
        trunk.pos_embed[:] = trunk.pos_embed[:, :1].clone()
    (wide,) = trunk(images().repeat(1, 1, 2, 2), ["lastMAP"])
    (plain,) = trunk(images(), ["lastMAP"])
    torch.testing.assert_close(wide, plain.repeat(1, 2, 2, 1))


def test_checkpointing_changes_no_gradient() -> None:
    one, other = tiny(Masking.REPLACE), tiny(Masking.REPLACE, splits=3)
    other.load_state_dict(one.state_dict())
    for trunk in (one, other):
        sum(x.square().sum() for x in trunk(images(), ["concatCLS2", "lastMAP"], some_mask())).backward()
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert mine.grad is not None, name
        assert mine.grad.abs().sum() > 0, name
        torch.testing.assert_close(theirs.grad, mine.grad)
