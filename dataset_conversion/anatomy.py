"""What label maps say about themselves: how a set lies in the grid, and whether a heart's classes are called right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_shapekd.dataset_conversion.label_maps import show_label_map
from nnunet_shapekd.evaluation.cases import cardiac_roles
from nnunet_shapekd.evaluation.plausibility import open_rings, slice_axis
from nnunet_shapekd.files.label_maps import LabelMap, read_label_map, values_in
from nnunet_shapekd.files.orientation import lie_of

#: label maps that are looked at, evenly over a set
_SEEN = 60
#: the classes are called wrongly if so few of their rings are closed, and so many of those of two others
_FEW_CLOSED, _MANY_CLOSED = 0.5, 0.8


def sample(paths: Sequence[Path], n: int = _SEEN) -> list[Path]:
    """At most n of the paths, evenly over all of them."""
    return [paths[i] for i in np.linspace(0, len(paths) - 1, min(n, len(paths))).astype(int)] if paths else []


def lie_remark(labels: Sequence[Path], description: Mapping[str, Any]) -> list[str]:
    """How a set lies, in a line; none where it has one class or no label maps.

    Args:
        labels: files of the new dataset.
        description: its dataset.json.
    """
    classes = annotated(description)
    if len(classes) < 2 or not labels:
        return []
    lie = lie_of(map(read_label_map, sample(labels)), classes)
    return [f"How it lies in the grid: {lie}."] if lie else []


def annotated(description: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Class or region of a dataset.json -> its values, but those that are not annotated."""
    out = {"ignore", *description.get("not_annotated", ())}
    values = {
        name: tuple(value) if isinstance(value, (list, tuple)) else (value,)
        for name, value in description["labels"].items()
        if name not in out
    }
    return {name: value for name, value in values.items() if set(value) != {0}}


def ring_problems(labels: Sequence[Path], label_map: Mapping[int, int], description: Mapping[str, Any]) -> list[str]:
    """Whether the left ventricle's cavity lies inside its myocardium, as the classes are called.

    Args:
        labels: files of the download, readable.
        label_map: source value -> target value.
        description: dataset.json; sets without these two classes have no problem.

    Returns:
        One problem, with the map that would put it right, if most rings are open and those of two other values closed.
    """
    classes = annotated(description)
    roles = cardiac_roles(classes)
    if not {"lv", "myo"} <= roles.keys():
        return []
    targets = {role: set(classes[name]) for role, name in roles.items()}
    sources = {role: {s for s, target in label_map.items() if target in targets[role]} for role in targets}
    maps = [read_label_map(path) for path in sample(labels)]
    n, closed = _closed(maps, sources["lv"], sources["myo"])
    if n == 0 or closed > _FEW_CLOSED * n:
        return []
    found = {value for one in maps for value in values_in(one.values)} & {
        s for s, target in label_map.items() if target
    }
    shares = {}
    for cavity, myocardium in permutations(sorted(found), 2):
        n_other, closed_other = _closed(maps, {cavity}, {myocardium})
        if n_other >= n / 2 and closed_other >= _MANY_CLOSED * n_other:
            shares[cavity, myocardium] = closed_other / n_other
    if not shares:
        return []
    cavity, myocardium = max(shares, key=shares.get)
    order = dict.fromkeys(found, min(targets.get("rv", {0})))
    order |= {cavity: min(targets["lv"]), myocardium: min(targets["myo"])}
    share = f"{100 * shares[cavity, myocardium]:.0f} %"
    return [
        f"{labels[0].parent}: the classes are not what they are called: {roles['myo']} encloses {roles['lv']} in {closed} "
        f"of {n} slices, while the value {myocardium} encloses the value {cavity} in {share}; say what they are, as in "
        f"--labels {show_label_map(dict(sorted(order.items())))}"
    ]


def _closed(maps: Sequence[LabelMap], cavity: set[int], myocardium: set[int]) -> tuple[int, int]:
    """In how many slices both lie, and in how many of them the ring is closed."""
    counts = [
        open_rings(
            np.isin(one.values, list(cavity)), np.isin(one.values, list(myocardium)), slice_axis(one.shape, one.spacing)
        )
        for one in maps
    ]
    return sum(n for n, _ in counts), sum(n - n_open for n, n_open in counts)
