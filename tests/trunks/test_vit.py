"""Vision transformer: published sizes, other libraries' networks with the same weights, options and what is refused."""

import math

import pytest
import torch
from facts import FACTS
from torch import Tensor, nn
from torchvision.models import VisionTransformer as Reference

from ssltyped.trunks.base import Input, InputColor
from ssltyped.trunks.tokens import Masking
from ssltyped.trunks.transformer import Attention, DropPath
from ssltyped.trunks.vit import VisionTransformer, VisionTransformerConf


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
    timm = pytest.importorskip("timm.models.vision_transformer")
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
    plain = VisionTransformer(image_size=8, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)
    assert "blocks.0.attn.qkv.bias" not in plain.state_dict()
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
