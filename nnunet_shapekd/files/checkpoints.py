"""Checkpoints: read without running code, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

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
    """Read a checkpoint of nnU-Net's without running any code it may hold.

    Returns:
        The checkpoint, all tensors on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        UnsafeCheckpointError: if it holds more than weights and plain values.
        DamagedCheckpointError: if it cannot be read, or is no checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there, or is no file.")
    try:
        with torch.serialization.safe_globals(_ALLOWED_GLOBALS):
            checkpoint = load(path, weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message starts by advising to load the file without this protection
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        raise UnsafeCheckpointError(
            f"{path} holds something other than weights and plain values{f' ({forbidden[1]})' if forbidden else ''} "
            "and was not loaded: a checkpoint can run code. If you do not know where it comes from, delete it."
        ) from None
    if not isinstance(checkpoint, dict):
        raise DamagedCheckpointError(f"{path} is no checkpoint of nnU-Net: it holds a {type(checkpoint).__name__}.")
    return checkpoint


def load(path: Path, weights_only: bool) -> Any:
    """``torch.load`` onto the CPU; tensors stay on the disk until they are used.

    Raises:
        DamagedCheckpointError: if the content is damaged. What is wrong with the disk or the installation stays what
            it is: no reason to give a checkpoint up.
    """
    whole = zipfile.is_zipfile(path)  # as torch writes since 1.6
    try:
        return torch.load(path, map_location="cpu", weights_only=weights_only, mmap=whole)
    except (OSError, ImportError, AttributeError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        if weights_only and (whole or "GLOBAL" in str(error)):  # not damaged: of forbidden content
            raise
        damage = "UnpicklingError"
    except Exception as error:  # torch raises runtime, key, value and end-of-file errors for a damaged file
        damage = type(error).__name__
    raise DamagedCheckpointError(f"{path} cannot be read, it is damaged or truncated ({damage}).")


def weights_sha256(weights: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and values: the same weights in a re-saved file have the same hash."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_atomically(checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """``torch.save``: a killed run leaves the old file or the new one."""
    with new_file(path) as unfinished, unfinished.open("wb") as file:  # given a path, torch writes its name into it
        torch.save(checkpoint, file)
