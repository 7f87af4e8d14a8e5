"""How data sets on the disk lie in the grid, by some of their label maps."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nnunet_shapekd.files.dataset_json import labels_of_dataset
from nnunet_shapekd.files.label_maps import read_label_map
from nnunet_shapekd.files.orientation import Lie, lie_of, turn_between
from nnunet_shapekd.files.raw_dataset import RawDataset

#: label maps that are looked at
_SEEN = 100


def lie_of_files(paths: Iterable[Path], classes: Mapping[str, Sequence[int]], n: int = _SEEN) -> Lie | None:
    """How a set lies, by at most n of its label maps, evenly over all of them; None where nothing can be said.

    Raises:
        ValueError: if one of them cannot be read.
    """
    paths = sorted(paths)
    if len(classes) < 2 or not paths:
        return None
    seen = np.unique(np.linspace(0, len(paths) - 1, min(n, len(paths))).astype(int))
    return lie_of((read_label_map(paths[i]) for i in seen), classes)


def lie_of_dataset(dataset: RawDataset, names: Mapping[str, str] | None = None, part: str = "Tr") -> Lie | None:
    """How a raw dataset lies, its classes called otherwise where names say so; those without a name are left out."""
    classes = labels_of_dataset(dataset.dataset_json).classes
    renamed = classes if names is None else {names[name]: values for name, values in classes.items() if name in names}
    return lie_of_files(dataset.references(part).values(), renamed)


def training_labels(name: str, file_ending: str) -> list[Path]:
    """The label maps a model was trained on, by its dataset's name: nnU-Net's copy, or the raw dataset's."""
    for variable, folder in (("nnUNet_preprocessed", "gt_segmentations"), ("nnUNet_raw", "labelsTr")):
        if os.environ.get(variable):
            found = Path(os.environ[variable], name, folder).glob(f"*{file_ending}")
            if paths := [path for path in found if not path.name.startswith(".")]:
                return paths
    return []


def warning(reference: Lie | None, other: Lie | None, called: str) -> str:
    """What to say, and to do, where a set lies otherwise than another one; "" where it does not, or is not known."""
    turn = reference and other and turn_between(reference, other)
    if not turn:
        return ""
    return (
        f"lies otherwise in its grid than {called}, which networks see and nnU-Net does not correct by the headers: "
        f"convert it again with --turn {turn}"
    )
