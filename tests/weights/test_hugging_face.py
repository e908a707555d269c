"""What the configs of models of transformers say, which they read as we mean it."""

import importlib
from pathlib import Path

import pytest
from weights.test_export import home

from ssltyped.weights.export import Target, export


@pytest.mark.parametrize(
    ("name", "kind", "fields"),
    [
        ("narrow resnet", "ResNetConfig", {"hidden_sizes": [8, 16, 32, 64], "layer_type": "basic"}),
        ("vit without bias", "ViTConfig", {"qkv_bias": False, "image_size": 64, "num_attention_heads": 2}),
        ("vit with scaled branches", "Dinov2Config", {"mlp_ratio": 2, "use_mask_token": False}),
        ("convnext", "ConvNextConfig", {"depths": [1, 1, 2, 1]}),
    ],
)
def test_the_folder_is_one_of_transformers(
    name: str, kind: str, fields: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = importlib.import_module("transformers")
    home(name, tmp_path, monkeypatch)
    export(tmp_path, Target.HUGGING_FACE, tmp_path / "out")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert type(config).__name__ == kind
    assert {field: getattr(config, field) for field in fields} == fields
    images = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out")
    assert list(images.image_mean) == [0.5, 0.5, 0.5]
    assert (images.size["height"], images.size["width"]) == (64, 64)
