"""Why does distillation do what it does? What its gradient adds to nnU-Net's own, and what the teacher says.

    python scripts/experiments/evidence_why.py OUT RUN... --seeds 0 1 2
    python scripts/experiments/evidence_table.py RUN... --show why

At the weights of stock's finished training of ``evidence.py``, on training patches: RUN's gradient less stock's is that
of RUN's distillation. It is compared with that of the cross-entropy with the labels (run ``labels``): their cosine, 1
for the same direction, and the ratio of their norms. Of the teacher, at the voxels of augmented training patches: how
often its most probable class is another than the label, where the label is foreground (missed: another structure or
background) and where it is background (false), its summed foreground probability over the foreground's size, and its
mean entropy over the labels' classes (nat, foreground and background counted alike). Means over batches, which go to
docs/evidence/why.csv.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from evidence import Experiment, commit, device
from evidence_data import DATASET, OFFICIAL
from evidence_rows import WHY, put
from evidence_runs import RUNS
from nnunetv2.run.run_training import get_trainer_from_args

BATCHES = 40
METRICS = ("cosine", "norm", "missed", "false", "volume", "entropy")


def gradients_and_teacher(experiment: Experiment, run: str) -> tuple[torch.Tensor, dict[str, float]]:
    """A gradient for each batch, ``(batches, parameters)``, and means of what the run's teacher says, if it has one."""
    environment = experiment.environment(run)
    with tempfile.TemporaryDirectory() as results, patch.dict(os.environ, environment | {"nnUNet_results": results}):
        where = str(DATASET), "2d", experiment.fold, RUNS[run].trainer, "smallPlans"
        with redirect_stdout(sys.stderr):
            trainer = get_trainer_from_args(*where, device=torch.device(device()))
            trainer.on_train_start()
            trainer.on_epoch_start()
            trainer.on_train_epoch_start()
        final = experiment.training_folder("stock") / "checkpoint_final.pth"
        trainer.network.load_state_dict(torch.load(final, weights_only=False)["network_weights"])
        said: list[torch.Tensor] = []
        if getattr(trainer, "teacher", None) is not None:
            trainer.teacher.register_forward_hook(lambda module, _, output: said.append(output[0]))
        parameters = list(trainer.network.parameters())
        trainer.optimizer = torch.optim.SGD(parameters, lr=0)
        gradients, found = [], []
        for _ in range(BATCHES):
            batch = next(trainer.dataloader_train)
            with patch("torch.nn.utils.clip_grad_norm_"):  # a clipped gradient tells nothing about its parts
                trainer.train_step(batch)
            gradient = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
            gradients.append(gradient)
            if said:
                found.append(about_teacher(said.pop().cpu(), batch["target"][0][:, 0].long()))
    means = {name: float(np.nanmean([of[name] for of in found])) for name in found[0]} if found else {}
    return torch.stack(gradients), means


def about_teacher(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Args: ``(b, k, x, y)``, ``(b, x, y)``."""
    p = logits.softmax(1)
    entropy = -(p * p.clamp_min(1e-12).log()).sum(1)
    foreground = labels > 0
    wrong = p.argmax(1) != labels
    return {
        "missed": wrong[foreground].float().mean().item(),
        "false": wrong[~foreground].float().mean().item(),
        "volume": (p[:, 1:].sum() / foreground.sum()).item(),
        "entropy": (entropy[foreground].mean() + entropy[~foreground].mean()).item() / 2,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", choices=RUNS, metavar="RUN")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--fold", type=int, default=OFFICIAL, help="by default %(default)s")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in args.seeds:
        experiment = Experiment(args.out.absolute(), seed, args.fold)
        stock, _ = gradients_and_teacher(experiment, "stock")
        labels = gradients_and_teacher(experiment, "labels")[0] - stock
        for run in args.runs:
            gradients, about = gradients_and_teacher(experiment, run)
            own = gradients - stock
            about["cosine"] = torch.cosine_similarity(own, labels).mean().item()
            about["norm"] = (own.norm(dim=1) / labels.norm(dim=1)).mean().item()
            columns = (f"{about[name]:.4g}" if name in about else "" for name in METRICS)
            put(WHY, [(run, seed, args.fold, BATCHES, *columns, commit())])


if __name__ == "__main__":
    main()
