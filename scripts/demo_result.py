"""The demo's end: one page with a table, a picture and what a run of one seed can show; the table is printed, too."""

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

from nnunet_shapekd.evaluation.record import MEAN
from nnunet_shapekd.evaluation.tables import aligned
from nnunet_shapekd.files.images import read_image

CLASSES = ("RV", "MLV", "LVC", MEAN)
TRAINERS = {
    "stock": "nnUNetTrainer_Demo",
    "student": "nnUNetTrainerShapeKD_Demo",
    "moves": "nnUNetTrainerIntensityMoves_Demo",
}
SCANNERS = {"a": "scanner a, of the training", "b": "scanner b, unseen", "c": "sequence c, unseen"}
DATASETS = {"a": "Dataset027_PhantomA", "b": "Dataset028_PhantomB", "c": "Dataset029_PhantomC"}
HEAD = ["", "network", *CLASSES, "mean - stock", "95 % interval", "open rings"]
LEGEND = """\
stock: nnU-Net's own; student: with a teacher (ShapeKD); moves: nnUNetTrainerIntensityMoves, which the README advises
where the sequence changes. Dice in %, mean over the same {n} test patients on every scanner. Sequence c: scanner a with
less contrast and more spread in the wall. Open rings: slices in which the myocardium does not enclose the cavity (of
the slices that show both)."""
LIMITS = """\
What this run can show: that every step works here, what the networks' predictions look like, and on which images a
network falls apart. What it cannot show: that one method is better than another. Each network was trained once, for
{steps} small steps; another seed may change a number by as much as two rows differ, and the intervals are about other
patients of this kind, not about another training: on sequence c the student once was 4.0 points above stock (2.2 to
5.9), and in the next run of the same commands 1.0 below. And a phantom is no heart: what the student and moves of
intensities bring and cost on real patients is measured in docs/evidence.md."""


def rows(demo: Path) -> dict[str, list[list[str]]]:
    """Scanner -> the rows of its table, below ``HEAD``."""
    found = {}
    for scanner, described in SCANNERS.items():
        folder = demo / "comparison" / scanner
        comparison = json.loads((folder / "comparison.json").read_text())
        dice = {(row["model"], row["class"]): row for row in comparison["rows"] if row["metric"] == "dice"}
        found[scanner] = [
            [described if name == "stock" else "", name, *cells(dice, name), rings(folder / name)] for name in TRAINERS
        ]
    return found


def cells(dice: dict[tuple[str, str], dict[str, Any]], name: str) -> list[str]:
    if name == "stock":  # every other model's row holds the baseline's mean
        return [f"{100 * dice['student', label]['baseline_mean']:.1f}" for label in CLASSES] + ["", ""]
    row = dice[name, MEAN]
    interval = "–" if row["low"] is None else f"{100 * row['low']:+.1f} to {100 * row['high']:+.1f}"
    means = [f"{100 * dice[name, label]['model_mean']:.1f}" for label in CLASSES]
    return [*means, f"{100 * row['difference']:+.1f}", interval]


def rings(folder: Path) -> str:
    counted = json.loads((folder / "summary.json").read_text())["plausibility"].values()
    return next(f"{one['open_ring_slices']}/{one['ring_slices']}" for one in counted if "ring_slices" in one)


def draw_picture(demo: Path) -> Path:
    """One slice of one patient on every scanner: image, reference, and every network's prediction."""
    fig, axes = plt.subplots(len(SCANNERS), 2 + len(TRAINERS), figsize=(10, 6.4), layout="constrained")
    for row, (scanner, described) in zip(axes, SCANNERS.items(), strict=True):
        label_file = min((demo / "raw" / DATASETS[scanner] / "labelsTs").glob("*.nii.gz"))
        image_file = label_file.parents[1] / "imagesTs" / label_file.name.replace(".nii.gz", "_0000.nii.gz")
        image, reference = read_image(image_file).values, read_image(label_file).values
        # of the slices that show most structures, the one that shows most of them
        z = max(range(len(reference)), key=lambda i: (np.unique(reference[i]).size, np.count_nonzero(reference[i])))
        shown = {"image": None, "reference": reference[z]}
        for name, trainer in TRAINERS.items():
            shown[name] = read_image(demo / "predictions" / trainer / scanner / label_file.name).values[z]
        crop = tuple(slice(max(0, v.min() - 20), v.max() + 20) for v in np.nonzero(reference[z]))
        for ax, (title, labels) in zip(row, shown.items(), strict=True):
            low, high = np.percentile(image[z], [1, 99])
            ax.imshow(image[z][crop], cmap="gray", vmin=low, vmax=high)
            for label, colour in zip((1, 2, 3), ("tab:blue", "tab:green", "tab:red"), strict=True):
                if labels is not None and (labels[crop] == label).any():
                    ax.contour(labels[crop] == label, levels=[0.5], colors=colour, linewidths=1.5)
            ax.set_title(title if scanner == "a" else "")
            ax.set(xticks=[], yticks=[])
        row[0].set_ylabel(described)
    fig.suptitle("The first test patient on every scanner: RV blue, myocardium green, LV red")
    path = demo / "demo.png"
    fig.savefig(path, dpi=80)
    return path


def page(tables: dict[str, list[list[str]]], legend: str, limits: str) -> str:
    body = "\n".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for table in tables.values() for row in table
    )
    links = ", ".join(f'<a href="report/{scanner}/index.html">{SCANNERS[scanner]}</a>' for scanner in tables)
    return f"""<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>The demo of nnunet_shapekd</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 72rem; margin: 1rem auto; padding: 0 1rem; }}
p {{ max-width: 50rem; }} .limits {{ border: 2px solid #b33a00; background: #fff1e8; padding: .6rem .9rem; }}
td, th {{ text-align: right; padding: .2rem .6rem; border-bottom: 1px solid #ddd; }} img {{ max-width: 100%; }}
td:first-child, td:nth-child(2), th:nth-child(2) {{ text-align: left; }}
</style>
<h1>Trained on scanner a, judged on scanners a, b and c</h1>
<p class="limits">{escape(limits, quote=False)}</p>
<p>{escape(legend, quote=False)}</p>
<table><tr>{"".join(f"<th>{escape(cell)}</th>" for cell in HEAD)}</tr>
{body}</table>
<img src="demo.png" alt="one slice on every scanner: image, reference and the networks' predictions">
<p>All metrics, cases and training curves: {links}.</p>
</html>
"""


def main(demo: Path) -> None:
    comparison = json.loads((demo / "comparison" / "a" / "comparison.json").read_text())
    log = demo / "results" / DATASETS["a"] / f"{TRAINERS['stock']}__demoPlans__2d" / "fold_0" / "debug.json"
    trained = json.loads(log.read_text())
    steps = int(trained["num_epochs"]) * int(trained["num_iterations_per_epoch"])
    tables, legend, limits = rows(demo), LEGEND.format(n=comparison["n_patients"]), LIMITS.format(steps=f"{steps:,}")
    print("\n" + "\n".join([legend, "", *aligned([HEAD, *(row for table in tables.values() for row in table)])]))
    print("\n" + limits)
    draw_picture(demo)
    (demo / "index.html").write_text(page(tables, legend, limits), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
