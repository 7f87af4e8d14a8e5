"""Filling a folder that no other can take the place of, as one that a container mounts, from within."""

import contextlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from nnunet_shapekd.files.leftovers import left_behind, scratch_folder

#: what all hidden folders here start with
HIDDEN = ".shapekd-"
_PARTIAL, _COLLECTING, _BEFORE = (f"{HIDDEN}{what}-{platform.node()}-" for what in ("partial", "collecting", "before"))


def content(folder: Path) -> list[Path]:
    """What lies in a folder, but for what a file system puts into every one that is mounted."""
    return sorted(path for path in folder.iterdir() if path.name != "lost+found")


def is_fixed(folder: Path, aside: Path) -> bool:
    """Whether a folder that exists cannot be renamed, which is tried: to ``aside`` and back."""
    try:
        folder.rename(aside)
    except OSError:
        return True
    aside.rename(folder)
    return False


@contextlib.contextmanager
def filled_from_within(folder: Path) -> Iterator[Path]:
    """A hidden folder inside, whose content takes the place of all there is when it is complete.

    An error leaves the folder as it was; what a killed run left is put right by :func:`settle`.
    """
    with scratch_folder(folder / _PARTIAL.removesuffix(f"-{platform.node()}-")) as building:
        yield building
        collecting, before = (folder / f"{stem}{os.getpid()}" for stem in (_COLLECTING, _BEFORE))
        try:
            earlier = [path for path in content(folder) if not path.name.startswith(HIDDEN)]
            collecting.mkdir()
            for path in earlier:
                path.rename(collecting / path.name)
            collecting.rename(before)  # from here on it is the new content that counts
            _move_in(building, folder)
            shutil.rmtree(before)
        except BaseException:
            _settle(folder, str(os.getpid()))
            raise


def settle(folder: Path) -> None:
    """Finish, or take back, what runs that are no more have begun in a folder."""
    for stem in (_COLLECTING, _BEFORE):
        for leftover in left_behind(folder / stem):
            _settle(folder, leftover.name.removeprefix(stem))
    for leftover in left_behind(folder / _PARTIAL):
        shutil.rmtree(leftover, ignore_errors=True)


def _settle(folder: Path, process: str) -> None:
    partial, collecting, before = (folder / f"{stem}{process}" for stem in (_PARTIAL, _COLLECTING, _BEFORE))
    if collecting.is_dir():
        _move_in(collecting, folder)
        collecting.rmdir()
    if before.is_dir():
        if partial.is_dir():
            _move_in(partial, folder)
        shutil.rmtree(before)


def _move_in(source: Path, folder: Path) -> None:
    for path in sorted(source.iterdir()):
        path.rename(folder / path.name)
