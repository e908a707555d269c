"""A folder of a few hundred images of all kinds, 3% of them broken, trains to the end and names the broken ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from images import encoded, mixed_files, pixels, write

from ssltyped.run import main

COUNT, BROKEN_COUNT = 300, 9


def make_folder(folder: Path) -> tuple[Path, set[str]]:
    """300 files of mixed formats; the paths of the 9 broken ones."""
    kinds = sorted(mixed_files().items())
    files: dict[str, bytes] = {}
    for number in range(COUNT - BROKEN_COUNT):
        name, data = kinds[number % len(kinds)]
        # Two of three are photographs of a JPEG each, the rest every other kind there is.
        files[f"{number:03}_{name}"] = data if number % 3 == 0 else b""
        if number % 3:
            del files[f"{number:03}_{name}"]
            files[f"{number:03}.jpg"] = encoded(pixels(60, 80, seed=number), "JPEG")
    whole = encoded(pixels(60, 80), "JPEG")
    broken = {
        f"broken{number}.jpg": (b"", b"no image at all", whole[: len(whole) // 2])[number % 3] for number in range(9)
    }
    return write(folder, files | broken), {str(folder / name) for name in broken}


@pytest.mark.parametrize("workers", [0, 2])
def test_trains_and_names_them(tmp_path: Path, capfd: pytest.CaptureFixture[str], workers: int) -> None:
    folder, broken = make_folder(tmp_path / "images")
    overrides = [
        f"data.train.path={folder}", f"data.train.num_workers={workers}", "data.train.batch_size=30", "epochs=2",
        "trunk.width_multiplier=0.125", "heads.projector.dims=[64,32]", "data.train.views.transforms.0.size=32",
        f"output={tmp_path}",
    ]  # fmt: skip
    assert main(["recipes.simclr_folder", *overrides]) == 0
    out = capfd.readouterr().out
    reported = [json.loads(line) for line in (tmp_path / "simclr_folder" / "unreadable_rank0.jsonl").open()]
    assert {entry["path"] for entry in reported} == broken
    assert len(reported) == BROKEN_COUNT, "each once, although two epochs met them"
    assert all(entry["reason"] for entry in reported)
    assert all(f"{path} (" in out for path in broken)
    assert json.loads((tmp_path / "simclr_folder" / "result.json").read_text())["metrics"]["unreadable_images"] == 9
