"""Patients and their 3D cases on the way to nnU-Net's raw format, and what may be wrong with their files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_shapekd.dataset_conversion.headers import header_problems
from nnunet_shapekd.dataset_conversion.reading import Reading
from nnunet_shapekd.dataset_conversion.twins import digest
from nnunet_shapekd.files.images import Image, read_image
from nnunet_shapekd.files.label_maps import LabelMap, read_label_map, unknown_labels, values_in
from nnunet_shapekd.files.names import name_problem
from nnunet_shapekd.files.parallel import collect
from nnunet_shapekd.files.space import differing

# A label's origin may differ from its image's by rounding only. The spacing is held to what
# `verify_dataset_integrity` refuses (np.allclose, nnU-Net 2.8.1), which only warns about origin and direction.
SPACING_TOLERANCE = 1e-5
ORIGIN_TOLERANCE_MM = 1e-3
AS_THEY_ARE = Reading()


@dataclass(frozen=True)
class Case:
    """One image, and its label where there is one, on the way to `images<subset>/<name>_0000.nii.gz`."""

    name: str
    image: Path
    label: Path | None
    subset: str  # "Tr" or "Ts", as in nnU-Net's folder names


def name_problems(cases: Iterable[Any]) -> list[str]:
    """Cases whose files give them a name that no case may have; each has a name and an image."""
    return [f"{case.image}: its case's name {why}; rename it" for case in cases if (why := name_problem(case.name))]


def label_gaps(cases: Sequence[Case]) -> list[str]:
    """Training cases need labels; test cases all have one or none has."""
    problems = [
        f"{case.image}: training image without a label; restore the label from the download"
        for case in cases
        if case.subset == "Tr" and case.label is None
    ]
    test = [case for case in cases if case.subset == "Ts"]
    unlabelled = [case for case in test if case.label is None]
    if len(unlabelled) < len(test):
        problems += [
            f"{case.image}: test image without a label, while {len(test) - len(unlabelled)} of {len(test)} test images "
            "have one; add it or remove all test labels"
            for case in unlabelled
        ]
    return problems


def check_cases(
    cases: Sequence[Case],
    label_map: Mapping[int, int],
    advice: str,
    processes: int,
    reading: Reading,
    look: Callable[[str, LabelMap], None],
) -> tuple[list[str], dict[str, str]]:
    """All problems of all cases, in their order, and the digests of the images by case; see :func:`check_case`."""
    check = partial(check_case, label_map=label_map, advice=advice, reading=reading, look=look)
    # Threads are enough here: reading releases the interpreter's lock, and a process would take a second to start.
    found = collect(ThreadPoolExecutor(processes), check, cases, "Checking cases")
    digests = {case.name: pixels for case, (_, pixels) in zip(cases, found, strict=True) if pixels}
    return [problem for problems, _ in found for problem in problems], digests


def check_case(
    case: Case,
    label_map: Mapping[int, int],
    advice: str,
    reading: Reading = AS_THEY_ARE,
    look: Callable[[str, LabelMap], None] | None = None,
) -> tuple[list[str], str]:
    """Reads image and label of a case once: what is wrong with them, and the digest of the image's voxels.

    Args:
        case: the files.
        label_map: value in the download -> in the dataset; others are refused, with the advice.
        advice: as of :func:`~nnunet_shapekd.files.label_maps.unknown_labels`.
        reading: how the files are read.
        look: called with the name and the label map, as it will lie, of each good training case.
    """
    problems: list[str] = []
    images, pixels = [], ""
    placed = reading.label_header == "image"
    for path, read in ((case.image, read_image), (case.label, read_label_map)):
        if path is not None:
            try:
                images.append(_read_volume(path, partial(reading.read, read=read)))
            except ValueError as error:
                problems.append(str(error))
            else:
                pixels = pixels if path == case.label else digest(images[-1].values)
                problems += [] if placed and path == case.label else header_problems(path, images[-1])
                problems += label_problems(path, images[-1], label_map, advice) if path == case.label else []
    if len(images) == 2:
        problems += space_problems(case.label, *images, only_shape=placed)
        if look and not problems and case.subset == "Tr":
            look(case.name, reading.final(images[1]))
    return problems, pixels


def _read_volume(path: Path, read: Callable[[Path], tuple[Image, float]]) -> Image:
    image, _ = read(path)
    if len(image.shape) != 3 or image.channels != 1:
        shape = "x".join(map(str, image.shape[::-1]))
        raise ValueError(f"{path}: expected one 3D volume, got {shape} with {image.channels} channel(s)")
    return image


def label_problems(path: Path, label: Image, label_map: Mapping[int, int], advice: str) -> list[str]:
    """Values of a label that are not mapped, or nothing but background."""
    found = values_in(label.values)
    if problems := unknown_labels(path, found, {0, *label_map}, advice):
        return problems
    if not any(label_map.get(value, 0) for value in found):
        return [f"{path}: label is empty (background only, found {', '.join(map(str, found))}); remove the case"]
    return []


def space_problems(path: Path, image: Image, label: Image, only_shape: bool = False) -> list[str]:
    """In what the shape, spacing, origin or direction of a label at ``path`` differs from its image's."""
    if only_shape and image.shape == label.shape:
        return []
    found = differing(image, label, "its image", SPACING_TOLERANCE, ORIGIN_TOLERANCE_MM).values()
    advice = "correct one of the two"
    if image.shape == label.shape:
        advice += ", or give --label-header image if they fit voxel by voxel"
    return [f"{path}: {difference}; {advice}" for difference in found]
