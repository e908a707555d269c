"""Folders of classes, matched by their names; what is held out, and what is too little."""

from __future__ import annotations

from pathlib import Path

import pytest
from images import write_plain
from measured import hard

from ssltyped import ConfigError, launch
from ssltyped.data.measured import TrainTestSet, TrainTestSetConf
from ssltyped.evals import Features
from ssltyped.run import main
from ssltyped.tasks.knn import KNNEvalConf
from ssltyped.tasks.running import resolve_task


def folders(root: Path, *classes: str, count: int = 5) -> Path:
    for name in classes:
        write_plain(root / name, count)
    return root


def on(weights: Path, data: TrainTestSet, output: Path) -> KNNEvalConf:  # type: ignore[valid-type]  # a config's type
    return KNNEvalConf(weights=weights, data=data, ks=[1], output=output)


def test_classes_are_matched_by_name(weights: Path, tmp_path: Path) -> None:
    """The test folder has its classes at other places: by number nearly all would be wrong."""
    train = folders(tmp_path / "train", "ant", "bee", "cat")
    data = TrainTestSetConf(path=train, test_path=folders(tmp_path / "test", "bee", "cat"), num_workers=0)
    run = launch(on(weights, data, tmp_path / "runs"), name="knn")
    warnings = resolve_task(on(weights, data, tmp_path)).warnings
    assert [str(one) for one in warnings] == ["data.test_source: has no image of ant, which are learned all the same"]
    labels = {name: Features(run.folder / "features" / name).label[:].tolist() for name in ("images", "test")}
    assert labels == {"images": [0] * 5 + [1] * 5 + [2] * 5, "test": [1] * 5 + [2] * 5}


def test_other_classes_are_an_error_that_names_them(weights: Path, tmp_path: Path) -> None:
    train, test = folders(tmp_path / "train", "ant", "bee"), folders(tmp_path / "test", "bee", "dog")
    with pytest.raises(ConfigError, match=r"data\.test_source has classes that data\.source has not: dog; .*ant, bee"):
        resolve_task(on(weights, TrainTestSetConf(path=train, test_path=test), tmp_path))
    with pytest.raises(ConfigError, match=r"the classes of data\.source have names \(ant, bee\), those of .* numbers"):
        resolve_task(on(weights, TrainTestSetConf(path=train, test_source=hard(4)), tmp_path))


def test_several_folders_and_a_list(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = folders(tmp_path / "one", "ant", "bee"), folders(tmp_path / "two", "bee", "cat")
    command = ["recipes.evals.knn", f"weights={weights}", f"output={tmp_path}/runs", "data.num_workers=0", "ks=[1]"]
    assert main([*command, f"data.path=[{one},{two}]"]) == 0
    assert "images 16, test images 4, classes 3" in capsys.readouterr().out
    (tmp_path / "list.txt").write_text("".join(f"one/ant/{i:03}.png {i % 2}\n" for i in range(5)))
    assert main([*command, f"data.path={tmp_path}/list.txt"]) == 0
    assert "images 3, test images 2, classes 2" in capsys.readouterr().out
    assert main([*command, f"data.path={one}/ant"]) == 2
    assert "needs labels, and there are none" in capsys.readouterr().err


def test_nothing_to_test_on(weights: Path, tmp_path: Path) -> None:
    data = TrainTestSetConf(path=folders(tmp_path / "set", "ant", "bee", count=1), num_workers=0)
    with pytest.raises(ConfigError, match=r"data\.test_share: leaves no image to test on"):
        launch(on(weights, data, tmp_path / "runs"), name="knn")
