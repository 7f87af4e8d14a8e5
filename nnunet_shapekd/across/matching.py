"""Which class of a dataset is which of a model's: found by name."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnunet_shapekd.evaluation.cases import cardiac_roles, folded
from nnunet_shapekd.files.dataset_json import Labels, labels_of_dataset


@dataclass(frozen=True)
class Matching:
    """Which class of a dataset is which of the model's.

    Attributes:
        classes: dataset's class -> model's.
        left_out: the model's classes that are not judged.
        background: the dataset's classes that the model does not know, which count as background.
        values: value in the dataset's label maps -> in the model's.
        labels: "labels" of a dataset.json for the mapped references: the model's, and the ignore label.
    """

    classes: dict[str, str]
    left_out: tuple[str, ...]
    background: tuple[str, ...]
    values: dict[int, int]
    labels: dict[str, Any] = field(repr=False)

    @property
    def is_identity(self) -> bool:
        return all(value == mapped for value, mapped in self.values.items())

    def __str__(self) -> str:
        renamed = [f"{theirs} is {ours}" for theirs, ours in self.classes.items() if theirs != ours]
        moved = [f"value {value} becomes {mapped}" for value, mapped in self.values.items() if mapped not in (0, value)]
        left = [f"not judged: {', '.join(self.left_out)}"] if self.left_out else []
        background = [f"background: {', '.join(self.background)}"] if self.background else []
        return "; ".join([*renamed, *moved, *left, *background]) or "labels as the model's"


def match_classes(model_json: Mapping[str, Any], dataset_json: Mapping[str, Any], leave_out: Sequence[str]) -> Matching:
    """Find a dataset's classes among a model's, by their names in any case, or as names of the same cardiac structure.

    A value of the dataset becomes the value of the model's that lies in the same classes, so regions need not be made
    of the same values; but where classes overlap in one and not in the other, no value fits.

    Args:
        model_json: dataset.json the model was trained with.
        dataset_json: of the dataset.
        leave_out: classes of either that are not judged.

    Raises:
        ValueError: naming every class that the other side does not know, and every value that has no counterpart.
    """
    model, dataset = labels_of_dataset(model_json), labels_of_dataset(dataset_json)
    all_pairs, out = _pairs(model, dataset), {folded(name) for name in leave_out}
    pairs = {theirs: ours for theirs, ours in all_pairs.items() if not {folded(theirs), folded(ours)} & out}
    problems = []
    if alone := [name for name in model.classes if name not in all_pairs.values() and folded(name) not in out]:
        problems.append(
            f"does not annotate {', '.join(alone)}, which the model knows (its own classes are "
            f"{', '.join(dataset.classes)}): leave out of the evaluation what cannot be judged with --leave-out "
            + " ".join(map(shlex.quote, alone))
        )
    if alone := [name for name in dataset.classes if name not in all_pairs and folded(name) not in out]:
        problems.append(
            f"annotates {', '.join(alone)}, which the model does not know (its classes are "
            f"{', '.join(model.classes)}): let it count as background with --leave-out "
            + " ".join(map(shlex.quote, alone))
        )
    if not problems and not pairs:
        problems.append("--leave-out names all classes: nothing is left to evaluate")
    values, unmatched = _value_map(model, dataset, pairs)
    if problems := problems or unmatched:
        raise ValueError("; ".join(problems))
    labels = {"background": 0, **{name: v[0] if len(v) == 1 else list(v) for name, v in model.classes.items()}}
    ignore = max(model.values) + 1 if model.ignore is None else model.ignore
    if model.ignore is not None or dataset.ignore is not None:
        labels["ignore"] = ignore
    if dataset.ignore is not None:
        values[dataset.ignore] = ignore
    return Matching(
        pairs,
        tuple(name for name in model.classes if name not in pairs.values()),
        tuple(name for name in dataset.classes if name not in all_pairs),
        values,
        labels,
    )


def _value_map(model: Labels, dataset: Labels, pairs: Mapping[str, str]) -> tuple[dict[int, int], list[str]]:
    """The dataset's values -> the model's that lie in the same classes of ``pairs``, and what is wrong."""
    of_value = {value: _classes_of(value, model, set(pairs.values())) for value in model.values - {model.ignore}}
    ours = {found: value for value, found in sorted(of_value.items(), reverse=True)}  # the smallest of equal ones
    values, problems = {0: 0}, []
    for value in sorted({v for found in dataset.classes.values() for v in found}):
        theirs = frozenset(pairs[name] for name in _classes_of(value, dataset, set(pairs)))
        # where several fit, such as those left out, the same: so that the files can stay as they are
        values[value] = value if of_value.get(value) == theirs else ours.get(theirs, 0)
        if theirs not in ours:
            problems.append(
                f"its value {value} lies in {', '.join(sorted(theirs))}{' together' * (len(theirs) > 1)}, and no value "
                f"of the model's lies in {'these and no others' if len(theirs) > 1 else 'this alone'}: a name does not "
                "mean the same in both (perhaps a region in one of them). Leave out one with --leave-out, or correct "
                "the dataset's labels"
            )
    return values, problems


def _pairs(model: Labels, dataset: Labels) -> dict[str, str]:
    """Dataset's class -> model's: of the same name, and, where that finds none, of the same cardiac structure."""
    by_name = {folded(name): name for name in model.classes}
    pairs = {name: by_name[folded(name)] for name in dataset.classes if folded(name) in by_name}
    ours, theirs = cardiac_roles(model.classes), cardiac_roles(dataset.classes)
    for role in ours.keys() & theirs.keys():
        if theirs[role] not in pairs and ours[role] not in pairs.values():
            pairs[theirs[role]] = ours[role]
    return {name: pairs[name] for name in dataset.classes if name in pairs}


def _classes_of(value: int, labels: Labels, among: set[str]) -> frozenset[str]:
    return frozenset(name for name in among if value in labels.classes[name])
