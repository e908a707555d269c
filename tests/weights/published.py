"""Files as libraries and methods publish them: their names around networks of torchvision, timm and transformers.

Each network is a real one of its library, small, with drawn weights and statistics; it is the oracle too.
"""

import argparse
import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import convnext, mobilenetv3, regnet, resnet, swin_transformer, vision_transformer

Features = Callable[[Tensor], Tensor]
State = Mapping[str, Tensor]


def drawn(network: nn.Module, seed: int = 0, spread: float = 0.1) -> nn.Module:
    """With weights, biases and statistics that are all different, in evaluation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                noise = torch.rand(value.shape, generator=generator) - 0.5
                value += 1 + noise if name.endswith("running_var") else spread * noise
    return network.eval()


@dataclass
class Published:
    """A file, and what its network gives for images of `size` pixels."""

    save: Callable[[Path], Path]
    features: Features
    size: int = 64
    source: str = ""


def as_state(state: object) -> Callable[[Path], Path]:
    """A file of torch's in a folder."""

    def save(folder: Path) -> Path:
        torch.save(state, folder / "file.pth")
        return folder / "file.pth"

    return save


def under(prefix: str, state: State) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def noise(*shape: int) -> Tensor:
    return torch.full(shape, 7.0)


def headless(network: nn.Module, place: str) -> Features:
    """What the classifier of a network gets."""
    parent, _, child = place.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return network


def torchvision_network(make: Callable[[], nn.Module], classifier: str, size: int = 64) -> Published:
    network = drawn(make())
    save = as_state({name: value.clone() for name, value in network.state_dict().items()})
    return Published(save, headless(network, classifier), size, "torchvision")


@functools.cache
def small_resnet() -> nn.Module:
    """Torchvision's, of basic blocks, without its classifier."""
    network = drawn(models.resnet18())
    network.add_module("fc", nn.Identity())
    return network


def resnet_of(wrap: Callable[[State, State], object], source: str) -> Published:
    """A method's file around a ResNet (without classifier) and another one of the same shapes."""
    network = small_resnet()
    state = network.state_dict()
    other = {name: torch.zeros((), dtype=value.dtype).expand(value.shape) for name, value in state.items()}
    return Published(as_state(wrap(state, other)), network, source=source)


def timm_network(module: str, name: str, classifier: str = "head", size: int = 64, /, **options: object) -> Published:
    made = getattr(importlib.import_module(f"timm.models.{module}"), name)(num_classes=3, **options)
    network = drawn(made)
    source = "torchvision" if module == "resnet" else "timm"  # of which timm's has the names
    save = as_state({"state_dict": {n: value.clone() for n, value in network.state_dict().items()}})
    return Published(save, headless(network, classifier), size, source)


VIT: Mapping[str, int] = {"img_size": 64, "patch_size": 16, "embed_dim": 128, "depth": 2, "num_heads": 2}


def vit(seed: int = 0) -> nn.Module:
    """Timm's, which DINO, iBOT, MAE and MoCo v3 use too."""
    return drawn(
        importlib.import_module("timm.models.vision_transformer").VisionTransformer(num_classes=0, **VIT), seed
    )


def vit_of(wrap: Callable[[State, State], object], source: str) -> Published:
    network = vit()
    return Published(as_state(wrap(network.state_dict(), vit(1).state_dict())), network, source=source)


def hugging_face(name: str, pooled: Callable[[nn.Module, Tensor], Tensor], **options: object) -> Published:
    transformers = importlib.import_module("transformers")
    network = drawn(
        getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**options)), spread=0.5
    )

    def save(folder: Path) -> Path:
        network.save_pretrained(folder)  # type: ignore[operator]  # of transformers' models
        return folder

    return Published(save, partial(pooled, network), source="Hugging Face")


def class_token(network: nn.Module, images: Tensor) -> Tensor:
    found: Tensor = network(images).last_hidden_state[:, 0]
    return found


def pooler_output(network: nn.Module, images: Tensor) -> Tensor:
    found: Tensor = network(images).pooler_output
    return found.flatten(1)


CLASSY_BLOCK = {
    "conv1.": "convolutional_block.0.",
    "bn1.": "convolutional_block.1.",
    "conv2.": "convolutional_block.3.",
}
CLASSY_BASIC = {**CLASSY_BLOCK, "bn2.": "bn."}
CLASSY_BOTTLENECK = {
    **CLASSY_BLOCK,
    "bn2.": "convolutional_block.4.",
    "conv3.": "convolutional_block.6.",
    "bn3.": "bn.",
}


