"""CHAOS (Kavur et al., Medical Image Analysis 69:101950, 2021), abdominal MRI of 20 patients with four organs, T2-SPIR.

Layout: `Train_Sets/MR/1/T2SPIR/DICOM_anon/IMG-0002-00001.dcm` and `Train_Sets/MR/1/T2SPIR/Ground/IMG-0002-00001.png`, a
mask a slice whose grey level is the organ: liver 55 to 70, right kidney 110 to 135, left kidney 175 to 200, spleen 240
to 255. `Test_Sets` has no masks and is left out, and so are T1DUAL and the CT, in which only the liver is labelled. As
public loaders read it; the download itself was not at hand.

Organs are called as in Synapse, so that models of CT are judged on MRI: convert Synapse or AMOS with ``--organs 4``.
"""

import re
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.dataset_conversion.dicom import read_series
from nnunet_shapekd.dataset_conversion.downloads import names_in
from nnunet_shapekd.dataset_conversion.found import Found
from nnunet_shapekd.dataset_conversion.organs import CHAOS_ORGANS
from nnunet_shapekd.dataset_conversion.target import Command, ConversionError
from nnunet_shapekd.dataset_conversion.volumes import VolumeOptions, VolumeSet
from nnunet_shapekd.files.images import read_image
from nnunet_shapekd.files.label_maps import as_label_map, relabel, unknown_labels, values_in
from nnunet_shapekd.files.parallel import map_in_processes
from nnunet_shapekd.files.walking import walk

LAYOUT = "Train_Sets/MR/1/T2SPIR/DICOM_anon/IMG-0002-00001.dcm and Train_Sets/MR/1/T2SPIR/Ground/IMG-0002-00001.png"
#: organ -> the first and last grey level of its masks, as the challenge gives them
GREY = {"liver": (55, 70), "right_kidney": (110, 135), "left_kidney": (175, 200), "spleen": (240, 255)}
LABELS = {"background": 0, **{organ: value for value, organ in enumerate(CHAOS_ORGANS, 1)}}
_VALUE_OF = {0: 0, **{grey: LABELS[organ] for organ, (a, b) in GREY.items() for grey in range(a, b + 1)}}


def find_folders(root: Path) -> tuple[dict[int, Path], list[str], int]:
    """T2SPIR folders with masks by patient number, what is wrong, and how many have no masks."""
    folders: dict[int, Path] = {}
    problems, unlabelled = [], 0
    for folder in (path for path in walk(root).folders if path.name == "T2SPIR"):
        number = folder.parent.name
        if not re.fullmatch(r"\d+", number):
            problems.append(f"{folder}: expected to lie in a patient's folder, a number, as {LAYOUT}; move it away")
        elif not (folder / "Ground").is_dir():
            unlabelled += 1
        elif folders.setdefault(int(number), folder) != folder:
            problems.append(f"{folder}: the same patient as {folders[int(number)]}; remove one of the two")
    if not folders and not problems:
        raise ConversionError(f"{root}: no T2SPIR folder with masks; expected {LAYOUT}; found: {names_in(root)}")
    return folders, problems, unlabelled


def read_patient(folder: Path) -> tuple[sitk.Image, np.ndarray]:
    """The volume of a T2SPIR folder and its labels, uint8 (z, y, x).

    Raises:
        ConversionError: listing what is wrong with its files.
    """
    slices, masks = (
        {path.stem: path for path in sorted((folder / kind).iterdir()) if path.suffix.lower() == ending}
        for kind, ending in (("DICOM_anon", ".dcm"), ("Ground", ".png"))
    )
    problems = [f"{slices[stem]}: has no mask in Ground; restore it" for stem in slices.keys() - masks.keys()]
    problems += [f"{masks[stem]}: has no slice in DICOM_anon; restore it" for stem in masks.keys() - slices.keys()]
    if problems or not slices:
        raise ConversionError(sorted(problems) or f"{folder}: has no slices; restore them from the download")
    image, order = read_series(list(slices.values()))
    parts = []
    for path in (masks[slice_path.stem] for slice_path in order):
        try:
            grey = as_label_map(read_image(path), path).values
        except ValueError as error:
            problems.append(str(error))
            continue
        ranges = ", ".join(f"{organ} {first} to {last}" for organ, (first, last) in GREY.items())
        problems += unknown_labels(path, values_in(grey), _VALUE_OF, f"{ranges}; correct the mask")
        parts.append(relabel(grey, _VALUE_OF))
        if parts[-1].shape != image.GetSize()[1::-1]:
            width, height = parts[-1].shape[::-1]
            problems.append(f"{path}: has {width}x{height} pixels, its slice {image.GetWidth()}x{image.GetHeight()}")
    if not problems and not any(part.any() for part in parts):
        problems.append(f"{folder / 'Ground'}: no mask has an organ; restore them from the download")
    if problems:
        raise ConversionError(problems)
    return image, np.stack(parts)


def stack(job: tuple[int, Path], into: Path) -> list[str]:
    """Writes image and label of a patient as NIfTI into a folder; returns what is wrong with them."""
    number, folder = job
    try:
        image, values = read_patient(folder)
    except ValueError as error:
        return getattr(error, "problems", [str(error)])
    label = sitk.GetImageFromArray(values)
    label.CopyInformation(image)
    for kind, volume in (("image", image), ("label", label)):
        sitk.WriteImage(volume, str(into / f"{number}_{kind}.nii.gz"), useCompression=True)
    return []


def find_cases(root: Path, options: VolumeOptions, into: Path) -> Found:
    """The patients with masks, whose slices are stacked into a folder."""
    folders, problems, unlabelled = find_folders(root)
    found, jobs = Found(root), sorted(folders.items())
    if unlabelled:
        found.remarks.append(f"{unlabelled} patients have no masks and were left out.")
    wrong = map_in_processes(partial(stack, into=into), jobs, options.processes, "Reading slices", 4)
    if problems := problems + [problem for of_patient in wrong for problem in of_patient]:
        raise ConversionError(problems)
    for number, folder in jobs:
        image, label = (into / f"{number}_{kind}.nii.gz" for kind in ("image", "label"))
        found.add(number, f"CHAOS{number:02d}", image, label, source=folder)
        found.left_out += [*(folder / "DICOM_anon").iterdir(), *(folder / "Ground").iterdir()]
    return found


def convert_chaos(root: str | Path, options: VolumeOptions = VolumeOptions()) -> Path:  # noqa: B008 (frozen)
    """Converts the T2-SPIR images of CHAOS; returns and raises as :func:`~.volumes.convert_volumes`."""
    with tempfile.TemporaryDirectory(prefix="shapekd-chaos-") as stacked:
        return VolumeSet(
            name="CHAOST2",
            dataset_id=41,
            channel="MRI",
            labels=LABELS,
            title="Combined healthy abdominal organ segmentation challenge, T2-SPIR MRI",
            reference="https://chaos.grand-challenge.org/",
            citation="Kavur et al., Medical Image Analysis 69:101950, 2021",
            terms="CHAOS",
            plan_arguments="",
        ).convert(root, options, partial(find_cases, into=Path(stacked)))


_COMMAND = Command(convert_chaos, VolumeOptions, f"the extracted download: {LAYOUT}", dataset_id=41, name="CHAOST2")
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
