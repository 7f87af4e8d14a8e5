"""The figure: image, class-mean image and reference; below them, for the stock baseline, the teacher and the student,
the energy of the features that feature distillation compares, and the segmentation that comes out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.colors import to_rgb

from nnunet_shapekd.drawing import class_styles
from nnunet_shapekd.figure.case import Sight, is_natural, see
from nnunet_shapekd.figure.energy import feature_energy, padded
from nnunet_shapekd.figure.networks import Networks, find_networks
from nnunet_shapekd.figure.options import FigureOptions
from nnunet_shapekd.figure.panels import Panel, draw
from nnunet_shapekd.method.class_mean import VoxelClasses
from nnunet_shapekd.training.lookup import dataset_name

_IGNORED = ("#808080", "solid")


def make_figure(
    case: str, dataset: str, configuration: str, fold: str, out: str | os.PathLike[str], options: FigureOptions
) -> Path:
    """Draw a case as the baseline, the teacher and the student of a fold see it.

    The case is preprocessed as nnU-Net does for the configuration. 2d networks see the whole slice; 3d networks the
    whole volume, or as much of it around the slice's foreground as a patch holds; the teacher sees its own input of
    just that. A baseline that was not trained is left out, which is said on stderr. This package's trainers are added
    to ``nnUNet_extTrainer`` in this process's environment.

    Args:
        case: its name in the raw dataset, in training or test images; its reference must be there, too.
        dataset: id or name of the dataset the networks were trained on.
        configuration: 2d, 3d_fullres or 3d_lowres.
        fold: a number, or "all".
        out: the PNG to write or replace, in a folder that exists.
        options: all else.

    Returns:
        ``out``.

    Raises:
        ValueError: for arguments that cannot work, and for networks and images that do not fit together.
        FileNotFoundError: if a network, the case or its reference is missing.
    """
    path = Path(out)
    if path.suffix.lower() != ".png" or path.is_dir():
        raise ValueError(f"-o must be the name of a PNG file, like figure.png; got {path}")
    if not path.parent.is_dir():
        make = f"mkdir -p {shlex.quote(str(path.parent))}"
        raise FileNotFoundError(f"The folder of -o {path} does not exist. Make it: {make}")
    models = find_networks(dataset_name(dataset), configuration, fold, options)
    sight = see(case, dataset_name(options.case_dataset or dataset), models, options)
    rows, legend = _panels(models, sight)
    draw(rows, path, sight.pixel[0] / sight.pixel[1], legend, _caption(models, sight))
    return path


def _panels(models: Networks, sight: Sight) -> tuple[list[list[Panel | None]], list[tuple[str, tuple[str, str]]]]:
    """Three rows of three panels, and the legend."""
    manager = models.plans_manager.get_label_manager(models.dataset_json)
    configuration = models.plans_manager.get_configuration(models.configuration)
    classes = VoxelClasses.of_dataset(manager)
    of_voxel = classes.of_label_map(torch.from_numpy(sight.reference)[None, None])
    with torch.no_grad():
        mean_image = models.of["teacher"].trainer.teacher_input(sight.image, of_voxel, classes.number)
    picture, mean_picture = _pictures(sight, mean_image)

    # in dataset.json's order, which is that of the networks' outputs for regions
    values = {
        name: value
        for name, value in models.dataset_json["labels"].items()
        if name != "ignore" and not np.array_equal(np.unique(value), [0])
    }
    styles = list(class_styles(list(values)).values())
    legend = list(zip(values, styles, strict=True))
    reference = sight.shown(sight.reference)
    masks = [np.isin(reference, value) for value in values.values()]
    reference_picture = picture.copy() if manager.has_regions else np.zeros_like(picture)
    if not manager.has_regions:
        for mask, (colour, _) in zip(masks, styles, strict=True):
            reference_picture[mask] = to_rgb(colour)
    if manager.has_ignore_label:
        ignored = reference == manager.ignore_label
        reference_picture[ignored] = to_rgb(_IGNORED[0])
        y, x = np.indices(ignored.shape)  # hatched: the image may be of the same grey
        reference_picture[ignored & ((x + y) // max(1, len(y) // 64) % 4 == 0)] = 0
        legend.append(("not annotated", _IGNORED))
    outlines = list(zip(masks, styles, strict=True)) if manager.has_regions else []
    rows: list[list[Panel | None]] = [
        [
            Panel("image", picture, f"slice {sight.slice_number} of {sight.n_slices}"),
            Panel("class-mean image", mean_picture, "scaled like the image"),
            Panel("reference", reference_picture, outlines=outlines),
        ],
        [],
        [],
    ]

    total_stride = np.prod(np.vstack(configuration.pool_op_kernel_sizes), axis=0)
    crop = tuple(slice(size) for size in sight.image.shape[2:])
    for role, sees in (("baseline", "image"), ("teacher", "class-mean image"), ("student", "image")):
        if role not in models.of:
            rows[1].append(None)
            rows[2].append(None)
            continue
        # in training, padding is background and gets its mean: of zeros next to it the teacher makes structures
        image, mode = (mean_image, "replicate") if role == "teacher" else (sight.image, "constant")
        model = models.of[role]
        energy, logits = feature_energy(model.network, padded(image, configuration.patch_size, total_stride, mode))
        if not (np.isfinite(energy).all() and np.isfinite(logits).all()):
            raise ValueError(
                f"The {role} {model.path} gives values that are not finite for {sight.case}: its training diverged."
            )
        energy, logits = sight.shown(energy[crop]), sight.shown(logits[(slice(None), *crop)])
        scale = float(np.percentile(energy, 99))
        rows[1].append(Panel(f"{role}: energy", energy, f"99th percentile: {scale:.3g}", scale or 1.0))
        if manager.has_regions:
            found = list(logits > 0)
        else:
            label_map = logits.argmax(0)
            found = [np.isin(label_map, value) for value in values.values()]
        outlines = list(zip(found, styles, strict=True))
        rows[2].append(Panel(f"{role}: segmentation", picture, f"sees the {sees}", outlines=outlines))
    return rows, legend


def _pictures(sight: Sight, mean_image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Image and class-mean image ``(rows, columns, 3)`` from 0 to 1, scaled together."""
    chosen = slice(None) if sight.channel is None else [sight.channel] * 3
    image, mean = (sight.shown(x[0].numpy())[chosen].transpose(1, 2, 0) for x in (sight.image, mean_image))
    low, high = np.percentile(image, (0.5, 99.5))
    return tuple(np.clip((x - low) / (high - low if high > low else 1.0), 0, 1) for x in (image, mean))


