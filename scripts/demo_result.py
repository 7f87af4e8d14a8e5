"""The demo's end: a table of Dice, and one picture."""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import torch

from nnunet_shapekd.files.images import read_image
from nnunet_shapekd.method.class_mean import class_mean_image

CLASSES = {"1": "RV", "2": "MLV", "3": "LVC"}
NETWORKS = {"stock nnU-Net": "nnUNetTrainer_Demo", "student (ShapeKD)": "nnUNetTrainerShapeKD_Demo"}
SCANNERS = {"scanner a (training)": "Dataset027_PhantomA", "scanner b (unseen)": "Dataset028_PhantomB"}


def print_table(demo: Path) -> None:
    print("\nDice (%), mean over the same unseen phantom patients on both scanners; one run each: a demonstration that")
    print("everything works, no evidence for the method.\n")
    print(f"{'':22}{'':20}" + "".join(f"{name:>8}" for name in [*CLASSES.values(), "mean"]))
    for scanner, dataset in SCANNERS.items():
        for network, trainer in NETWORKS.items():
            summary = json.loads((demo / "predictions" / trainer / dataset / "summary.json").read_text())
            dice = [summary["mean"][label]["Dice"] for label in CLASSES]
            print(f"{scanner:22}{network:20}" + "".join(f"{100 * d:8.1f}" for d in [*dice, np.mean(dice)]))


def draw_picture(demo: Path) -> Path:
    dataset = SCANNERS["scanner b (unseen)"]
    raw = demo / "raw" / dataset
    label_file = sorted((raw / "labelsTs").glob("*.nii.gz"))[0]
    reference = read_image(label_file).values
    image = read_image(raw / "imagesTs" / label_file.name.replace(".nii.gz", "_0000.nii.gz")).values.astype(np.float32)
    # of the slices that show most structures, the one that shows most of them
    z = max(range(len(reference)), key=lambda i: (np.unique(reference[i]).size, np.count_nonzero(reference[i])))
    image, reference = image[z], reference[z]
    mean = class_mean_image(
        torch.from_numpy(image)[None, None], torch.from_numpy(reference.astype(np.int16))[None, None]
    )
    panels = {"image": (image, None), "class-mean image": (mean[0, 0].numpy(), None), "reference": (image, reference)}
    for network, trainer in NETWORKS.items():
        panels[network] = image, read_image(demo / "predictions" / trainer / dataset / label_file.name).values[z]

    ys, xs = np.nonzero(reference)
    crop = tuple(slice(max(0, v.min() - 20), v.max() + 20) for v in (ys, xs))
    fig, axes = plt.subplots(1, len(panels), figsize=(3 * len(panels), 3.4), layout="constrained")
    low, high = np.percentile(image, [1, 99])
    for ax, (title, (picture, labels)) in zip(axes, panels.items(), strict=True):
        ax.imshow(picture[crop], cmap="gray", vmin=low, vmax=high)
        if labels is not None:
            for label, colour in zip((1, 2, 3), ("tab:blue", "tab:green", "tab:red"), strict=True):
                if (labels[crop] == label).any():
                    ax.contour(labels[crop] == label, levels=[0.5], colors=colour, linewidths=1.5)
        ax.set_title(title)
        ax.axis("off")
    fig.suptitle(f"{label_file.name.removesuffix('.nii.gz')}, unseen scanner: RV blue, myocardium green, LV red")
    path = demo / "demo.png"
    fig.savefig(path, dpi=110)
    return path


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    print_table(folder)
    print(f"\nPicture: {draw_picture(folder)}")
