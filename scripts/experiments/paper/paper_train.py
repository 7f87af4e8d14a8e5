"""The paper's own recipe in small, and single ingredients of it changed to nnU-Net's: train networks, judge them.

    python scripts/experiments/paper/paper_train.py STACKS.npz OUT paper paper+teacher paper+features --seeds 0 1 2

STACKS.npz is ``one_card/pack.py``'s. Networks are trained one after the other on one core, seed by seed, in the order
of their names; OUT gets the weights and a table of each, and those that have both are skipped. A name is ingredients,
and after a + what is trained with them: the teacher, or a student of it by a term. Without a + it has no teacher.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "one_card"))
import augment
import losses
from data import Judged, Stacks
from ensemble import CLASSES, PATCH
from judge import STRUCTURES, dice
from paper_recipe import INGREDIENTS, KINDS, TERMS, Network, Slices
from runs import explored

from nnunet_shapekd.files.output import new_file
from nnunet_shapekd.method.class_mean import class_mean_image

BATCH, DATA = 4, "ACDC-0"
#: the learning rate is halved after these shares of the training: epochs 60, 100, 150 and 180 of 200
HALVED = 0.3, 0.5, 0.75, 0.9


def train(name: str, seed: int, stacks: Slices, out: Path, steps: int, features: Sequence[int]) -> Network:
    """Train a network; a student's teacher is read from ``out``."""
    base, _, kind = name.partition("+")
    ingredients = INGREDIENTS[base]
    teacher = None
    if kind in TERMS:
        teacher = Network(ingredients, features, skips=False).eval().requires_grad_(False)
        teacher.load_state_dict(torch.load(out / f"{base}+teacher-{seed}.pt", weights_only=True))
        teacher.to(memory_format=torch.channels_last)
    torch.manual_seed(seed)
    network = Network(ingredients, features, skips=kind != "teacher").to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), 0.001)
    rate = torch.optim.lr_scheduler.MultiStepLR(optimiser, [round(share * steps) for share in HALVED], 0.5)
    pool = torch.tensor(stacks.training(DATA)).expand(BATCH, -1)
    pool_size, nowhere = torch.full((BATCH,), pool.shape[1]), torch.zeros(BATCH, dtype=torch.bool)
    generator, sums, begin = torch.Generator().manual_seed(seed), torch.zeros(2), time.time()
    for step in range(1, steps + 1):
        u = torch.rand(BATCH, augment.NUMBERS + 4, generator=generator)
        noise = torch.randn(BATCH, 1, PATCH, PATCH, generator=generator)
        slices, centre = stacks.draw(pool, pool_size, u[:, :4], PATCH, nowhere)
        # half are turned, by any angle; none is scaled
        turns = torch.stack((0.4 * u[:, 4], u[:, 5], *torch.ones(2, BATCH)), 1)
        labels = stacks.label[slices][:, None].long()
        image, classes = augment.spatial(stacks.values(slices), labels, centre, PATCH, turns)
        if ingredients.intensities == "z-scores":
            image = augment.intensities(image, u[:, 8:], noise)
        means = class_mean_image(image, classes, CLASSES)
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            logits = network(means if kind == "teacher" else image)
            of_teacher = teacher(means) if teacher else None
        if ingredients.loss == "ce":
            loss = F.cross_entropy(logits[0].float(), classes[:, 0])
        else:
            loss = losses.segmentation([scale[None] for scale in logits], classes[None, :, 0], torch.ones(1)).sum()
        distance = torch.zeros(())
        if of_teacher:
            term, weight = TERMS[kind]
            seen = (logits[0], of_teacher[0]) if term.compares == "logits" else (network.features, teacher.features)
            distance = weight * term(*seen)
        optimiser.zero_grad()
        (loss + distance).backward()
        optimiser.step()
        rate.step()
        sums += torch.stack((loss.detach(), distance.detach()))
        if step % 500 == 0:
            values = ", ".join(f"{value / 500:.4f}" for value in sums.tolist())
            print(f"{name} {seed}, step {step}, {1000 * (time.time() - begin) / step:.0f} ms: {values}", flush=True)
            sums.zero_()
    return network.eval()


class Alone:
    """One network, for ``dice``, which asks many at once."""

    n = 1

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [scale[None] for scale in self.network(x[0])]


def judged(network: Callable, stacks: Stacks, of: Judged) -> list[tuple[str, bool, float, float]]:
    """Of each structure: whether the stack has it; Dice of the stack; mean Dice of its slices, 1 where one has neither.

    The stack's Dice is not a number where the structure is neither there nor predicted.
    """
    z, *rows_columns = of.box
    of_slices = [
        dice(network, stacks, replace(
            of, first=of.first + i, slices=1, box=(slice(0, 1), *rows_columns),
            original=of.original[z.start + i : z.start + i + 1],
        ))[0].nan_to_num(1.0)
        for i in range(of.slices)
    ]  # fmt: skip
    of_stack, by_slice = dice(network, stacks, of)[0].tolist(), torch.stack(of_slices).mean(0).tolist()
    there = [bool((of.original == k).any()) for k in (1, 2, 3)]
    return list(zip(STRUCTURES, there, of_stack, by_slice, strict=True))


@torch.no_grad()
def judge(name: str, seed: int, network: Callable, stacks: Stacks, to: Path) -> None:
    """A row for each structure of the development patients' stacks and of Sunnybrook's."""
    places = [of for of in stacks.judged if explored(of.place, of.case, stacks.splits) or of.place == "Sunnybrook"]
    with new_file(to) as path, path.open("w", newline="") as file:
        for of in places:
            csv.writer(file).writerows(
                (name, seed, of.place, of.case, structure, int(there), round(value, 4), round(slices, 4))
                for structure, there, value, slices in judged(network, stacks, of)
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stacks", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="+", choices=[f"{a}{b and '+'}{b}" for a in INGREDIENTS for b in KINDS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=7500)
    parser.add_argument("--features", type=int, nargs="+", default=[12, 24, 48, 96, 128])
    args = parser.parse_args()
    for i, name in enumerate(args.names):
        base, _, kind = name.partition("+")
        there = f"{base}+teacher" in args.names[:i]
        missing = [seed for seed in args.seeds if not (there or (args.out / f"{base}+teacher-{seed}.pt").exists())]
        if kind in TERMS and missing:
            parser.error(f"{name} needs {base}+teacher, seeds {missing}: name it before, or give the OUT that has it")
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for seed in args.seeds:
        for name in args.names:
            weights, rows = (args.out / f"{name}-{seed}.{kind}" for kind in ("pt", "csv"))
            if weights.exists() and (rows.exists() or name.endswith("+teacher")):
                continue
            by_percentiles = INGREDIENTS[name.partition("+")[0]].intensities == "percentiles"
            stacks = Slices(args.stacks, torch.device("cpu"), by_percentiles)
            network = train(name, seed, stacks, args.out, args.steps, args.features)
            if not name.endswith("+teacher"):  # which sees the labels
                judge(name, seed, Alone(network), stacks, rows)
            with new_file(weights) as path:
                torch.save(network.state_dict(), path)


if __name__ == "__main__":
    main()
