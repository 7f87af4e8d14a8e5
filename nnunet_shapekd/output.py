"""Folders that are written whole or not at all."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(target: Path, replaces: str | None = None) -> Iterator[Path]:
    """A folder to fill, which becomes ``target`` at the end, or vanishes when anything goes wrong.

    It lies beside its target (renaming is atomic there) under a name that nnU-Net takes for no dataset. SIGTERM and
    SIGHUP clean up, too; after SIGKILL the next run on the same machine removes what was left.

    Args:
        target: a folder that does not exist or is empty.
        replaces: a file's name; a target that holds it is an earlier result and is replaced.

    Raises:
        ValueError: if the target is there, before or after the work, and is neither empty nor an earlier result.
    """
    target = Path(os.path.abspath(target))
    check_free(target, replaces)
    marker = f".shapekd-partial-{target.name}-{platform.node()}-"
    for leftover in target.parent.glob(f"{marker}*") if target.parent.is_dir() else []:
        if not _is_running(leftover.name.removeprefix(marker)):
            shutil.rmtree(leftover, ignore_errors=True)
    building = target.parent / f"{marker}{os.getpid()}"
    with _signals_as_exit():
        try:
            building.mkdir(parents=True)
            yield building
            check_free(target, replaces)
            # an earlier result steps aside and is deleted last, so that one of the two is always there
            aside = target.with_name(f"{target.name}.before-{os.getpid()}")
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
            shutil.rmtree(building, ignore_errors=True)


def check_free(target: str | os.PathLike[str], replaces: str | None) -> None:
    """Raises ValueError as :func:`new_folder` does: to be called before long work."""
    target = Path(target)
    if not target.exists():
        return
    if not target.is_dir():
        raise ValueError(f"{target} exists already and is no folder: choose another")
    if any(target.iterdir()) and not (replaces and (target / replaces).exists()):
        reason = f", as it holds no {replaces} of an earlier run" if replaces else ""
        raise ValueError(f"{target} exists already and is left as it is{reason}: choose another folder or empty it")


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
