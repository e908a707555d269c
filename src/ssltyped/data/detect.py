"""Which kind of source a path is."""

from pathlib import Path

from ssltyped.config.hints import brief
from ssltyped.data.image_list import ImageListConf
from ssltyped.data.listing import listing
from ssltyped.data.sources import FlatFolderConf, ImageFolderConf, no_images, not_classes

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
        if path.exists() and not path.is_file():
            raise ValueError(f"{path} is a pipe or device; it must be a folder of images or a list ({' '.join(LISTS)})")
        if not path.is_file():
            raise ValueError(f"{path} does not exist (one with blanks or other signs needs quotes)")
    except OSError as error:
        raise ValueError(f"{brief(str(path))} cannot be read: {error.strerror}") from error
    if path.suffix.lower() in LISTS:
        return ImageListConf(path=path), f"{path.name} is a list file"
    raise ValueError(f"{path} is a file; it must be a folder of images or a list ({' '.join(LISTS)})")


def _detect_folder(path: Path) -> tuple[object, str]:
    found = listing(path)
    folders = found.folders
    if not found.counts[""]:
        if folders and SPLITS.issuperset(name.lower() for name in folders):
            splits = " or ".join(str(path / name) for name in folders)
            raise ValueError(f"{path} holds splits, not classes; did you mean {splits}?")
        if not len(found.files):
            raise no_images(path)
    if why := not_classes(path):
        return FlatFolderConf(path=path), why
    return ImageFolderConf(path=path), f"{len(folders)} sub-folders with images in each: the classes"