def _caption(models: Networks, sight: Sight) -> str:
    seen = ""
    if models.training_cases is not None and sight.dataset == models.plans_manager.dataset_name:
        seen = " (a training case)" if sight.case in models.training_cases else " (not a training case)"
    block = "" if sight.index is None else f" in a block of {_times(sight.reference.shape)} voxels around it"
    unit = "" if is_natural(models) else " mm"
    names = ", ".join(f"{role} {model.path.parent.parent.name}" for role, model in models.of.items())
    student = models.of["student"].path
    return "\n".join(
        [
            f"{sight.case} of {sight.dataset}{seen}: slice {sight.slice_number} of {sight.n_slices}{block}, as nnU-Net "
            f"preprocesses it for {models.configuration}, pixels of {_times(f'{size:.3g}' for size in sight.pixel)}"
            f"{unit}, normalised intensities.",
            "Energy: mean over the channels of the squared features of the last decoder stage, from 0 (black) to each "
            "panel's own 99th percentile (brightest): the units differ between networks. What the teacher sees is made "
            "from the reference: its segmentation is no result.",
            f"{names}; {student.parent.name}, {student.name}.",
            *models.remarks,
        ]
    )


def _times(sizes: Iterable[Any]) -> str:
    return " × ".join(map(str, sizes))
