"""Whether a file may be read, and whether it can hold what its header claims, before any memory is taken for it."""

import gzip
import math
import os
from collections.abc import Sequence
from pathlib import Path

from nnunet_shapekd.files.walking import file_trouble

#: what deflate makes of one byte, at most (1032), and LZW (1365), both rounded up
MOST_INFLATED = 1400
#: what a header and the compression's own frames may take, generously
_SLACK = 2**16
_CHUNK = 2**20
#: ending -> which words the first bytes of a file that is not compressed hold, or do not
_PLAIN = {
    ".gipl": {},
    ".mha": {b"elementdatafile = local": True, b"compresseddata = true": False},
    ".nrrd": {b"encoding: raw": True, b"data file:": False},
}
_HEADER = 4096


def check_file(path: Path) -> None:
    """Raises ValueError, with what is the matter, for what is no regular file that holds something and may be read."""
    if trouble := file_trouble(path):
        raise ValueError(trouble)


def check_length(path: Path, start: int, shape: Sequence[int], bits: int) -> None:
    """Raises ValueError where a file, gzipped or not, is shorter than its header says.

    Args:
        path: the file.
        start: bytes before the first voxel.
        shape: of the voxels, in any order.
        bits: of a voxel.
    """
    expected = start + math.prod(map(int, shape)) * bits // 8
    size = path.stat().st_size
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        if not zipped:
            held = size
        elif expected > size * MOST_INFLATED + _SLACK:
            held = size * MOST_INFLATED
        else:
            file.seek(-4, os.SEEK_END)  # gzip ends with the length of its last part, which mostly is the only one
            held = expected if int.from_bytes(file.read(), "little") == expected % 2**32 else _inflated(path, expected)
    if held < expected:
        at_most = "at most " if zipped and held == size * MOST_INFLATED else ""
        raise ValueError(
            f"{path}: cannot be read: it is cut short or damaged, its header says {expected} bytes and it holds "
            f"{at_most}{held}; download it again"
        )


def check_claim(path: Path, n_bytes: int) -> None:
    """Raises ValueError where a file cannot hold so many bytes of voxels, compressed as it may be."""
    size, ending = path.stat().st_size, path.suffix.lower()
    with path.open("rb") as file:
        start = file.read(_HEADER).lower()
    plain = ending in _PLAIN and all((word in start) == there for word, there in _PLAIN[ending].items())
    if n_bytes > (size if plain else size * MOST_INFLATED + _SLACK):
        raise ValueError(
            f"{path}: cannot be read: its header says {n_bytes} bytes, which a file of {size} cannot hold; "
            "make it again"
        )


def check_gzip(path: Path) -> None:
    """Raises ValueError where a file is called like a gzipped one, and is none or is damaged."""
    if path.suffix.lower() == ".gz":
        _inflated(path, path.stat().st_size * MOST_INFLATED)


def _inflated(path: Path, expected: int) -> int:
    """How many bytes there are in a gzipped file; counted to ``expected`` at most."""
    count = 0
    try:
        with gzip.open(path) as file:
            while count < expected and (chunk := file.read(_CHUNK)):
                count += len(chunk)
    except Exception as error:  # gzip and zlib have an exception each for a broken file
        raise ValueError(f"{path}: cannot be read whole ({error}); download it again") from None
    return count
