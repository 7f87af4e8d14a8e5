"""Checkpoints of a training: with provenance, never half-written, and resumed from safely."""

from __future__ import annotations

import contextlib
import io
from datetime import timedelta
from pathlib import Path
from statistics import median
from time import time
from typing import Any

from batchgenerators.utilities.file_and_folder_operations import join

from nnunet_shapekd.files.checkpoints import (
    DamagedCheckpointError,
    UnsafeCheckpointError,
    handed_over,
    only_weights_and_values,
    read_checkpoint,
    write_atomically,
)
from nnunet_shapekd.files.lock import FolderInUseError, hold
from nnunet_shapekd.files.output import clear_unfinished


def network_builder_name(trainer: type) -> str:
    """The trainer to name in a checkpoint, so that as bare an nnU-Net as possible can rebuild the network.

    That is the class of nnU-Net's own that builds ``trainer``'s network; if a user's class builds it, ``trainer``.
    """
    builder = next(c for c in trainer.__mro__ if "build_network_architecture" in vars(c))
    return builder.__name__ if builder.__module__.startswith("nnunetv2.") else trainer.__name__


class ResumableTraining:
    """Mixin: checkpoints carry provenance, are never half-written, and a killed run loses little.

    Every file gets an entry "shapekd". A run saves at the end of an epoch once a minute or more has passed, where
    nnU-Net saves every 50 epochs, and prints after each epoch how long it will still take.
    """

    #: kept in every checkpoint under "shapekd"
    provenance: dict[str, Any]
    #: a run saves at the end of the epoch in which so many have passed; ``None``: as often as costs at most 1 % of the
    #: time and 20 GiB of writing a day, and not within a minute
    seconds_between_saves: float | None = None
    #: seconds and bytes of the last save
    _save_costs: tuple[float, int] = (0.0, 0)

    def on_train_start(self) -> None:
        self._saved_at = time()
        if self.local_rank == 0:
            self._hold_folder()
            for name in ("latest", "best", "final"):
                clear_unfinished(Path(self.output_folder, f"checkpoint_{name}.pth"))
        super().on_train_start()

    def _hold_folder(self) -> None:
        """Two trainings in one folder would overwrite each other's checkpoints and log."""
        try:
            not_held = hold(self.output_folder, f"training {type(self).__name__}")
        except FolderInUseError as error:
            raise FolderInUseError(
                f"{error}. Wait until that training has ended, or end it, and continue with --c; to train beside it, "
                "set nnUNet_results to another folder."
            ) from None
        if not_held:
            self.print_to_log_file(f"WARNING: nothing keeps a second training out of {self.output_folder}: {not_held}.")

    def on_epoch_end(self) -> None:
        super().on_epoch_end()
        # after nnU-Net's own end of the epoch: what it saves before has the previous epoch's best Dice, with which a
        # continued run would overwrite a better checkpoint_best
        if time() - self._saved_at > self._seconds_until_next_save and self.current_epoch < self.num_epochs:
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

        The class below in the line is given a stand-in for a file, not a path.
        """
        began = time()
        stand_in = io.BytesIO()
        with handed_over(stand_in) as checkpoints:
            super().save_checkpoint(stand_in)
        for checkpoint in checkpoints:  # none: not the first rank, or checkpointing is disabled
            checkpoint = {**checkpoint, "shapekd": self.provenance, "trainer_name": network_builder_name(type(self))}
            write_atomically(checkpoint, filename)
            self._save_costs = time() - began, Path(filename).stat().st_size
        if Path(filename).name == "checkpoint_latest.pth":
            self._saved_at = time()

    @property
    def _seconds_until_next_save(self) -> float:
        if self.seconds_between_saves is not None:
            return self.seconds_between_saves
        seconds, nbytes = self._save_costs
        return max(60.0, 100 * seconds, nbytes / (20 * 2**30) * 86400)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """nnU-Net's, and the provenance; with ``--c`` a damaged file falls back to the newest good one.

        Nothing in a file is run: nnU-Net itself loads with ``weights_only=False``, which torch overrules in here.
        """
        path = Path(filename_or_checkpoint)
        try:
            checkpoint = read_checkpoint(path)
        except DamagedCheckpointError as damage:
            # --val, and --val_best after a training, mean exactly the file they name
            if not self.logger.resume or self.was_initialized:
                raise ValueError(
                    f"{damage} Copy it again from where it came, or continue the training with --c, which falls back "
                    f"to another checkpoint in {path.parent}."
                ) from damage
            path, checkpoint = self._newest_readable(path.parent, damage)
        except FileNotFoundError as error:  # of --val_best, say
            there = ", ".join(sorted(file.name for file in path.parent.glob("checkpoint_*.pth"))) or "no checkpoint"
            raise FileNotFoundError(
                f"{error} There is {there}. --val alone validates checkpoint_final.pth; --c finishes a training first."
            ) from None
        if "shapekd" not in checkpoint:
            raise ValueError(
                f"{path} was not written by {type(self).__name__}. Move {self.output_folder} away and train anew "
                "without --c."
            )
        with only_weights_and_values():
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
        readable, own = {}, type(self).__name__
        for path in folder.glob("checkpoint_*.pth"):
            with contextlib.suppress(DamagedCheckpointError, UnsafeCheckpointError):
                checkpoint = read_checkpoint(path)
                # not what somebody else has put there; 0.1.0 did not record the name
                if "shapekd" in checkpoint and checkpoint["shapekd"].get("trainer", own) == own:
                    readable[path] = checkpoint
        if not readable:
            raise ValueError(
                f"{damage} There is no other readable checkpoint to continue from. Move {folder} away and train anew "
                "without --c."
            ) from damage
        newest = max(readable, key=lambda path: readable[path]["current_epoch"])
        epochs = readable[newest]["current_epoch"]
        self.print_to_log_file(f"WARNING: {damage} Continuing from {newest.name} instead, after {epochs} epochs.")
        return newest, readable[newest]
