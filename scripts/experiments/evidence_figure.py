"""Where is a run better and worse than another? Every patient's difference, structure by structure, as a picture.

    python scripts/experiments/evidence_figure.py stock ramp mean-jitter --fold 1 -o docs/evidence/differences.png

The first run is what the others are compared with. A dot is a patient (cases and seeds averaged), the line its runs'
mean, the bar the 95 % interval of evidence_table.py over patients. Images and labels of the data set are not shown:
they are not ours to publish.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from evidence_table import Run, find, title
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunet_shapekd.drawing import class_styles, drawing, png, wrapped
from nnunet_shapekd.evaluation.statistics import MIN_PATIENTS, bootstrap_interval


def draw(differences: dict[str, dict[str, dict[str, np.ndarray]]], to: str, seeds: int) -> Figure:
    """Args: run -> where it was judged -> structure -> (patients,) differences of Dice (%) to ``to``."""
    shifts = list(next(iter(differences.values())))
    structures = dict.fromkeys(name for of_shifts in differences.values() for of in of_shifts.values() for name in of)
    colours = {name: colour for name, (colour, _) in class_styles(list(structures)).items()}
    with drawing():
        size = 1 + 2.4 * len(shifts), 0.8 + 1.25 * len(differences)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(differences), len(shifts), sharex="col", squeeze=False)
        for row, (run, of_shifts) in zip(grid, differences.items(), strict=True):
            for ax, of_classes in zip(row, of_shifts.values(), strict=True):
                strips(ax, of_classes, colours)
            row[0].set_ylabel(wrapped(run, 16), fontweight="bold")
        for ax, shift in zip(grid[0], shifts, strict=True):
            ax.set_title(title(shift), pad=4)
        figure.supxlabel(f"difference of Dice to {to} (percentage points); a dot is a patient; seeds: {seeds}")
    return figure


def strips(ax: Axes, of_classes: dict[str, np.ndarray], colours: dict[str, str]) -> None:
    for i, (name, x) in enumerate(of_classes.items()):
        colour = colours[name]
        height = ((np.arange(len(x)) * 0.618) % 1 - 0.5) * 0.5  # the golden ratio's multiples spread evenly
        ax.scatter(x, i + height, s=12, color=colour, edgecolor="#333333", linewidth=0.4, zorder=3)
        ax.plot([x.mean()] * 2, [i - 0.33, i + 0.33], color="black", linewidth=1.8, zorder=4)
        if len(x) >= MIN_PATIENTS:
            low, high = bootstrap_interval(x)
            ax.barh(i, high - low, left=low, height=0.66, color=colour, alpha=0.35, linewidth=0)
    ax.axvline(0, color="#666666", linewidth=0.8, zorder=1)
    ax.set_yticks(range(len(of_classes)), list(of_classes))
    ax.set_ylim(len(of_classes) - 0.5, -0.5)
    ax.tick_params(length=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("to", metavar="RUN")
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, required=True)
    args = parser.parse_args()
    found = find(args.fold)
    names = [args.to, *args.runs]
    seeds = sorted(set.intersection(*({seed for run, seed, *_ in found if run == name} for name in names)))
    if not seeds:
        parser.error(f"no seed has all of {', '.join(names)} in fold {args.fold}")
    to, *runs = (Run(found, name, seeds) for name in names)
    places = dict.fromkeys(where for run, _, where, _ in found if run == to.name)
    differences = {
        run.name: {
            where: {
                name: 100 * run.differences(to, where, name=name).mean(0)
                for name in dict.fromkeys(name for _, _, name in to.values(where, "dice", seeds[0]))
            }
            for where in places
        }
        for run in runs
    }
    args.out.write_bytes(png(draw(differences, args.to, len(seeds))))


if __name__ == "__main__":
    main()
