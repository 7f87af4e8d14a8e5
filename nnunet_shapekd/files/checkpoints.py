"""Checkpoints: read without running code, written whole or not at all."""

import errno
import hashlib
import os
import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from nnunet_shapekd.files.output import new_file

#: What a checkpoint may hold beside tensors and plain Python values: the numpy scalars of nnU-Net's logging.
#: numpy 1 and 2 keep their reconstructing function in differently named modules, so a file may ask for either name.
_ALLOWED_GLOBALS = [
    np.dtype,
    type(np.dtype(np.float16)),
    type(np.dtype(np.float32)),
    type(np.dtype(np.float64)),
    type(np.dtype(np.int64)),
    (np.float32(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    (np.float32(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
]


class UnsafeCheckpointError(ValueError):
    """A checkpoint holds something other than weights and plain values; it could run code and was not loaded."""


class DamagedCheckpointError(ValueError):
    """A checkpoint cannot be read."""


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint of nnU-Net's without running any code it may hold, and only if every byte is what was written.

    Returns:
        The checkpoint, all tensors on the CPU, where they stay on the disk until they are used.

    Raises:
        FileNotFoundError: if there is no such file.
        UnsafeCheckpointError: if it holds more than weights and plain values.
        DamagedCheckpointError: if it cannot be read, is damaged, or is no checkpoint. What is wrong with the disk or
            the installation stays the error it is: no reason to give a checkpoint up.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, expected a checkpoint's file" if path.is_dir() else "is not there, or is no file"
        raise FileNotFoundError(f"{path} {what}.")
    checked = _check_sums(path)
    with only_weights_and_values():
        try:
            # mapped: who wants the record alone, or the weights without the optimiser, reads no more than that
            checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=checked)
        except (OSError, ImportError, AttributeError, MemoryError):
            raise
        except pickle.UnpicklingError as error:
            if not checked and "GLOBAL" not in str(error):
                raise _damaged(path, error) from None
            # torch's own message starts by advising to load the file without this protection
            forbidden = re.search(r"GLOBAL (\S+)", str(error))
            raise UnsafeCheckpointError(
                f"{path} holds something other than weights and plain values"
                f"{f' ({forbidden[1]})' if forbidden else ''} and was not loaded: a checkpoint can run code. If you do "
                "not know where it comes from, delete it."
            ) from None
        except Exception as error:  # torch raises runtime, key, value and end-of-file errors for a damaged file
            raise _damaged(path, error) from None
    if not isinstance(checkpoint, dict):
        raise DamagedCheckpointError(f"{path} is no checkpoint of nnU-Net: it holds a {type(checkpoint).__name__}.")
    return checkpoint


@contextmanager
def only_weights_and_values() -> Iterator[None]:
    """Inside, whatever calls ``torch.load`` gets weights and plain values alone, even with ``weights_only=False``."""
    force, force_no = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    before = {name: os.environ.pop(name) for name in (force, force_no) if name in os.environ}  # torch refuses both
    os.environ[force] = "1"
    try:
        with torch.serialization.safe_globals(_ALLOWED_GLOBALS):
            yield
    finally:
        del os.environ[force]
        os.environ.update(before)


def _check_sums(path: Path) -> bool:
    """Whether the file is the zip that torch writes since 1.6, and whole: torch itself does not compare its checksums.

    Raises:
        DamagedCheckpointError: if it begins like one, and a byte of its content is another than when it was written.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile, zlib and struct have an exception class each for a broken file
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno != errno.EINVAL):
            raise  # EINVAL is that of a seek to where a damaged directory points
        raise _damaged(path, error) from None
    if damaged is not None:
        raise DamagedCheckpointError(f"{path} cannot be read, it is damaged (checksum of {damaged}).")
    return True


def _damaged(path: Path, error: Exception) -> DamagedCheckpointError:
    return DamagedCheckpointError(f"{path} cannot be read, it is damaged or truncated ({type(error).__name__}).")


def weights_sha256(weights: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and values: the same weights in a re-saved file have the same hash."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_network(path: str | os.PathLike[str]) -> dict[str, Any]:
    """:func:`read_checkpoint` of a file that holds all that nnU-Net builds a trained network from.

    Raises:
        ValueError: also if it has no "network_weights", "init_args" or "trainer_name".
    """
    checkpoint = read_checkpoint(path)
    if absent := {"network_weights", "init_args", "trainer_name"} - checkpoint.keys():
        raise ValueError(f"{path} is no checkpoint of nnU-Net: it has no {', '.join(sorted(absent))}.")
    return checkpoint


@contextmanager
def handed_over(stand_in: BinaryIO) -> Iterator[list[Any]]:
    """Inside, what is saved into ``stand_in`` by ``torch.save`` is put into the list instead, as it is.

    nnU-Net builds a checkpoint and saves it in one method (2.8); serialising it twice to add an entry costs seconds.
    """
    found: list[Any] = []
    save = torch.save

    def hand_over(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if f is stand_in:
            found.append(obj)
        else:
            save(obj, f, *args, **kwargs)

    torch.save = hand_over
    try:
        yield found
    finally:
        torch.save = save


def write_atomically(checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """``torch.save``: a killed run leaves the old file or the new one."""
    with new_file(path) as unfinished, unfinished.open("wb") as file:  # given a path, torch writes its name into it
        torch.save(checkpoint, file)
