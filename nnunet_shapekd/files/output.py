"""Files and folders that are written whole or not at all."""

import contextlib
import errno
import json
import os
import platform
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_shapekd.files.filling import HIDDEN, content, filled_from_within, is_fixed, settle
from nnunet_shapekd.files.leftovers import left_behind, scratch_folder

#: Lies in every folder that may be replaced, and names what it is and all that was written into it.
MANIFEST = ".shapekd-folder.json"
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
#: a disk with less is full
_LEAST_FREE = 2**20


@contextmanager
def new_file(target: str | os.PathLike[str]) -> Iterator[Path]:
    """A path to write a file to, which becomes ``target`` at the end: a failed or killed run leaves the old file.

    It lies beside its target as ``.NAME.HOST-PROCESS.partial``. What killed runs on this machine left of the same
    target is removed, what another process is writing is not.
    """
    target = Path(target)
    clear_unfinished(target)
    unfinished = target.with_name(f".{target.name}.{platform.node()}-{os.getpid()}.partial")
    try:
        with _naming(target):
            yield unfinished
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def clear_unfinished(target: Path) -> None:
    """Remove what killed runs on this machine left of a file, see :func:`new_file`."""
    for leftover in left_behind(target.with_name(f".{target.name}.{platform.node()}-"), ".partial"):
        leftover.unlink(missing_ok=True)


@contextmanager
def new_folder(target: str | os.PathLike[str], kind: str | None = None) -> Iterator[Path]:
    """A folder to fill, which becomes ``target`` at the end, or vanishes when anything goes wrong.

    It lies beside its target (renaming is atomic there) under a name that nnU-Net takes for no dataset; or inside a
    target that is mounted, or whose parent may not be written to. SIGTERM and SIGHUP clean up, too; after SIGKILL the
    next run on the same machine removes, or brings back, what was left.

    Args:
        target: a folder that does not exist or is empty.
        kind: what is written. An earlier folder of that kind is replaced, unless something else was put into it since.

    Raises:
        ValueError: if the target is there, before or after the work, and is neither empty nor such a folder.
        OSError: naming the target, if it cannot be written.
    """
    target = Path(os.path.realpath(target))
    missing_parents = [parent for parent in target.parents if not parent.exists()]
    before = target.with_name(f".shapekd-before-{target.name}-{platform.node()}-")
    for leftover in left_behind(before):
        if target.exists():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.rename(target)
    check_free(target, kind)
    aside = before.with_name(f"{before.name}{os.getpid()}")
    try:
        with _naming(target), _signals_as_exit():
            if target.exists() and is_fixed(target, aside):
                with filled_from_within(target) as building:
                    yield building
                    _finish(building, target, kind)
                return
            with scratch_folder(target.with_name(f".shapekd-partial-{target.name}")) as building:
                yield building
                _finish(building, target, kind)
                # an earlier result steps aside and is deleted last, so that one of the two is always there
                if target.exists():
                    target.rename(aside)
                try:
                    building.rename(target)
                except BaseException:
                    if aside.exists():
                        aside.rename(target)
                    raise
                shutil.rmtree(aside, ignore_errors=True)
    finally:
        for parent in missing_parents:
            with contextlib.suppress(OSError):  # not empty, as it should be
                parent.rmdir()


def _finish(building: Path, target: Path, kind: str | None) -> None:
    if kind is not None:
        files = _files(building)
        (building / MANIFEST).write_text(json.dumps({"kind": kind, "files": files}, indent=1), encoding="utf-8")
    check_free(target, kind, own=building)


@contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Gives an error of writing, like that of a full disk, the name of what was written."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_WRITING and error.filename is None:
            error.filename = str(target)
        raise


def check_free(target: str | os.PathLike[str], kind: str | None, own: Path | None = None) -> None:
    """Raises ValueError as :func:`new_folder` does: to be called before long work.

    Args:
        target: of the result.
        kind: likewise.
        own: what is being written inside the target.
    """
    target = Path(os.path.realpath(target))
    if target == Path.cwd() or target in Path.cwd().parents:
        raise ValueError(f"{target} is the current folder, or around it: name a folder of its own for the output")
    existing = next(folder for folder in (target, *target.parents) if folder.exists())
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} exists already and is no folder: choose another")
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{target} cannot be made: {existing} is no folder that may be written to")
    if (free := shutil.disk_usage(existing).free) < _LEAST_FREE:
        raise ValueError(f"{target} cannot be made: the disk of {existing} is full, {free} bytes are free")
    if not target.exists():
        return
    if own is None:
        settle(target)
    found = [path for path in content(target) if path != own]
    if not found:
        return
    if busy := [path for path in found if path.name.startswith(HIDDEN) and path.is_dir()]:
        raise ValueError(f"{target} is being filled by another run; if that is no more, remove {busy[0]}")
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        known = kind is not None and manifest["kind"] == kind and isinstance(manifest["files"], list)
        strangers = [name for name in _files(target, own) if name not in manifest["files"] and name != MANIFEST]
    except (OSError, ValueError, KeyError, TypeError):
        known, strangers = False, []
    if not known:
        reason = "" if kind is None else f", as it is no earlier {kind} of this package's"
        raise ValueError(f"{target} exists already and is left as it is{reason}: choose another folder")
    if strangers:
        shown = ", ".join(strangers[:3]) + (", ..." if len(strangers) > 3 else "")
        raise ValueError(
            f"{target} is left as it is, as it also holds {shown}: move that away or choose another folder"
        )


def _files(folder: Path, own: Path | None = None) -> list[str]:
    """All files below a folder, and its empty folders, but for those in one of them."""
    tops = {*content(folder)} - {own}
    paths = (path for path in folder.rglob("*") if folder / path.relative_to(folder).parts[0] in tops)
    files = (path for path in paths if not path.is_dir() or path.is_symlink() or not any(path.iterdir()))
    return sorted(path.relative_to(folder).as_posix() for path in files)


@contextmanager
def _signals_as_exit() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    # nohup's ignored SIGHUP stays ignored.
    replaced = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in replaced:
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, before[number])
