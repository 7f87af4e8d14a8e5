"""An evaluation cut into the cases of each value of a column: each vendor's, each scanner's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.evaluation.statistics import MIN_PATIENTS
from nnunet_shapekd.files.columns import value_order
from nnunet_shapekd.files.names import some

#: what stands before the columns of a row of some cases; what results are called
KEYS, FILE = ("column", "value"), "by.csv"
#: what a reader of tested rows must know
NOTE = (
    "The cases of each value of a column are tested by the same rules, p (Holm) corrected for all rows of a metric of "
    f"all values together; of fewer than {MIN_PATIENTS} patients there is neither interval nor p. A difference that is "
    "shown for one value and not for another does not show that they differ."
)
#: how a value is shown that is ""
UNKNOWN = "(not known)"


def parts(evaluations: Sequence[Evaluation]) -> Iterator[tuple[dict[str, str], list[Evaluation]]]:
    """Column and value ("" where it is not known), and evaluations of the same cases, of those alone that have it."""
    for column, of_case in evaluations[0].groups.items():
        for value in sorted(set(of_case.values()), key=value_order):
            rows = [[row for row in one.rows if of_case[row["case"]] == value] for one in evaluations]
            alone = [replace(one, rows=own, groups={}) for one, own in zip(evaluations, rows, strict=True)]
            yield dict(zip(KEYS, (column, value), strict=True)), alone


def remarks(evaluation: Evaluation) -> Iterator[str]:
    """What a reader must know of cases that are summed up by a column."""
    for column, of_case in evaluation.groups.items():
        values: dict[str, set[str]] = {}
        for case, value in of_case.items():
            values.setdefault(evaluation.patients[case], set()).add(value)
        if several := sorted(patient for patient, found in values.items() if len(found) > 1):
            yield (
                f"{len(several)} of {len(values)} patients have cases of more than one {column} ({some(several)}): "
                "they count for each by its cases."
            )
