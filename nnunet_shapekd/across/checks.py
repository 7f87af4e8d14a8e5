"""What can be known of cases before they are predicted, which takes long: their files are read whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from nnunet_shapekd.across.matching import Matching
from nnunet_shapekd.across.model import Model
from nnunet_shapekd.evaluation.cardiac import check_phases
from nnunet_shapekd.evaluation.cases import cardiac_roles
from nnunet_shapekd.evaluation.problems import listed
from nnunet_shapekd.files.images import NIFTI_ENDINGS, Image, read_image
from nnunet_shapekd.files.label_maps import read_label_map, unknown_labels, values_in
from nnunet_shapekd.files.nifti import NibabelHeader, nifti_header
from nnunet_shapekd.files.parallel import map_in_processes
from nnunet_shapekd.files.space import Space, differing
from nnunet_shapekd.files.whose import Patients

#: cases worth a worker process, which loads torch
_PER_WORKER = 60


@dataclass(frozen=True)
class Subject:
    """A case: its image files and its reference."""

    case: str
    images: tuple[Path, ...]
    reference: Path


def check_subjects(
    subjects: Sequence[Subject],
    model: Model,
    matching: Matching,
    patients: Patients,
    processes: int | None,
    ignore_origins: bool = False,
    read: Callable[[Path, str], Image] | None = None,
) -> list[str]:
    """What is wrong with cases.

    Files that cannot be read or are of another kind than the model's; channels that nnU-Net would not put together;
    references with values that nobody knows, or in another space than the image; patients with two cases of a phase.

    Args:
        subjects: the cases.
        model: that predicts them.
        matching: the references' classes and the model's.
        patients: whose they are.
        processes: at most.
        ignore_origins: a reference may have another origin than its image.
        read: an image, by its file and the reader's name; by default :func:`~nnunet_shapekd.files.images.read_image`.
    """
    problems: list[str] = []
    known = {one.case for one in subjects}
    if cardiac_roles(model.labels.classes):
        with listed(problems):
            check_phases((patients.of[case], patients.phase[case], case) for case in sorted(known))
    work = partial(_wrong, model=model, values=matching.values, ignore_origins=ignore_origins, read=read or _read)
    found = map_in_processes(work, subjects, processes, "Checking images and references", _PER_WORKER)
    problems += [problem for of_subject, _ in found for problem in of_subject]
    if len({axes for _, axes in found} - {0}) > 1:
        problems.append("has both images of one slice and volumes; judge them apart")
    return problems


def _read(path: Path, reader: str) -> Image:
    return read_image(path, reader=reader)


def _wrong(
    subject: Subject, model: Model, values: Mapping[int, int], ignore_origins: bool, read: Callable[[Path, str], Image]
) -> tuple[list[str], int]:
    """What is wrong with a case, and the axes of its reference; 0 if it cannot be read."""
    problems: list[str] = []
    spaces: dict[Path, Space] = {}
    for path in subject.images:
        with listed(problems):
            spaces[path] = read(path, model.reader).space
        if path in spaces and _only_nibabel_reads(path, model.reader):
            problems.append(f"{path}: its directions are not orthonormal: the model's {model.reader} cannot read it")
    for path, space in list(spaces.items())[1:]:
        first = next(iter(spaces))
        # of another origin or orientation nnU-Net only warns
        found = differing(spaces[first], space, called=first.name)
        problems += [f"{path}: {text}" for what, text in found.items() if what in ("shape", "spacing")]
    n_channels = sum(space.channels for space in spaces.values())
    if len(spaces) == len(subject.images) and n_channels != len(model.channels):
        problems.append(f"{subject.images[0]}: has {n_channels} channel(s), the model {len(model.channels)}")
    axes = 0
    with listed(problems):
        reference = read_label_map(subject.reference, model.reader)
        axes = len(reference.shape)
        advice = "correct the file, or name the value in its dataset.json"
        problems += unknown_labels(subject.reference, values_in(reference.values), values, advice)
        for space in list(spaces.values())[:1]:
            found = differing(space, reference, called="the image")
            if ignore_origins:
                found.pop("origin", None)
            problems += [f"{subject.reference}: {text}" for text in found.values()]
    return problems, axes


def _only_nibabel_reads(path: Path, reader: str) -> bool:
    """Whether nnU-Net, which predicts with the reader of its plans alone, cannot read an image that we can."""
    nifti = path.name.lower().endswith(NIFTI_ENDINGS)
    return nifti and reader.startswith("SimpleITK") and isinstance(nifti_header(path), NibabelHeader)
