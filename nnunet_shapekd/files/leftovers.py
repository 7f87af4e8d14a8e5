"""What is hidden while it is being made, named after its machine and process, and found again if they are no more."""

import glob
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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


def left_behind(stem: Path, ending: str = "") -> list[Path]:
    """What runs that are no more have left under this name, their process's number and this ending."""
    if not stem.parent.is_dir():
        return []
    found = stem.parent.glob(f"{glob.escape(stem.name)}*{ending}")
    return [path for path in found if not _is_running(path.name.removeprefix(stem.name).removesuffix(ending))]


def being_made(stem: Path) -> list[Path]:
    """What lies under names that start so and end with machine and process, and is not known to be left behind."""
    here = re.compile(rf".*-{re.escape(platform.node())}-(\d+)")
    found = sorted(stem.parent.glob(f"{glob.escape(stem.name)}*"))
    return [path for path in found if not (match := here.fullmatch(path.name)) or _is_running(match[1])]


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
