"""Which images belong together: of one patient, or the same image again; and the folds that keep them so."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nnunet_shapekd.dataset_conversion.folds import Splits, folds_by_patient, splits_of
from nnunet_shapekd.dataset_conversion.image_cases import ImageCase
from nnunet_shapekd.dataset_conversion.patterns import compiled
from nnunet_shapekd.dataset_conversion.target import ConversionError
from nnunet_shapekd.dataset_conversion.twins import first_of_each


def with_groups(
    cases: Sequence[ImageCase],
    group: Callable[[str], str] | None,
    stratum: Callable[[str], str] | None,
    part: Callable[[str], str] | None,
) -> tuple[list[ImageCase], list[str]]:
    """The cases with group (by default its own), stratum (as found) and subset; problems: a group has one subset alone.

    All three are found in a case's key; of an official split's parts "test" goes to imagesTs.
    """
    grouped: list[ImageCase] = []
    problems: list[str] = []
    for case in cases:
        case = replace(case, group=case.name)
        try:
            case = replace(case, subset="Ts" if part(case.key) == "test" else "Tr") if part else case
            case = replace(case, group=group(case.key)) if group else case
            case = replace(case, stratum=stratum(case.key)) if stratum else case
        except ValueError as error:
            problems.append(f"{case.image}: {error}")
        grouped.append(case)
    subset_of: dict[str, str] = {}
    for case in grouped:
        if subset_of.setdefault(case.group, case.subset) != case.subset:
            problems.append(f"{case.image}: its group {case.group} has training and test images; move it to one side")
    return grouped, problems


def with_twins(
    cases: Sequence[ImageCase], alike: float | None, side: Callable[[ImageCase], str]
) -> tuple[list[ImageCase], list[tuple[ImageCase, ImageCase]], list[str]]:
    """Cases whose twins are of one group, the pairs of twins, and problems.

    Args:
        cases: with their groups, and seen.
        alike: twins are images of the same pixels, or whose thumbnails correlate by so much or more.
        side: what a case is for, where that is settled ("Tr" or "Ts"; "train" or "val" of an official split): twins on
            two sides are a problem.
    """
    problems, together = [], []
    twins = [(cases[i], cases[j]) for i, j in _twins(cases, alike)]
    for one, other in twins:
        if side(one) != side(other):
            problems.append(
                f"{other.image}: is {one.image} again, and one is to judge what is trained on the other; "
                f"leave one out with --exclude {other.name} or {one.name}"
            )
        else:
            together.append((one.group, other.group))
    group_of = first_of_each((case.group for case in cases), together)
    return [replace(case, group=group_of[case.group]) for case in cases], twins, problems


def _twins(cases: Sequence[ImageCase], alike: float | None) -> list[tuple[int, int]]:
    """Pairs of twins, the first one first."""
    first: dict[str, int] = {}
    pairs = set()
    for i, case in enumerate(cases):
        if case.seen.pixels and first.setdefault(case.seen.pixels, i) != i:
            pairs.add((first[case.seen.pixels], i))
    readable = [i for i, case in enumerate(cases) if case.seen.thumbnail is not None]
    if alike is not None and readable:
        thumbnails = np.stack([cases[i].seen.thumbnail for i in readable])
        for row, i in enumerate(readable):
            found = np.flatnonzero(thumbnails[row + 1 :] @ thumbnails[row] >= alike) + row + 1
            pairs |= {(i, readable[column]) for column in found}
    return sorted(pairs)


def by_regex(pattern: str, argument: str) -> Callable[[str], str]:
    """A function from a case's key to the group `group`, else the first one, else the whole match.

    Raises:
        ConversionError: if it is no regular expression; the function raises ValueError for a key without a match.
    """
    regex = compiled(pattern, argument)
    which = "group" if "group" in regex.groupindex else min(regex.groups, 1)

    def find(key: str) -> str:
        match = regex.search(key)
        found = match[which] if match else None
        if not found:
            raise ValueError(f"{argument} {pattern} matches nothing in {key}")
        return found

    return find


def make_splits(cases: Sequence[ImageCase], part: Callable[[str], str] | None, seed: int, folds: int) -> Splits:
    """The content of splits_final.json: folds by group, stratified, or the one fold of an official split.

    Raises:
        ConversionError: for fewer groups than folds, or an official split that lacks a side.
    """
    training = [case for case in cases if case.subset == "Tr"]
    if part is not None:
        sides = {side: sorted(case.name for case in training if part(case.key) == side) for side in ("train", "val")}
        if not all(sides.values()):
            raise ConversionError("the official split has nothing to train on or to validate on; is the set complete?")
        return [sides]
    if not training:
        raise ConversionError(f"nothing to train on: all {len(cases)} images are test images; is the set complete?")
    strata: dict[str, set[str]] = {}
    cases_of: dict[str, list[str]] = {}
    for case in training:
        strata.setdefault(case.group, set()).add(case.stratum)
        cases_of.setdefault(case.group, []).append(case.name)
    if not 2 <= folds <= len(strata):
        raise ConversionError(
            f"--folds {folds}: the {len(training)} training images are of {len(strata)} groups (patients, sequences, "
            "copies of one image); give at least two folds, and at most one a group"
        )
    stratum_of = {group: "+".join(sorted(found)) for group, found in strata.items()}
    return splits_of(cases_of, folds_by_patient(stratum_of, seed, folds))