def classy_names(state: State, block: Mapping[str, str]) -> dict[str, Tensor]:
    """Torchvision's names as those of classy_vision/models/resnext.py."""
    found = {}
    for name, value in state.items():
        stage, _, rest = name.partition(".")
        if stage in ("conv1", "bn1"):
            theirs = f"initial_block._module.{0 if stage == 'conv1' else 1}.{rest}"
        else:
            place, _, inner = rest.partition(".")
            number = int(stage.removeprefix("layer")) - 1
            start = next((s for s in block if inner.startswith(s)), "")
            theirs = f"blocks.{number}.block{number}-{place}.{block.get(start, '')}{inner.removeprefix(start)}"
        found[theirs] = value
    return found


def classy(make: Callable[[], nn.Module], block: Mapping[str, str]) -> Published:
    network = drawn(make())
    features = headless(network, "fc")
    model = {
        "trunk": classy_names(network.state_dict(), block),
        "heads": {"block3-2": {"default_head": {"fc.weight": noise(3, 4)}}},
    }
    state = {"phase_idx": 7, "classy_state_dict": {"base_model": {"model": model}}}
    return Published(as_state(state), features)


SIMSIAM = {"module.encoder.fc.0.weight": noise(3, 3), "module.predictor.0.weight": noise(3)}
PUBLISHED: Mapping[str, Callable[[], Published]] = {
    "torchvision resnet18": partial(torchvision_network, models.resnet18, "fc"),
    "torchvision resnext": partial(
        torchvision_network, partial(resnet.ResNet, resnet.Bottleneck, [3, 4, 6, 3], groups=4, width_per_group=8), "fc"
    ),
    "torchvision vit": partial(
        torchvision_network,
        partial(vision_transformer.VisionTransformer, 64, 16, 2, 2, 128, 256),
        "heads.head",
    ),
    "torchvision convnext": partial(
        torchvision_network,
        partial(convnext.ConvNeXt, [convnext.CNBlockConfig(8, 16, 2), convnext.CNBlockConfig(16, None, 1)]),
        "classifier.2",
    ),
    "torchvision swin": partial(
        torchvision_network,
        partial(swin_transformer.SwinTransformer, [4, 4], 16, [2, 2], [2, 4], [4, 4]),
        "head",
        32,
    ),
    "torchvision regnet x": partial(torchvision_network, models.regnet_x_400mf, "fc"),
    "torchvision regnet y": partial(
        torchvision_network,
        partial(regnet.RegNet, regnet.BlockParams([1, 2], [16, 32], [8, 8], [1.0, 1.0], [2, 2], 0.25), stem_width=16),
        "fc",
    ),
    "torchvision efficientnet": partial(torchvision_network, models.efficientnet_b0, "classifier"),
    "torchvision mobilenet": partial(torchvision_network, mobilenetv3.mobilenet_v3_small, "classifier"),
    "MoCo": partial(
        resnet_of,
        lambda q, k: {
            "arch": "resnet18",
            "epoch": 200,
            "state_dict": {
                **under("module.encoder_k.", k),
                **under("module.encoder_q.", q),
                "module.encoder_q.fc.0.weight": noise(3, 3),
                "module.queue": noise(3, 3),
            },
        },
        "MoCo: state_dict.module.encoder_q",
    ),
    "SwAV": partial(
        resnet_of,
        lambda state, _: {
            **under("module.", state),
            "module.projection_head.0.weight": noise(3, 3),
            "module.prototypes.weight": noise(3, 3),
        },
        "SwAV: module",
    ),
    "SimSiam": partial(
        resnet_of,
        lambda state, _: {"arch": "resnet18", "state_dict": {**under("module.encoder.", state), **SIMSIAM}},
        "SimSiam: state_dict.module.encoder",
    ),
    "Barlow Twins": partial(
        resnet_of,
        lambda state, _: {
            "epoch": 3,
            "model": {**under("module.backbone.", state), "module.projector.0.weight": noise(3, 3)},
        },
        "Barlow Twins: model.module.backbone",
    ),
    "BYOL": partial(
        resnet_of,
        lambda online, target: {
            "online_network_state_dict": {},
            **under("online_network.encoder.", online),
            **under("target_network.encoder.", target),
        },
        "BYOL: online_network.encoder",
    ),
    "lightly": partial(
        resnet_of,
        lambda state, other: {
            "state_dict": {
                **under("backbone.", in_a_row(state)),
                **under("backbone_momentum.", in_a_row(other)),
                "projection_head.layers.0.weight": noise(3, 3),
            }
        },
        "lightly: state_dict.backbone",
    ),
    "solo-learn": partial(
        resnet_of,
        lambda state, other: {
            "state_dict": {
                **under("momentum_backbone.", other),
                **under("backbone.", state),
                "classifier.weight": noise(3, 3),
            }
        },
        "solo-learn: state_dict.backbone",
    ),
    "ClassyVision basic": partial(classy, models.resnet18, CLASSY_BASIC),
    "ClassyVision bottleneck": partial(
        classy, partial(resnet.ResNet, resnet.Bottleneck, [3, 4, 6, 3], groups=2, width_per_group=16), CLASSY_BOTTLENECK
    ),
    "DINO": partial(
        vit_of,
        lambda teacher, student: {
            "student": {**under("module.backbone.", student), "module.head.mlp.0.weight": noise(3, 3)},
            "teacher": {**under("backbone.", teacher), "head.mlp.0.weight": noise(3, 3)},
            "epoch": 100,
            "args": argparse.Namespace(arch="vit_small", lr=0.0005),
        },
        "DINO: teacher.backbone",
    ),
    "iBOT": partial(
        vit_of,
        lambda teacher, student: {
            "student": {**under("module.backbone.", student), "module.backbone.masked_embed": noise(1, 128)},
            "teacher": {**under("backbone.", teacher), "backbone.masked_embed": noise(1, 128)},
        },
        "iBOT: teacher.backbone",
    ),
    "MAE": partial(
        vit_of,
        lambda state, _: {
            "model": {
                **state,
                "mask_token": noise(1, 1, 64),
                "decoder_pos_embed": noise(1, 17, 64),
                "decoder_blocks.0.attn.qkv.weight": noise(192, 64),
            }
        },
        "MAE: model",
    ),
    "MoCo v3": partial(
        vit_of,
        lambda state, other: {
            "state_dict": {
                **under("module.base_encoder.", state),
                "module.base_encoder.head.0.weight": noise(3, 3),
                **under("module.momentum_encoder.", other),
            }
        },
        "MoCo v3: state_dict.module.base_encoder",
    ),
    "timm resnet": partial(timm_network, "resnet", "resnet18", "fc"),
    "timm vit": partial(timm_network, "vision_transformer", "VisionTransformer", **VIT),
    "timm dinov2": partial(timm_network, "vision_transformer", "VisionTransformer", **VIT, init_values=0.3),
    "timm beit": partial(
        timm_network, "beit", "Beit", **VIT, use_abs_pos_emb=False, use_rel_pos_bias=True, init_values=0.1
    ),
    "timm convnext": partial(
        timm_network, "convnext", "ConvNeXt", "head.fc", depths=(1, 2, 1, 1), dims=(8, 16, 16, 32)
    ),
    "timm swin": partial(
        timm_network,
        "swin_transformer",
        "SwinTransformer",
        "head.fc",
        32,
        img_size=32,
        embed_dim=16,
        depths=(2, 2),
        num_heads=(2, 4),
        window_size=4,
    ),
    "timm regnet": partial(timm_network, "regnet", "regnetx_004", "head.fc"),
    "timm efficientnet": partial(timm_network, "efficientnet", "efficientnet_b0", "classifier"),
    "timm xcit": partial(
        timm_network,
        "xcit",
        "Xcit",
        img_size=64,
        patch_size=16,
        embed_dim=32,
        depth=2,
        num_heads=2,
        eta=1.0,
        tokens_norm=True,
    ),
    "timm convit": partial(
        timm_network,
        "convit",
        "ConVit",
        img_size=64,
        patch_size=16,
        embed_dim=64,
        depth=3,
        num_heads=4,
        local_up_to_layer=2,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-5),  # as ours and VISSL's; timm's own is 1e-6
    ),
    "Hugging Face ViT": partial(
        hugging_face,
        "ViT",
        class_token,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=64,
        image_size=64,
        patch_size=16,
    ),
    "Hugging Face DINOv2": partial(
        hugging_face,
        "Dinov2",
        class_token,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=3,
        image_size=64,
        patch_size=16,
    ),
    "Hugging Face ResNet": partial(
        hugging_face,
        "ResNet",
        pooler_output,
        embedding_size=8,
        hidden_sizes=[32, 64, 128, 256],
        depths=[3, 4, 6, 3],
    ),
    "Hugging Face ConvNeXt": partial(
        hugging_face, "ConvNext", pooler_output, hidden_sizes=[8, 16], depths=[1, 2], num_stages=2
    ),
}


def in_a_row(state: State) -> dict[str, Tensor]:
    """Torchvision's names as those of nn.Sequential(*list(resnet.children())[:-1])."""
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    return {f"{places[name.partition('.')[0]]}.{name.partition('.')[2]}": value for name, value in state.items()}
