"""Checkpoints: read without running code, written whole or not at all, with provenance, and resumed from safely."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import re
import zipfile
from datetime import timedelta
from pathlib import Path
from statistics import median
from time import time
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import join

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
            checkpoint = _load(path, weights_only=True)
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


def _load(path: Path, weights_only: bool) -> Any:
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
    """``torch.save`` beside ``path``, then rename: a killed run leaves the old file or the new one."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.partial")
    with open(temporary, "wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def network_builder_name(trainer: type) -> str:
    """The trainer to name in a checkpoint, so that as bare an nnU-Net as possible can rebuild the network.

    That is the class of nnU-Net's own that builds ``trainer``'s network; if a user's class builds it, ``trainer``.
    """
    builder = next(c for c in trainer.__mro__ if "build_network_architecture" in vars(c))
    return builder.__name__ if builder.__module__.startswith("nnunetv2.") else trainer.__name__


class ResumableTraining:
    """Mixin: checkpoints carry provenance, are never half-written, and a killed run loses little.

    Every file gets an entry "shapekd". A run saves at least once a minute of training (at the end of the epoch), where
    nnU-Net saves every 50 epochs, and prints after each epoch how long it will still take.
    """

    #: kept in every checkpoint under "shapekd"
    provenance: dict[str, Any]

    def on_train_start(self) -> None:
        self._saved_at = time()
        if self.local_rank == 0:
            for unfinished in Path(self.output_folder).glob(".checkpoint_*.partial"):  # a killed run's
                unfinished.unlink()
        super().on_train_start()

    def on_epoch_end(self) -> None:
        super().on_epoch_end()
        # after nnU-Net's own end of the epoch: what it saves before has the previous epoch's best Dice, with which a
        # continued run would overwrite a better checkpoint_best
        if time() - self._saved_at > 60 and self.current_epoch < self.num_epochs:
            self.current_epoch -= 1  # as nnU-Net's on_train_end does
            self.save_checkpoint(join(self.output_folder, "checkpoint_latest.pth"))
            self.current_epoch += 1
        log = self.logger.get_checkpoint()
        starts, ends = (log[f"epoch_{moment}_timestamps"][-5:] for moment in ("start", "end"))
        seconds_per_epoch = median(end - start for start, end in zip(starts, ends, strict=True))
        left = timedelta(seconds=round((self.num_epochs - self.current_epoch) * seconds_per_epoch))
        self.print_to_log_file(f"Progress: {self.current_epoch} of {self.num_epochs} epochs, about {left} left")

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint plus the "shapekd" entry, written beside the old file and renamed over it.

        The class below in the line is given a file object to save into, not a path.
        """
        buffer = io.BytesIO()
        super().save_checkpoint(buffer)
        if Path(filename).name == "checkpoint_latest.pth":
            self._saved_at = time()
        if buffer.tell() == 0:  # not the first rank, or checkpointing is disabled
            return
        buffer.seek(0)
        # our own bytes of a moment ago: safe to unpickle
        checkpoint = torch.load(buffer, map_location="cpu", weights_only=False)
        checkpoint["shapekd"] = self.provenance
        checkpoint["trainer_name"] = network_builder_name(type(self))
        write_atomically(checkpoint, filename)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """nnU-Net's, and the provenance; with ``--c`` a damaged file falls back to the newest readable one."""
        path = Path(filename_or_checkpoint)
        try:
            checkpoint = _load(path, weights_only=False)
        except DamagedCheckpointError as damage:
            # --val, and --val_best after a training, mean exactly the file they name
            if not self.logger.resume or self.was_initialized:
                raise ValueError(
                    f"{damage} Copy it again from where it came, or continue the training with --c, which falls back "
                    f"to another checkpoint in {path.parent}."
                ) from damage
            path, checkpoint = self._newest_readable(path.parent, damage)
        if "shapekd" not in checkpoint:
            raise ValueError(
                f"{path} was not written by {type(self).__name__}. Move {self.output_folder} away and train anew "
                "without --c."
            )
        super().load_checkpoint(str(path))
        self.provenance = checkpoint["shapekd"]

    def _checkpoints_in_the_way(self) -> list[dict[str, Any]]:
        """What a fresh start into this folder would overwrite, as far as it can be read; nothing in it is run."""
        found = []
        for path in sorted(Path(self.output_folder).glob("checkpoint_*.pth")):
            try:
                found.append(read_checkpoint(path))
            except UnsafeCheckpointError as error:
                raise ValueError(f"{error} It is in the way of this training: move {path.parent} away.") from error
            except DamagedCheckpointError as error:
                self.print_to_log_file(f"WARNING: {error}")
        return found

    def _newest_readable(self, folder: Path, damage: DamagedCheckpointError) -> tuple[Path, dict[str, Any]]:
        """The checkpoint to continue from instead of the damaged one, with its path."""
        readable = {}
        for path in folder.glob("checkpoint_*.pth"):
            with contextlib.suppress(DamagedCheckpointError):
                readable[path] = _load(path, weights_only=False)
        if not readable:
            raise ValueError(
                f"{damage} There is no other readable checkpoint to continue from. Move {folder} away and train anew "
                "without --c."
            ) from damage
        newest = max(readable, key=lambda path: readable[path]["current_epoch"])
        epochs = readable[newest]["current_epoch"]
        self.print_to_log_file(f"WARNING: {damage} Continuing from {newest.name} instead, after {epochs} epochs.")
        return newest, readable[newest]
