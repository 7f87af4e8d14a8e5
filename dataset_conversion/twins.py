"""The same image twice, in whatever data set: noticed by the voxels, kept in one fold, named across two sides."""

import hashlib
from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from nnunet_shapekd.dataset_conversion.folds import Splits
from nnunet_shapekd.dataset_conversion.target import ConversionError
from nnunet_shapekd.files.names import some

Name = TypeVar("Name", bound=Hashable)


def digest(values: np.ndarray) -> str:
    """Of an image's voxels, (z, y, x) or (y, x): the same for the same numbers, whatever their type and the header."""
    found = hashlib.sha256(str(values.shape).encode())
    for part in values:  # one at a time, as numbers in another type take memory
        found.update(np.ascontiguousarray(part, np.float32))
    return found.hexdigest()


def twins_in(digests: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Who has an image of somebody before it: name -> the first of those who share images, directly or by others.

    The digests are those of each name's images, in an order.
    """
    first: dict[str, str] = {}
    pairs = [(first.setdefault(one, name), name) for name, found in digests.items() for one in found]
    return {name: one for name, one in first_of_each(digests, pairs).items() if name != one}


def first_of_each(names: Iterable[Name], pairs: Iterable[tuple[Name, Name]]) -> dict[Name, Name]:
    """Every name's group, called after the first of its names in their order; the pairs say who belongs together."""
    from scipy.cluster.hierarchy import DisjointSet  # only here, as it takes long to import

    groups, first = DisjointSet(names), {}
    for one, other in pairs:
        groups.merge(one, other)
    return {name: first.setdefault(groups[name], name) for name in groups}


def in_one_fold(splits: Splits, twins: Mapping[str, str], cases_of: Mapping[str, Iterable[str]]) -> Splits:
    """The folds, with twins (:func:`twins_in`) where the first of them is: they move, with their cases, nobody else."""
    moved = []
    for split in splits:
        train, val = set(split["train"]), set(split["val"])
        for name, first in twins.items():
            goes_to, leaves = (val, train) if val.intersection(cases_of[first]) else (train, val)
            goes_to.update(cases_of[name])
            leaves.difference_update(cases_of[name])
        moved.append({"train": sorted(train), "val": sorted(val)})
    return moved


def keep_together(
    patients: Collection[Any], digests: Mapping[str, Iterable[str]], splits: Splits, may_move: bool = True
) -> tuple[Splits, list[str]]:
    """The folds in which nobody is judged on an image that others train on, as far as that can be, and what to say.

    Args:
        patients: each with a name, a subset and cases.
        digests: patient -> those of its images, in the patients' order.
        splits: of splits_final.json.
        may_move: the folds are nobody's own.

    Raises:
        ConversionError: if a fold has nobody left to validate on.
    """
    cases_of = {patient.name: [case.name for case in patient.cases] for patient in patients}
    side_of = {patient.name: "test" if patient.subset == "Ts" else "training" for patient in patients}
    training = {name: found for name, found in digests.items() if side_of[name] == "training"}
    if may_move:
        twins = twins_in(training)
        splits = in_one_fold(splits, twins, cases_of)
        if not all(split["val"] for split in splits):
            raise ConversionError(f"twins leave a fold without validation cases: leave out {', '.join(twins)}")
    else:
        side_of |= {name: "validation" for name in training if set(splits[0]["val"]).intersection(cases_of[name])}
    return splits, twins_remarks(twins_in(digests), side_of)


def twins_remarks(twins: Mapping[str, str], side_of: Mapping[str, str]) -> list[str]:
    """What to say of twins (:func:`twins_in`): those kept in one fold, and those of which one judges the other's model.

    The side of each is "training", "validation" or "test".
    """
    remarks = [
        f"WARNING: {name} ({side_of[name]}) has the images of {first} ({side_of[first]}), and one is to judge what is "
        f"trained on the other: leave out {name if side_of[name] != 'training' else first}."
        for name, first in twins.items()
        if side_of[name] != side_of[first]
    ]
    together = [f"{name} and {first}" for name, first in twins.items() if side_of[name] == side_of[first]]
    if together:
        remarks.append(f"The same images twice, kept on one side: {some(together)}.")
    return remarks
