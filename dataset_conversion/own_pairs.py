"""Which image and label map of a user's own folders are of one case."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from nnunet_shapekd.dataset_conversion.cases import Case
from nnunet_shapekd.dataset_conversion.downloads import ENDING, few, nifti_files
from nnunet_shapekd.dataset_conversion.target import ConversionError


def _by_case(files: Sequence[Path], root: Path, pattern: re.Pattern[str] | None, drop: str) -> dict[str, list[Path]]:
    """Files by their case's name; with a pattern those that match it."""
    found: dict[str, list[Path]] = {}
    for path in files:
        below = ENDING.sub("", path.relative_to(root).as_posix())
        match = pattern.fullmatch(below) if pattern else None
        if pattern and not match:
            continue
        case = match["case"] if match else below.removesuffix(drop)
        found.setdefault(re.sub(r"[^\w.-]+", "_", case, flags=re.ASCII).strip("_."), []).append(path)
    return found


def pair(
    images: Path, labels: Path | None, subset: str, of_images: re.Pattern[str] | None, of_labels: re.Pattern[str] | None
) -> tuple[dict[str, Case], list[str]]:
    """The cases of two folders by name, of which the second may lie in the first or be it, and what is wrong.

    Args:
        images: folder of images.
        labels: folder of label maps; None where there are none.
        subset: "Tr" or "Ts", of all of them.
        of_images, of_labels: patterns with a group ``case``, or None for the path without ending.

    Raises:
        ConversionError: where nothing fits together, saying what is called how.
    """
    all_images = nifti_files(images, "3D images as NIfTI")
    all_labels = nifti_files(labels, "label maps as NIfTI") if labels else []
    if labels and labels.resolve() == images.resolve():
        if of_labels is None:
            raise ConversionError(
                f"{images}: images and labels lie in one folder; say with --label-pattern which are which"
            )
        all_images = [
            path for path in all_images if not of_labels.fullmatch(ENDING.sub("", path.relative_to(images).as_posix()))
        ]
    elif labels and images.resolve() in labels.resolve().parents:
        all_images = [path for path in all_images if labels.resolve() not in path.resolve().parents]
    drop = "_0000" if all(ENDING.sub("", path.name).endswith(("_0000", "_0001")) for path in all_images) else ""
    if several := [path for path in all_images if drop and ENDING.sub("", path.name).endswith("_0001")]:
        raise ConversionError(f"{images}: has several channels a case ({few(several, images)}); one is supported here")
    by_image = _by_case(all_images, images, of_images, drop)
    by_label = _by_case(all_labels, labels or images, of_labels, "")
    if not by_image:
        raise ConversionError(f"--image-pattern {of_images.pattern}: matches none of {few(all_images, images)}")
    problems = [
        f"{path}: the same case as {files[0]}; remove one of the two"
        for files in (*by_image.values(), *by_label.values())
        for path in files[1:]
    ]
    if labels and not by_image.keys() & by_label.keys():
        raise ConversionError(
            f"{labels}: no label map is called as an image is; images are {few(all_images, images)}, label maps "
            f"{few(all_labels, labels) or 'none'}: say what a case is with --image-pattern and --label-pattern, like "
            "'(?P<case>.+)_seg'"
        )
    problems += [
        f"{by_label[case][0]}: label without an image; restore or remove it"
        for case in by_label.keys() - by_image.keys()
    ]
    cases = {
        case: Case(case, files[0], by_label[case][0] if case in by_label else None, subset)
        for case, files in by_image.items()
    }
    return cases, problems


def read_subsets(path: Path) -> set[str]:
    """The cases or patients of a JSON list; raises ConversionError."""
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConversionError(f"--test {path}: cannot be read as JSON ({error})") from None
    if not isinstance(listed, list) or not listed:
        raise ConversionError(f'--test {path}: expected a list of cases or patients, like ["P01", "P02"]')
    return set(map(str, listed))
