"""Dice of many networks on whole stacks, on the stacks' own grids, as nnU-Net predicts them (without mirroring).

    python scripts/experiments/one_card/judge.py STACKS.npz ROWS.csv --runs reported --weights OUT/weights-*.npz

A row for each network, stack and structure: run, data, seed, place, case, structure, Dice.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import runs
import torch
import torch.nn.functional as F
from data import Judged, Stacks
from ensemble import FEATURES, PATCH, Ensemble, build

STRUCTURES = ("RV", "MLV", "LVC")
Network = tuple[str, ...]  # run, data, seed


def judge(
    stacks: Stacks, weights: Sequence[Path], to: Path, chosen: Callable[..., bool], features: Sequence[int]
) -> None:
    """Judge all networks of some files of weights on the chosen stacks; rows are added to the table file by file."""
    with to.open("a", newline="") as file:
        for path in weights:
            states = read_states(path)
            write_rows(file, list(states), loaded(list(states.values()), features, stacks.device), stacks, chosen)
            file.flush()


def write_rows(
    file: TextIO, names: Sequence[Network], network: Callable, stacks: Stacks, chosen: Callable[..., bool]
) -> None:
    """A row for each of ``names``, which are what ``network`` answers for, chosen stack and structure."""
    for of in stacks.judged:
        if chosen(of.place, of.case, stacks.splits):
            csv.writer(file).writerows(
                (*name, of.place, of.case, structure, round(value, 4))
                for name, values in zip(names, dice(network, stacks, of).tolist(), strict=True)
                for structure, value in zip(STRUCTURES, values, strict=True)
            )


def read_states(path: Path) -> dict[Network, dict[str, torch.Tensor]]:
    """Weights of the networks of a file."""
    states: dict[Network, dict[str, torch.Tensor]] = {}
    for key, array in np.load(path).items():
        *network, name = key.split("|")
        states.setdefault(tuple(network), {})[name] = torch.from_numpy(array).float()
    return states


def loaded(states: list[dict[str, torch.Tensor]], features: Sequence[int], device: torch.device) -> Ensemble:
    """Networks with these weights."""
    ensemble = Ensemble(lambda: build(features), range(len(states))).to(device)
    ensemble.load(states)
    return ensemble


@torch.no_grad()
def dice(ensemble: Ensemble, stacks: Stacks, of: Judged) -> torch.Tensor:
    """Tiles half over one another weighted by a Gaussian, logits resampled linearly, the largest wins.

    Returns:
        ``(networks, 3)`` float32, of RV, MYO and LV; not a number where a structure is neither there nor predicted.
    """
    canvas, patch, z = stacks.image.shape[-1], PATCH, of.slices
    values = stacks.values(torch.arange(of.first, of.first + z, device=stacks.device))
    line = torch.arange(patch, device=stacks.device) - (patch - 1) / 2
    bell = torch.exp(-0.5 * (line / (patch / 8)) ** 2)
    bell = (bell[:, None] * bell).clamp_min(1e-4)
    size = [min(s, canvas) for s in of.shape]
    starts = [
        [(canvas - s) // 2, (canvas - s) // 2 + s - patch] if s > patch else [(canvas - patch) // 2] for s in size
    ]
    logits = torch.zeros(ensemble.n, z, 4, canvas, canvas, device=stacks.device)
    weight = torch.zeros(canvas, canvas, device=stacks.device)
    for y in starts[0]:
        for x in starts[1]:
            tile = values[..., y : y + patch, x : x + patch]
            with torch.autocast("cuda", torch.bfloat16, enabled=stacks.device.type == "cuda"):
                finest, *_ = ensemble(tile.expand(ensemble.n, -1, -1, -1, -1))
            logits[..., y : y + patch, x : x + patch] += bell * finest.float()
            weight[y : y + patch, x : x + patch] += bell
    logits /= weight.clamp_min(1e-8)
    # from the canvas to the image; off the canvas is background
    whole = logits.new_zeros(ensemble.n, z, 4, *of.shape)
    whole[:, :, 0] = 10
    inside, source = [], []
    for full, part in zip(of.shape, size, strict=True):
        inside.append(slice((full - part) // 2, (full - part) // 2 + part))
        source.append(slice((canvas - part) // 2, (canvas - part) // 2 + part))
    whole[..., inside[0], inside[1]] = logits[..., source[0], source[1]]
    _, rows, columns = of.box
    grid = rows.stop - rows.start, columns.stop - columns.start
    predicted = of.original.new_zeros((ensemble.n, *of.original.shape))
    resampled = F.interpolate(whole.flatten(0, 1), grid, mode="bilinear").argmax(1).to(torch.uint8)
    predicted[(slice(None), *of.box)] = resampled.unflatten(0, (ensemble.n, z))
    axes = (1, 2, 3)
    return torch.stack(
        [
            2.0
            * ((predicted == k) & (of.original == k)).sum(axes)
            / ((predicted == k).sum(axes) + (of.original == k).sum())
            for k in (1, 2, 3)
        ],
        1,
    )


def options(description: str) -> argparse.ArgumentParser:
    """Whose weights are judged on what."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stacks", type=Path)
    parser.add_argument("to", type=Path)
    parser.add_argument("--runs", required=True, choices=runs.LISTS, help="whose stacks")
    parser.add_argument("--weights", type=Path, nargs="+", required=True)
    parser.add_argument("--features", type=int, nargs="+", default=FEATURES)
    return parser


def main() -> None:
    args = options(__doc__).parse_args()
    args.to.unlink(missing_ok=True)
    stacks = Stacks(args.stacks, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    judge(stacks, args.weights, args.to, runs.LISTS[args.runs][1], args.features)


if __name__ == "__main__":
    main()
