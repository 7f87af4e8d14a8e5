"""Label values of a download brought to those of nnU-Net: 0 background, then 1, 2, ... without gaps."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_shapekd.files.nifti import read_nifti

_LARGEST = 2**16 - 1  # MyoPS, whose values are the largest in use, ends at 2221


def parse_label_map(text: str) -> dict[int, int]:
    """Source value -> target value, of `500:3,200:2,600:1`; the target 0 drops a structure.

    Raises:
        ValueError: if the text is of another form, names a source twice, or the targets have a gap.
    """
    entries = text.replace(" ", "").split(",")
    wrong = [entry for entry in entries if not re.fullmatch(r"\d{1,5}:\d{1,3}", entry)]
    if wrong:
        raise ValueError(f"--labels: expected SOURCE:TARGET,... like 500:3,200:2,600:1, got {', '.join(wrong)!r}")
    pairs = [(int(source), int(target)) for source, target in (entry.split(":") for entry in entries)]
    sources = [source for source, _ in pairs]
    for source in sorted(set(sources)):
        if sources.count(source) > 1:
            raise ValueError(f"--labels: {source} is mapped {sources.count(source)} times; name every value once")
    if max(sources) > _LARGEST or dict(pairs).get(0, 0) != 0:
        raise ValueError(f"--labels: expected sources 1 to {_LARGEST} (0 is background and stays 0), got {text}")
    targets = {target for _, target in pairs} - {0}
    if targets != set(range(1, len(targets) + 1)) or not targets:
        found = ", ".join(map(str, sorted(targets))) or "0 only"
        raise ValueError(f"--labels: nnU-Net wants the targets 1, 2, ... without gaps, got {found}")
    return dict(pairs)


def show_label_map(label_map: Mapping[int, int]) -> str:
    """The text that :func:`parse_label_map` makes this map of."""
    return ",".join(f"{source}:{target}" for source, target in label_map.items())


def name_labels(label_map: Mapping[int, int], known: Mapping[int, str], given: str | None = None) -> dict[str, int]:
    """The entry "labels" of dataset.json: a class is named after its source values, or as given.

    Args:
        label_map: source value -> target value.
        known: source value -> name; structures that share a target are joined by "_and_".
        given: the classes' names in the order of their values, separated by commas.

    Raises:
        ValueError: if the names given are not one for each class, or no names for dataset.json.
    """
    n_classes = max(label_map.values())
    if given is None:
        sources = [[source for source in label_map if label_map[source] == value] for value in range(1, n_classes + 1)]
        # dict.fromkeys: a structure may have two source values, and is named once
        names = ["_and_".join(dict.fromkeys(known.get(s, f"label{s}") for s in group)) for group in sources]
    else:
        names = [name.strip() for name in given.split(",")]
        if len(names) != n_classes:
            raise ValueError(f"--names: expected {n_classes} names, for the values 1 to {n_classes}, got {given!r}")
    bad = [name for name in names if not name or name in ("background", "ignore") or names.count(name) > 1]
    if bad:
        raise ValueError(f"--names: expected different names, neither background nor ignore, got {', '.join(names)}")
    return {"background": 0, **{name: value for value, name in enumerate(names, 1)}}


def values_in(values: np.ndarray) -> list[int]:
    """The different values of a label map, ascending.

    Raises:
        ValueError: if they are no integers from 0 to 65535.
    """
    low, high = values.min(), values.max()
    if low < 0 or high > _LARGEST or (values.dtype.kind == "f" and not (values == np.rint(values)).all()):
        raise ValueError(f"expected integer labels 0 to {_LARGEST}, got values from {low:g} to {high:g}")
    present = np.zeros(int(high) + 1, bool)
    present[_as_index(values)] = True  # np.unique would sort the whole volume
    return np.flatnonzero(present).tolist()


def label_map_problems(path: Path, values: np.ndarray, label_map: Mapping[int, int]) -> list[str]:
    """What keeps a label map from being brought to new values; an empty list is a good one."""
    try:
        found = values_in(values)
    except ValueError as error:
        return [f"{path}: {error}; correct or remove the case"]
    unknown = [value for value in found if value and value not in label_map]
    if unknown:
        shown = ", ".join(map(str, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
        example = show_label_map({**label_map, unknown[0]: 0})
        return [
            f"{path}: has label values that are not mapped: {shown}; correct the file, or say what they become, "
            f"as in --labels {example} (0 drops them)"
        ]
    if not any(label_map.get(value, 0) for value in found):
        return [f"{path}: label is empty (background only, found {', '.join(map(str, found))}); remove the case"]
    return []


def relabel(values: np.ndarray, label_map: Mapping[int, int]) -> np.ndarray:
    """The values' targets, uint8 and of the same shape; 0 stays 0, as do values that are not in the map."""
    table = np.zeros(max([0, *label_map, int(values.max())]) + 1, np.uint8)
    table[list(label_map)] = list(label_map.values())
    return table[_as_index(values)]


def is_identity(label_map: Mapping[int, int]) -> bool:
    """Whether nothing changes, so that files can be copied."""
    return all(source == target for source, target in label_map.items())


def write_relabelled(source: Path, target: Path, label_map: Iterable[tuple[int, int]]) -> None:
    """A label map with new values, uint8 and compressed, of the same geometry."""
    image = read_nifti(source)
    new = sitk.GetImageFromArray(relabel(sitk.GetArrayViewFromImage(image), dict(label_map)))
    new.CopyInformation(image)
    sitk.WriteImage(new, str(target), useCompression=True)


def _as_index(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.kind in "ui" else values.astype(np.int32)
