"""ConViT: gated attention in plain loops and against timm's, layers that start as convolutions, the class token."""

import importlib

import pytest
import torch
from facts import FACTS
from torch import Tensor, nn
from torch.nn import functional as F

from ssltyped.trunks.base import Input
from ssltyped.trunks.convit import Classifier, ConViT, ConViTConf, GatedAttention, grid_offsets
from ssltyped.trunks.transformer import Attention, Block, DropPath, Style

CPU = torch.device("cpu")


def tiny(
    local_class: bool = False,
    classifier: Classifier = Classifier.TOKEN,
    splits: int = 0,
    gated: int = 2,
    strength: float = 1.0,
    local: bool = True,
) -> ConViT:
    return ConViT(
        image_size=32,
        patch_size=8,
        num_layers=3,
        n_gpsa_layers=gated,
        num_heads=4,
        hidden_dim=16,
        mlp_dim=20,
        class_token_in_local_layers=local_class,
        locality_strength=strength,
        locality_dim=2,
        use_local_init=local,
        classifier=classifier,
        input=Input(checkpoint_splits=splits),
    )


def randomize(module: nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


def images(height: int = 32, width: int = 32) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def attentions(trunk: ConViT) -> list[GatedAttention]:
    return [module for module in trunk.modules() if isinstance(module, GatedAttention)]


def test_gated_attention_in_plain_loops() -> None:
    layer = GatedAttention(Style(6, 2, 8, True, None, 0.0, 0.0), 3)
    randomize(layer)
    x = torch.randn(1, 6, 6)
    queries, keys = torch.split(F.linear(x[0], layer.qk.weight, layer.qk.bias), 6, dim=1)
    values = layer.v(x[0])
    places = [(y, x) for y in range(2) for x in range(3)]
    out = torch.zeros(6, 6)
    for h in range(2):
        part = slice(3 * h, 3 * h + 3)
        gate = torch.sigmoid(layer.alpha[0, h, 0, 0])
        for i, (y, a) in enumerate(places):
            content = torch.softmax(keys[:, part] @ queries[i, part] / 3**0.5, 0)
            scores: list[Tensor] = []
            for b, c in places:
                dx, dy = c - a, b - y
                repeated = torch.tensor([dx] * 3 + [dy] * 3 + [dx**2 + dy**2] * 3, dtype=torch.float)
                scores.append((layer.pos_proj.weight[h] @ repeated + layer.pos_proj.bias[h]) / 3)
            mixed = (1 - gate) * content + gate * torch.softmax(torch.stack(scores), 0)
            out[i, part] = mixed @ values[:, part]
    torch.testing.assert_close(layer(x, grid_offsets((2, 3), False, CPU))[0], layer.proj(out))


def test_gated_attention_is_that_of_timm_with_its_weights() -> None:
    """Its offsets are not repeated: locality_dim is 1."""
    timm = importlib.import_module("timm.models.convit")
    reference = timm.GPSA(16, num_heads=4, qkv_bias=True).eval()
    randomize(reference)
    layer = GatedAttention(Style(16, 4, 20, True, None, 0.0, 0.0), 1)
    state = {key: value for key, value in reference.state_dict().items() if key != "gating_param"}
    layer.load_state_dict({**state, "alpha": reference.gating_param.view(1, 4, 1, 1)})
    x = torch.randn(2, 25, 16)
    torch.testing.assert_close(layer(x, grid_offsets((5, 5), False, CPU)), reference(x))


@pytest.mark.parametrize("heads", [4, 9])
def test_layers_start_as_convolutions(heads: int) -> None:
    """With sharp attention to positions alone, each head reads one neighbour: a k x k kernel."""
    torch.manual_seed(0)
    side = round(heads**0.5)
    dim = 2 * heads
    trunk = ConViT(
        image_size=32,
        patch_size=4,
        num_layers=2,
        n_gpsa_layers=1,
        num_heads=heads,
        hidden_dim=dim,
        mlp_dim=8,
        locality_strength=50.0,
    )
    (layer,) = attentions(trunk)
    assert torch.equal(layer.v.weight, torch.eye(dim))
    assert not layer.pos_proj.bias.any()
    nn.init.constant_(layer.alpha, 100.0)
    picture = torch.randn(1, dim, 8, 8)
    got = layer(picture.flatten(2).transpose(1, 2), grid_offsets((8, 8), False, CPU))
    moved = F.pad(picture, (1, 1, 1, 1))
    if side % 2 == 0:  # a head looks between four patches, and sees the mean of them
        moved = F.avg_pool2d(moved, 2, stride=1)
    shifts = {head: (head % side, head // side) for head in range(heads)}
    read = torch.cat(
        [moved[:, 2 * head : 2 * head + 2, dy : dy + 8, dx : dx + 8] for head, (dy, dx) in shifts.items()], dim=1
    )
    want = layer.proj(read.flatten(2).transpose(1, 2)).view(1, 8, 8, dim)
    inside = got.view(1, 8, 8, dim)[:, 1:-1, 1:-1]
    torch.testing.assert_close(inside, want[:, 1:-1, 1:-1], atol=1e-4, rtol=1e-4)


def test_how_local_layers_start() -> None:
    same = [a.pos_proj.weight for a in attentions(tiny(strength=2.0))]
    assert torch.equal(same[0], same[1])
    assert same[0][:, 4:].eq(-2.0).all()  # the weight of the squared distance
    falling = [a.pos_proj.weight for a in attentions(tiny(strength=0.0))]
    torch.testing.assert_close(falling[0], 2 * falling[1])
    torch.testing.assert_close(falling[0], same[0] / 2)
    torch.manual_seed(0)
    random = attentions(tiny(local=False))[0]
    assert random.pos_proj.weight.abs().max() < 0.1
    assert random.v.weight.abs().max() < 0.1
    assert all((layer.alpha == 1).all() for layer in attentions(tiny()))


def test_offsets() -> None:
    offsets = grid_offsets((2, 3), True, CPU)
    assert offsets.shape == (7, 7, 3)
    assert not offsets[0].any()
    assert not offsets[:, 0].any()
    assert offsets[1, 6].tolist() == [2, 1, 5]  # from the first patch to the last
    assert offsets[6, 1].tolist() == [-2, -1, 5]
    assert torch.equal(grid_offsets((2, 3), False, CPU), offsets[1:, 1:])


@pytest.mark.parametrize("local_class", [False, True])
def test_forward_in_plain_steps(local_class: bool) -> None:
    trunk = tiny(local_class).eval()
    randomize(trunk)
    x = trunk.patch_embed(images()).flatten(2).transpose(1, 2) + trunk.pos_embed
    token = trunk.cls_token.expand(2, 1, 16)
    offsets = grid_offsets((4, 4), local_class, CPU)
    if local_class:
        x = torch.cat([token, x], 1)
    for i, block in enumerate(trunk.blocks):
        if i == 2 and not local_class:
            x = torch.cat([token, x], 1)
        x = block(x, offsets) if i < 2 else block(x)
    x = F.layer_norm(x, (16,), trunk.norm.weight, trunk.norm.bias, eps=1e-5)
    tokens, grid, class_token, pooled = trunk(images(), ["lastBLK", "lastMAP", "lastCLS", "lastPOOL"])
    torch.testing.assert_close(tokens, x)
    torch.testing.assert_close(grid, x[:, 1:].view(2, 4, 4, 16))
    torch.testing.assert_close(class_token, x[:, 0])
    torch.testing.assert_close(pooled, x.mean(1))


def test_the_stages_lead_from_patches_to_all_tokens() -> None:
    trunk = tiny().eval()
    randomize(trunk)
    x = trunk.patch_embed(images()).flatten(2).transpose(1, 2) + trunk.pos_embed
    stages = list(trunk.stages())
    assert [stage.feature for stage in stages] == [None] * 4 + ["lastBLK"]
    for stage in stages:
        x = stage.block(x)
    torch.testing.assert_close(x, trunk(images(), ["lastBLK"])[0])


def test_the_default_feature_is_that_of_the_classifier() -> None:
    assert list(tiny().feature_dims)[-1] == "lastCLS"
    gap = tiny(classifier=Classifier.GAP)
    assert dict(gap.feature_dims) == {"lastMAP": 16, "lastBLK": 16, "lastCLS": 16, "lastPOOL": 16}
    assert list(gap.feature_dims)[-1] == "lastPOOL"
    with pytest.raises(ValueError, match="unknown feature 'lastCLASS': did you mean 'lastCLS'"):
        gap(images(), ["lastCLASS"])


def test_images_of_another_size() -> None:
    trunk = tiny().eval()
    (grid,) = trunk(images(48, 16), ["lastMAP"])
    assert grid.shape == (2, 6, 2, 16)
    with torch.no_grad():  # one position for all patches: interpolation changes nothing
        trunk.pos_embed[:] = trunk.pos_embed[:, :1].clone()
    torch.testing.assert_close(
        trunk(images(48, 16), ["lastCLS"])[0], rebuilt(trunk, 6 * 2)(images(48, 16), ["lastCLS"])[0]
    )


def rebuilt(trunk: ConViT, patches: int) -> ConViT:
    """The same weights; its positions are cut to this number of patches, all in one grid of theirs."""
    other = tiny().eval()
    other.load_state_dict(trunk.state_dict())
    other.grid = (6, 2)
    other.pos_embed = nn.Parameter(trunk.pos_embed[:, :patches].detach())
    return other


def test_options_of_blocks() -> None:
    trunk = ConViT(
        image_size=32,
        num_layers=3,
        n_gpsa_layers=1,
        num_heads=2,
        hidden_dim=12,
        mlp_dim=18,
        dropout_rate=0.2,
        attention_dropout_rate=0.3,
        drop_path_rate=0.4,
        qkv_bias=True,
        qk_scale=0.7,
    )
    style = Style(12, 2, 18, True, 0.7, 0.2, 0.3, norm_eps=1e-5)
    assert [module.style for module in trunk.modules() if isinstance(module, GatedAttention | Attention)] == [style] * 3
    rates = [module.rate for module in trunk.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0, 0.2, 0.4])
    assert trunk.pos_drop.p == 0.2
    assert {module.norm1.eps for module in trunk.modules() if isinstance(module, Block)} == {1e-5}
    layer = attentions(trunk)[0]
    assert layer.qk.bias is not None
    x, offsets = torch.randn(1, 4, 12), grid_offsets((2, 2), False, CPU)
    assert not torch.equal(layer(x, offsets), layer(x, offsets))
    torch.testing.assert_close(layer.eval()(x, offsets), layer(x, offsets))


@pytest.mark.parametrize("local_class", [False, True])
def test_gradients_reach_every_parameter_and_checkpointing_changes_none(local_class: bool) -> None:
    one, other = tiny(local_class), tiny(local_class, splits=3)
    randomize(one)
    other.load_state_dict(one.state_dict())
    for trunk in (one, other):
        trunk(images(), ["lastCLS"])[0].square().sum().backward()
    for (name, mine), theirs in zip(one.named_parameters(), other.parameters(), strict=True):
        assert mine.grad is not None, name
        assert mine.grad.abs().sum() > 0, name
        torch.testing.assert_close(theirs.grad, mine.grad)


@pytest.mark.parametrize(
    "config, path, text",
    [
        (ConViTConf(num_heads=7), "num_heads", "7 heads do not divide the hidden_dim of 768"),
        (ConViTConf(image_size=225), "image_size", "225 is no multiple of the patch_size of 16"),
        (ConViTConf(n_gpsa_layers=12), "n_gpsa_layers", "12 of 12 layers, at most 11; the class token joins after"),
        (
            ConViTConf(n_gpsa_layers=13, class_token_in_local_layers=True),
            "n_gpsa_layers",
            "13 of 12 layers, at most 12",
        ),
        (ConViTConf(n_gpsa_layers=0, class_token_in_local_layers=True), "class_token_in_local_layers", "has no effect"),
        (ConViTConf(use_local_init=False, locality_strength=2.0), "locality_strength", "has no effect"),
    ],
)
def test_what_cannot_work_is_a_problem_of_the_config_and_refused_when_built(
    config: ConViT, path: str, text: str
) -> None:
    problems = list(ConViT.problems(config, FACTS))
    assert [problem.path for problem in problems] == [path]
    assert text in problems[0].message
    fields = ("num_heads", "image_size", "n_gpsa_layers", "class_token_in_local_layers", "use_local_init")
    with pytest.raises(ValueError, match=text):
        ConViT(locality_strength=config.locality_strength, **{key: getattr(config, key) for key in fields})
