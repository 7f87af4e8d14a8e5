"""Times the surface metrics of ``shapekd evaluate`` against common implementations on the same masks.

    python scripts/benchmark_evaluation.py REFERENCE PREDICTIONS -l 1 2 3

For each pair of masks that both have a voxel: Hausdorff distance (HD), its 95th percentile (HD95), average symmetric
surface distance (ASSD) and normalised surface Dice at 1 mm (NSD), where the library has it; and HD95 alone. One thread;
the implementations take turns on all masks, and the ratio to ours is taken round by round. Reading files is not timed.
The last columns are each one's means, which show who means the same by a surface. Install what is to be compared:
``pip install monai medpy surface-distance``; what is missing is left out.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.evaluation.cases import find_cases
from nnunet_shapekd.evaluation.metrics import METRICS, Pair
from nnunet_shapekd.evaluation.surface import border
from nnunet_shapekd.files.dataset_json import labels_by_value
from nnunet_shapekd.files.label_maps import read_label_map

NAN = float("nan")
ORDER = ("hd95", "hd", "assd", "nsd")


def ours(a: np.ndarray, b: np.ndarray, spacing: tuple) -> list[float]:
    """As `shapekd evaluate` calls it: cropped to what both masks fill."""
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in (a | b).nonzero())
    pair = Pair(a[box], b[box], spacing, tolerance=1.0, diagonal=NAN)
    return [METRICS[key].of(pair) for key in ORDER]


def monai(a: np.ndarray, b: np.ndarray, spacing: tuple, only_hd95: bool = False) -> list[float]:
    import torch
    from monai import metrics

    torch.set_num_threads(1)
    a, b = (torch.from_numpy(mask)[None, None].float() for mask in (a, b))
    options = {"include_background": True, "spacing": spacing}
    hd95 = metrics.compute_hausdorff_distance(b, a, percentile=95, **options).item()
    if only_hd95:
        return [hd95, NAN, NAN, NAN]
    return [
        hd95,
        metrics.compute_hausdorff_distance(b, a, **options).item(),
        metrics.compute_average_surface_distance(b, a, symmetric=True, **options).item(),
        metrics.compute_surface_dice(b, a, [1.0], **options).item(),
    ]


def medpy(a: np.ndarray, b: np.ndarray, spacing: tuple, only_hd95: bool = False) -> list[float]:
    from medpy.metric import binary

    hd95 = binary.hd95(b, a, spacing)
    return [hd95, NAN, NAN, NAN] if only_hd95 else [hd95, binary.hd(b, a, spacing), binary.assd(b, a, spacing), NAN]


def surface_distance(a: np.ndarray, b: np.ndarray, spacing: tuple, only_hd95: bool = False) -> list[float]:
    import surface_distance as library

    distances = library.compute_surface_distances(a, b, spacing)
    hd95 = library.compute_robust_hausdorff(distances, 95)
    if only_hd95:
        return [hd95, NAN, NAN, NAN]
    return [
        hd95,
        library.compute_robust_hausdorff(distances, 100),
        statistics.mean(map(float, library.compute_average_surface_distance(distances))),
        library.compute_surface_dice_at_tolerance(distances, 1.0),
    ]


def simpleitk(a: np.ndarray, b: np.ndarray, spacing: tuple) -> list[float]:
    """Distance maps of the borders, as SimpleITK's own examples compute surface distances."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    borders = [border(mask) for mask in (a, b)]
    maps = []
    for mask in borders:
        image = sitk.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(spacing[::-1])
        maps.append(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True)))
    to_b, to_a = np.abs(maps[1][borders[0]]), np.abs(maps[0][borders[1]])
    both = np.concatenate([to_b, to_a])
    hd95 = max(np.percentile(to_b, 95), np.percentile(to_a, 95))
    return [float(value) for value in (hd95, both.max(), both.mean(), (both <= 1.0).mean())]


CONTESTANTS: dict[str, tuple[str, Callable]] = {
    "ours, all four": ("numpy", ours),
    "MONAI, HD95 alone": ("monai", lambda *args: monai(*args, only_hd95=True)),
    "MONAI, all four": ("monai", monai),
    "surface-distance, HD95 alone": ("surface_distance", lambda *args: surface_distance(*args, only_hd95=True)),
    "surface-distance, all four": ("surface_distance", surface_distance),
    "SimpleITK distance maps, all four": ("SimpleITK", simpleitk),
    "medpy, HD95 alone": ("medpy", lambda *args: medpy(*args, only_hd95=True)),
    "medpy, all but NSD": ("medpy", medpy),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("-l", type=int, nargs="+", required=True, help="label values")
    parser.add_argument("--ending", default=".nii.gz")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.simplefilter("ignore", FutureWarning)

    cases, _ = find_cases(args.reference, args.predictions, args.ending, chill=True)
    pairs = []
    for case in cases:
        reference, prediction = read_label_map(case.reference), read_label_map(case.prediction)
        for (value,) in labels_by_value(args.l).classes.values():
            masks = reference.values == value, prediction.values == value
            if masks[0].any() and masks[1].any():
                pairs.append((*masks, reference.spacing))
    contestants = {}
    for name, (library, function) in CONTESTANTS.items():
        try:
            importlib.import_module(library)
            contestants[name] = function
        except ImportError:
            print(f"{library} is not installed: left out")
    values = {name: np.array([function(*pair) for pair in pairs]) for name, function in contestants.items()}  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(args.rounds):
        for name, function in contestants.items():
            started = time.perf_counter()
            for pair in pairs:
                function(*pair)
            seconds[name].append(time.perf_counter() - started)
    print(f"{len(pairs)} pairs of masks of {len(cases)} cases, {args.rounds} rounds; medians (least to most)\n")
    print(f"{'':34} {'ms a pair':>20} {'times ours':>20} {'HD95':>7} {'HD':>7} {'ASSD':>7} {'NSD':>7}")
    for name, times in seconds.items():
        ratios = [t / o for t, o in zip(times, seconds["ours, all four"], strict=True)]
        cells = [
            f"{statistics.median(found):.2f} ({min(found):.2f}–{max(found):.2f})"
            for found in ([1000 * t / len(pairs) for t in times], ratios)
        ]
        means = " ".join("      –" if np.isnan(mean) else f"{mean:7.3f}" for mean in values[name].mean(axis=0))
        print(f"{name:34} {cells[0]:>20} {cells[1]:>20} {means}")


if __name__ == "__main__":
    main()
