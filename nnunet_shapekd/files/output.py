"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import glob
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

#: Lies in every folder that may be replaced, and names what it is and all that was written into it.
MANIFEST = ".shapekd-folder.json"


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
def scratch_folder(stem: Path) -> Iterator[Path]:
    """A new folder, named after ``stem``, machine and process, for as long as it is used.

    What killed runs on this machine left under the same stem is removed.
    """
    stem = stem.with_name(f"{stem.name}-{platform.node()}-")
    for leftover in left_behind(stem):
        shutil.rmtree(leftover, ignore_errors=True)
    folder = stem.with_name(f"{stem.name}{os.getpid()}")
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_folder(target: str | os.PathLike[str], kind: str | None = None) -> Iterator[Path]:
    """A folder to fill, which becomes ``target`` at the end, or vanishes when anything goes wrong.

    It lies beside its target (renaming is atomic there) under a name that nnU-Net takes for no dataset. SIGTERM and
    SIGHUP clean up, too; after SIGKILL the next run on the same machine removes, or brings back, what was left.

    Args:
        target: a folder that does not exist or is empty.
        kind: what is written. An earlier folder of that kind is replaced, unless something else was put into it since.

    Raises:
        ValueError: if the target is there, before or after the work, and is neither empty nor such a folder.
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
        with _signals_as_exit(), scratch_folder(target.with_name(f".shapekd-partial-{target.name}")) as building:
            yield building
            if kind is not None:
                files = _files(building)
                (building / MANIFEST).write_text(json.dumps({"kind": kind, "files": files}, indent=1), encoding="utf-8")
            check_free(target, kind)
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


def check_free(target: str | os.PathLike[str], kind: str | None) -> None:
    """Raises ValueError as :func:`new_folder` does: to be called before long work."""
    target = Path(os.path.realpath(target))
    if target == Path.cwd() or target in Path.cwd().parents:
        raise ValueError(f"{target} is the current folder, or around it: name a folder of its own for the output")
    if not target.exists():
        existing = next(parent for parent in target.parents if parent.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise ValueError(f"{target} cannot be made: {existing} is no folder that may be written to")
        return
    if not target.is_dir():
        raise ValueError(f"{target} exists already and is no folder: choose another")
    if not any(target.iterdir()):
        return
    try:
        manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
        known = kind is not None and manifest["kind"] == kind
        strangers = [name for name in _files(target) if name not in manifest["files"] and name != MANIFEST]
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


def _files(folder: Path) -> list[str]:
    """All files below a folder, and its empty folders."""
    paths = (path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink() or not any(path.iterdir()))
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def left_behind(stem: Path, ending: str = "") -> list[Path]:
    """What runs that are no more have left under this name, their process's number and this ending."""
    if not stem.parent.is_dir():
        return []
    found = stem.parent.glob(f"{glob.escape(stem.name)}*{ending}")
    return [path for path in found if not _is_running(path.name.removeprefix(stem.name).removesuffix(ending))]


def _is_running(pid: str) -> bool:
    if os.name != "posix" or not pid.isdigit():
        return True  # cannot tell: os.kill(pid, 0) would send Ctrl-C on Windows
    if int(pid) == os.getpid():
        return False  # made by an earlier process of the same number
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


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
