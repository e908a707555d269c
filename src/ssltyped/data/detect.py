"""Which kind of source a path is."""

import os
from pathlib import Path

from ssltyped.config.hints import brief
from ssltyped.data.image_list import ImageListConf
from ssltyped.data.sources import FlatFolderConf, ImageFolderConf, image_files, is_image, no_images, sub_folders

SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test"})
LISTS = (".txt", ".tsv", ".csv", ".lst", ".npy")


def detect(path: Path) -> tuple[object, str]:
    """The config of the source that a path holds, and in one line how that was seen. Only names are looked at.

    - a file .txt .tsv .csv .lst .npy: `ImageList`
    - two or more sub-folders with images in each, and no image beside them: `ImageFolder`
    - any other folder with images, also in sub-folders: `FlatFolder`

    Raises ValueError if there is nothing at the path, no image in it, or if it holds only splits (`train`,
    `val`, ...), one of which is meant.
    """
    try:
        if path.is_dir():
            return _detect_folder(path)
        if not path.is_file():
            raise ValueError(f"{path} does not exist (one with blanks or other signs needs quotes)")
    except OSError as error:
        raise ValueError(f"{brief(str(path))} cannot be read: {error.strerror}") from error
    if path.suffix.lower() in LISTS:
        return ImageListConf(path=path), f"{path.name} is a list file"
    raise ValueError(f"{path} is a file; it must be a folder of images or a list ({' '.join(LISTS)})")


def _detect_folder(path: Path) -> tuple[object, str]:
    with os.scandir(path) as entries:
        images_beside = any(is_image(entry.name) and entry.is_file() for entry in entries)
    folders = sub_folders(path)
    if images_beside:
        return FlatFolderConf(path=path), "images lie in it directly, so its folders are no classes"
    if folders and SPLITS.issuperset(name.lower() for name in folders):
        raise ValueError(
            f"{path} holds splits, not classes; did you mean {' or '.join(str(path / f) for f in folders)}?"
        )
    without = [name for name in folders if next(image_files(path / name), None) is None]
    if len(without) == len(folders):
        raise no_images(path)
    if without:
        return FlatFolderConf(path=path), f"not every sub-folder holds images ({without[0]}), so they are no classes"
    if len(folders) == 1:
        return FlatFolderConf(path=path), f"one sub-folder ({folders[0]}) is no set of classes"
    return ImageFolderConf(path=path), f"{len(folders)} sub-folders with images in each: the classes"
