"""Whether a data set finds room where it is written, before it is read."""

import shutil
from collections.abc import Iterable
from pathlib import Path

#: what is copied as it is; other files become smaller or larger
_COPIED = (".gz", ".png")


def room_problems(folder: Path, files: Iterable[Path]) -> list[str]:
    """Says so where a disk has less space than the files take that are copied byte for byte.

    Args:
        folder: of the new data set; need not be there.
        files: its sources, all there.
    """
    disk = next(parent for parent in folder.parents if parent.exists())
    needed = sum(path.stat().st_size for path in files if path.suffix.lower() in _COPIED)
    free = shutil.disk_usage(disk).free
    if needed <= free:
        return []
    return [
        f"{disk}: {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free; make room or name another nnUNet_raw"
    ]
