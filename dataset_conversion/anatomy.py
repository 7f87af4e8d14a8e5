"""What label maps say about themselves: how a set lies in the grid, and whether a heart's classes are called right."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_shapekd.dataset_conversion.label_maps import show_label_map
from nnunet_shapekd.evaluation.cases import cardiac_roles
from nnunet_shapekd.evaluation.plausibility import open_rings, slice_axis
from nnunet_shapekd.files.dataset_json import labels_of_dataset
from nnunet_shapekd.files.label_maps import LabelMap, values_in
from nnunet_shapekd.files.orientation import Lie, lie_of, together

#: the classes are called wrongly if so few of their rings are closed, and so many of those of two others
_FEW_CLOSED, _MANY_CLOSED = 0.5, 0.8
#: short-axis stacks, in whose slices the myocardium is a ring: slices are so much thicker than pixels are wide
_THICK = 2.0


class Looking:
    """Looks at every training label map of a set while it is checked; its rings, if dataset.json has lv and myo."""

    def __init__(self, label_map: Mapping[int, int], description: Mapping[str, Any]) -> None:
        self.label_map, self.classes = label_map, labels_of_dataset(description).classes
        self.sources = {
            name: tuple(source for source, target in label_map.items() if target in targets)
            for name, targets in self.classes.items()
        }
        roles = cardiac_roles(self.classes)
        self.roles = roles if {"lv", "myo"} <= roles.keys() else {}
        self.lies: dict[str, Lie] = {}
        self.rings: dict[str, tuple[int, int]] = {}
        #: of cases whose own rings are mostly open: (cavity, myocardium), two values -> rings
        self.others: dict[str, dict[tuple[int, int], tuple[int, int]]] = {}

    def __call__(self, case: str, label: LabelMap) -> None:
        """Takes what a case's label map says, which has the download's values and lies as it will."""
        if lie := lie_of([label], self.sources):
            self.lies[case] = lie
        if not self.roles or max(label.spacing) < _THICK * min(label.spacing):
            return
        n, closed = self.rings[case] = _rings(label, *(self.sources[self.roles[role]] for role in ("lv", "myo")))
        if closed <= _FEW_CLOSED * n:
            found = [value for value in values_in(label.values) if self.label_map.get(value)]
            self.others[case] = {pair: _rings(label, pair[:1], pair[1:]) for pair in permutations(found, 2)}

    @property
    def lie(self) -> Lie | None:
        """How the set lies, None where it has one class or no label maps."""
        lies = [lie for _, lie in sorted(self.lies.items())]
        return together(lies) if lies and len(self.classes) > 1 else None

    def problems(self, where: Path, may_map: bool) -> list[str]:
        """One problem, with the map that would put it right, if most rings are open and those of two others are not.

        Args:
            where: the labels are.
            may_map: whether the user may say what the values are.
        """
        n, closed = _sum(self.rings.values())
        if n == 0 or closed > _FEW_CLOSED * n:
            return []
        pairs = {pair for of_case in self.others.values() for pair in of_case}
        sums = {pair: _sum(of_case.get(pair, (0, 0)) for of_case in self.others.values()) for pair in pairs}
        good = {pair: found for pair, (n_pair, found) in sums.items() if n_pair and found >= _MANY_CLOSED * n_pair}
        if not good:
            return []
        cavity, myocardium = max(sorted(good), key=good.get)
        targets = {role: min(self.classes[name]) for role, name in self.roles.items()}
        order = {value: targets.get("rv", 0) for pair in sorted(pairs) for value in pair}
        order |= {cavity: targets["lv"], myocardium: targets["myo"]}
        label_map, names = show_label_map(dict(sorted(order.items()))), sorted(self.classes, key=self.classes.get)
        said = f"say what they are, as in --labels {label_map} --names {','.join(names)}"
        return [
            f"{where}: the classes are not what they are called: {self.roles['myo']} encloses {self.roles['lv']} in "
            f"{closed} of {n} slices, while the value {myocardium} nearly always encloses the value {cavity}; "
            + (said if may_map else "restore the labels from the download, or use shapekd convert volumes")
        ]


def _rings(label: LabelMap, cavity: Sequence[int], myocardium: Sequence[int]) -> tuple[int, int]:
    """In how many slices both lie, and in how many of them the ring is closed."""
    axis = slice_axis(label.shape, label.spacing)
    n, n_open = open_rings(np.isin(label.values, cavity), np.isin(label.values, myocardium), axis)
    return n, n - n_open


def _sum(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    listed = list(pairs)
    return sum(n for n, _ in listed), sum(closed for _, closed in listed)
