"""A case as nnU-Net preprocesses it, and the part of it that is shown."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nnunet_shapekd.figure.networks import Networks
from nnunet_shapekd.figure.options import FigureOptions
from nnunet_shapekd.files.dataset_json import channel_names
from nnunet_shapekd.files.images import read_image
from nnunet_shapekd.files.label_maps import unknown_labels, values_in
from nnunet_shapekd.files.raw_dataset import find_images, read_raw_dataset


@dataclass(frozen=True)
class Sight:
    """What the networks see of a case, and which of it is shown."""

    case: str
    dataset: str
    #: (1, c, x, y[, z])
    image: torch.Tensor
    #: labels (x, y[, z]), 0 outside the non-zero region
    reference: np.ndarray
    #: of the shown slice in ``image``, and its axis, counted from the last; ``None`` where there is nothing else
    index: int | None
    axis: int
    slice_number: int
    n_slices: int
    #: height and width
    pixel: tuple[float, float]
    #: the channel to show; ``None`` for all three as colours
    channel: int | None

    def shown(self, array: np.ndarray) -> np.ndarray:
        """``(..., x, y[, z])`` -> ``(..., rows, columns)``."""
        return array if self.index is None else np.take(array, self.index, axis=self.axis)


def see(case: str, dataset: str, models: Networks, options: FigureOptions) -> Sight:
    """Preprocess a case and choose what is shown of it.

    Raises:
        ValueError: for a case, slice or channel that is not there, and for images that do not fit the networks.
        FileNotFoundError: if the dataset or the case's reference is missing.
    """
    configuration = models.plans_manager.get_configuration(models.configuration)
    data, labels = _preprocessed(case, dataset, models)  # (c, z, x, y) and (z, x, y)
    channel, slice_number = options.channel, options.slice_number
    if channel is not None and not 0 <= channel < len(data):
        raise ValueError(f"--channel must be 0 to {len(data) - 1} for this dataset; got {channel}")
    if channel is None and not (is_natural(models) and len(data) == 3):
        channel = 0

    patch_size, spacing = configuration.patch_size, list(configuration.spacing)
    flat = len(patch_size) == 2
    axis = 0 if flat else int(np.argmax(spacing))
    number = labels.shape[axis]
    foreground = (labels > 0) & (labels != models.plans_manager.get_label_manager(models.dataset_json).ignore_label)
    areas = np.moveaxis(foreground, axis, 0).sum(axis=(1, 2))
    if slice_number is None:
        slice_number = 1 + int(areas.argmax() if areas.any() else number // 2)
    if not 1 <= slice_number <= number:
        raise ValueError(f"--slice must be 1 to {number} for {case} as it is preprocessed; got {slice_number}")
    index = slice_number - 1
    pixel = spacing if flat else spacing[:axis] + spacing[axis + 1 :]
    window: tuple[int | slice, ...] = (index,)
    if not flat:
        here = (slice(None),) * axis + (index,)
        in_slice = np.zeros_like(foreground)
        in_slice[here] = foreground[here] if areas[index] else True
        window = window_around(in_slice, patch_size)
    return Sight(
        case=case,
        dataset=dataset,
        image=torch.from_numpy(np.ascontiguousarray(data[(slice(None), *window)]))[None],
        reference=np.maximum(labels[window], 0),
        index=None if flat else index - window[axis].start,
        axis=axis - 3,
        slice_number=slice_number,
        n_slices=number,
        pixel=tuple(pixel),
        channel=channel,
    )


def _preprocessed(case: str, dataset: str, models: Networks) -> tuple[np.ndarray, np.ndarray]:
    """Image ``(c, z, x, y)`` float32 and labels ``(z, x, y)`` as nnU-Net preprocesses them for the configuration."""
    images, segmentation = _files(case, dataset, models)
    plans_manager = models.plans_manager
    configuration = plans_manager.get_configuration(models.configuration)
    preprocessor = configuration.preprocessor_class(verbose=False)
    try:
        data, labels, _ = preprocessor.run_case(
            [str(path) for path in images], str(segmentation), plans_manager, configuration, models.dataset_json
        )
    except (RuntimeError, AssertionError, LookupError) as error:  # unreadable, different shapes, too many channels
        raise ValueError(f"{case} cannot be preprocessed: {error}") from error
    manager = plans_manager.get_label_manager(models.dataset_json)
    known = {*map(int, manager.all_labels)} | ({manager.ignore_label} if manager.has_ignore_label else set())
    if problems := unknown_labels(segmentation, values_in(np.maximum(labels, 0)), known, "the networks know no others"):
        raise ValueError(problems[0])
    channels = channel_names(models.dataset_json)
    if len(data) != len(channels):
        raise ValueError(f"{case} of {dataset} has {len(data)} channel(s), the networks see {len(channels)}.")
    if not np.isfinite(data).all():
        raise ValueError(f"{case} has NaN or infinite values once it is preprocessed: repair {images[0]}.")
    return data, labels[0]


def _files(case: str, dataset: str, models: Networks) -> tuple[list[Path], Path]:
    """The channels' files of a case and its reference, which fit the networks."""
    raw = read_raw_dataset(Path(os.environ["nnUNet_raw"], dataset))
    if raw.dataset_json["labels"] != models.dataset_json["labels"]:
        raise ValueError(
            f"{dataset} has other labels than the networks were trained with: {raw.dataset_json['labels']} instead of "
            f"{models.dataset_json['labels']}"
        )
    reader = models.plans_manager.image_reader_writer_class
    if raw.file_ending not in reader.supported_file_endings:
        readable = ", ".join(reader.supported_file_endings)
        raise ValueError(f"The networks' plans read {readable} files; {dataset} has {raw.file_ending} files.")
    found: dict[str, tuple[str, list[Path]]] = {}
    for part in ("Ts", "Tr"):
        if raw.images(part).is_dir() and any(raw.images(part).iterdir()):
            images_of = find_images(raw.images(part), raw.file_ending)
            found |= {name: (part, files) for name, files in images_of.items()}  # of both parts, training's
    if case not in found:
        like = difflib.get_close_matches(case, found, 3, cutoff=0) or ["none"]
        raise ValueError(
            f"{raw.folder} has no case {case} among its {len(found)}; there is, for example, {', '.join(like)}"
        )
    part, images = found[case]
    reference = raw.references(part).get(case)
    if reference is None:
        missing = raw.labels(part) / f"{case}{raw.file_ending}"
        raise FileNotFoundError(f"{missing} is missing: the class-mean image is made from the reference.")
    for path in images:
        read_image(path, reader=reader.__name__)  # refuses NaN, which nnU-Net's reader takes for 0 in a NIfTI file
    return images, reference


def is_natural(models: Networks) -> bool:
    """Whether the images are pictures without a unit of length."""
    return models.plans_manager.image_reader_writer_class.__name__ == "NaturalImage2DIO"


def window_around(foreground: np.ndarray, size: Sequence[int]) -> tuple[slice, ...]:
    """A window of at most ``size`` inside the array, centred on the foreground (on the middle if there is none).

    Args:
        foreground: bool, any number of axes.
        size: of the window along each axis; an axis that is shorter is taken whole.
    """
    window = []
    for axis, (wanted, available) in enumerate(zip(size, foreground.shape, strict=True)):
        inside = np.flatnonzero(foreground.any(axis=tuple(i for i in range(foreground.ndim) if i != axis)))
        centre = int(inside[0] + inside[-1] + 1) // 2 if len(inside) else available // 2
        start = max(0, min(centre - wanted // 2, available - wanted))
        window.append(slice(start, min(start + wanted, available)))
    return tuple(window)
