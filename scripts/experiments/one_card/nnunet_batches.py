"""Batches as a trainer of nnU-Net's makes them: for augmentations that exist as a trainer, on a CPU.

The data are those that ``evidence.py prepare`` left, by its plan. Augmented in this process, batch by batch.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence_data import ACDC, nnunet_environment


def batches(trainer: str, prepared: Path, fold: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Image ``(b, 1, h, w)`` float32 and classes ``(b, 1, h, w)`` int64, without end.

    Args:
        trainer: ``module:class``. Mirroring is left out, as in all runs here. Where its ``transforms`` augment batches
            (SmaugLab's), they do.
        prepared: OUT of ``evidence.py prepare``.
        fold: whose training cases are drawn.
        seed: of all random numbers of this process.
    """
    module, name = trainer.split(":")
    with tempfile.TemporaryDirectory() as results:
        variables = nnunet_environment(prepared) | {"nnUNet_results": results, "nnUNet_n_proc_DA": "0"}
        # nnU-Net's paths are read when it is imported first
        with patch.dict(os.environ, variables):
            kind = _without_mirroring(getattr(import_module(module), name))
            folder = prepared / "preprocessed" / ACDC
            plans, dataset = (json.loads((folder / f"{part}.json").read_text()) for part in ("smallPlans", "dataset"))
            plans["continue_training"] = False
            device = torch.device("cpu")
            made = kind(plans=plans, configuration="2d", fold=fold, dataset_json=dataset, device=device)
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            made.initialize()
            loader, _ = made.get_dataloaders()
        more = getattr(made, "transforms", None)
        for batch in loader:
            image, target = batch["data"], batch["target"]
            if isinstance(target, list):
                target = target[0]
            if more is not None:
                image, target = more(image, target)
            if image.isfinite().all():  # SmaugLab divides by the spread of a single voxel, and leaves such steps out
                yield image.float(), target.long()


def _without_mirroring(kind: type) -> type:
    class WithoutMirroring(kind):
        def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
            rotation, dummy_2d, size, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
            self.inference_allowed_mirroring_axes = None
            return rotation, dummy_2d, size, None

    WithoutMirroring.__name__ = kind.__name__
    return WithoutMirroring
