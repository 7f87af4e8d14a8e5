"""Part of benchmark.py: what a batch costs a worker of nnU-Net's data loader, with and without moves."""

from __future__ import annotations

import contextlib
import copy
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.training.transforms import MoveIntensities

BATCH, MOVED_BATCH, MOVES_ALONE = "stock batch", "batch, half are moved", "moves of a batch"
#: as for a student, whose teacher is asked about the samples as they were
BATCH_AND_AS_IT_WAS = "batch, half are moved, and as it was"
SLICES = 10


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """As in nnU-Net's workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def batches(trainers: dict[str, nnUNetTrainer], batch: dict) -> dict[str, Callable[[], object]]:
    """What makes a batch, read and augmented in this process as in a worker's, and what only moves its samples.

    Args:
        trainers: by name; one of ``MOVED_BATCH`` among them.
        batch: data and target of the plans' size; of its first sample a case is made.
    """
    write_case(next(iter(trainers.values())), batch)
    contenders = {}
    for name, trainer in trainers.items():
        trainer.fold = "all"  # the one case is for training and validation
        with contextlib.redirect_stdout(io.StringIO()), patch.dict(os.environ, {"nnUNet_n_proc_DA": "0"}):
            loader, _ = trainer.get_dataloaders()
        contenders[name] = partial(next, loader)
        if name == MOVED_BATCH:
            steps = loader.data_loader.transforms.transforms
            alone = copy.copy(next(step for step in steps if isinstance(step, MoveIntensities)))
            alone.ranges = replace(alone.ranges, share=1.0)
            contenders[MOVES_ALONE] = partial(moved, alone, batch)
    return contenders


def moved(moves: MoveIntensities, batch: dict) -> list[torch.Tensor]:
    """A batch's images, each of them moved."""
    pairs = zip(batch["data"], batch["target"][0], strict=True)
    return [moves(image=image, segmentation=segmentation)["image"] for image, segmentation in pairs]


def write_case(trainer: nnUNetTrainer, batch: dict) -> None:
    """The first sample of a batch, as nnU-Net's preprocessing leaves a case; in 2d of several equal slices."""
    image, labels = batch["data"][0].numpy(), batch["target"][0][0].numpy()
    if image.ndim == 3:
        image, labels = (np.repeat(array[:, None], SLICES, axis=1) for array in (image, labels))
    patch_size = trainer.configuration_manager.patch_size
    blocks, chunks = comp_blosc2_params(image.shape, patch_size)
    where = Path(trainer.preprocessed_dataset_folder, "case")
    where.with_suffix(".b2nd").unlink()  # an empty one, by which nnU-Net knows the format
    locations = {int(label): np.argwhere(labels == label)[:1000] for label in np.unique(labels) if label}
    nnUNetDatasetBlosc2.save_case(image, labels, {"class_locations": locations}, str(where), chunks, blocks)
