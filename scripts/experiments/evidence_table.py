"""Tables of what ``evidence.py`` found: a row a run, a column a set or shift that it was judged on.

    python scripts/experiments/evidence_table.py stock ramp mean-jitter --fold 1      differences to the first
    python scripts/experiments/evidence_table.py stock ramp --fold 1 --claim clean    one of them, and its n
    python scripts/experiments/evidence_table.py student features --show why          what evidence_why.py found

Mean Dice (%) over structures, cases and patients, with each seed's in brackets; HD95 (mm; of an empty prediction it is
the image's diagonal) clean, and the volume predicted over the true one, summed over cases and structures. Differences
are to the first run, paired by seed and case, of the seeds that both have; after the semicolon their 95 % interval over
patients (``bootstrap_interval``), with seeds averaged within a patient. It knows nothing of other seeds. Of too few
patients there is each one's value instead. ``evidence_pages.py`` makes all tables of the pages.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from evidence_rows import METRICS, PROVENANCE, VALUES, WHY, read

from nnunet_shapekd.evaluation.statistics import MIN_PATIENTS, bootstrap_interval

UNKNOWN = "–"
#: how a column of why.csv is written
WHY_FORMS = {"cosine": ".2f", "norm": ".2f", "missed": ".1%", "false": ".1%", "volume": ".2f", "entropy": ".2f"}

#: (case, patient, class) -> value
Values = dict[tuple[str, str, str], float]
#: (run, seed, judged on, metric) -> what was measured
Found = dict[tuple[str, int, str, str], Values]


@cache
def find(fold: int) -> Found:
    found: Found = defaultdict(dict)
    for row in read(VALUES):
        if int(row["fold"]) == fold:
            for metric in METRICS:
                if row[metric]:
                    of = row["run"], int(row["seed"]), row["judged_on"], metric
                    found[of][row["case"], row["patient"], row["class"]] = float(row[metric])
    return dict(found)


def of_patients(values: Values, keys: Iterable[tuple[str, str, str]], name: str | None = None) -> np.ndarray:
    """One value a patient, sorted: the mean over a case's classes (or of one), then over the patient's cases."""
    cases: dict[tuple[str, str], list[float]] = defaultdict(list)
    for case, patient, of_class in keys:
        if name in (None, of_class):
            cases[patient, case].append(values[case, patient, of_class])
    patients: dict[str, list[float]] = defaultdict(list)
    for (patient, _), of_case in cases.items():
        patients[patient].append(float(np.mean(of_case)))
    return np.array([np.mean(patients[patient]) for patient in sorted(patients)])


def interval(of_patients: np.ndarray) -> str:
    """Of too few patients: the patients' values."""
    if len(of_patients) < MIN_PATIENTS:
        return "patients " + ", ".join(f"{value:+.1f}" for value in of_patients)
    low, high = bootstrap_interval(of_patients)
    return f"{low:+.1f} to {high:+.1f}"


def with_each(of_seeds: np.ndarray, form: str) -> str:
    """The mean and, of several seeds, each one's."""
    each = f" ({', '.join(format(value, form) for value in of_seeds)})" if len(of_seeds) > 1 else ""
    return format(of_seeds.mean(), form) + each


@dataclass(frozen=True)
class Run:
    """What was found of a run. Its answers are cells of a table; Dice is in percent."""

    found: Found
    name: str
    seeds: list[int]

    def has(self, where: str, metric: str) -> bool:
        return (self.name, self.seeds[0], where, metric) in self.found

    def values(self, where: str, metric: str, seed: int) -> Values:
        return self.found[self.name, seed, where, metric]

    def mean(self, where: str, metric: str = "dice", factor: float = 100) -> str:
        if not self.has(where, metric):
            return UNKNOWN
        of_seeds = [self.values(where, metric, seed) for seed in self.seeds]
        return with_each(factor * np.array([of_patients(values, values).mean() for values in of_seeds]), ".1f")

    def structures(self, where: str) -> str:
        if not self.has(where, "dice"):
            return UNKNOWN
        of_seeds = [self.values(where, "dice", seed) for seed in self.seeds]
        names = dict.fromkeys(name for _, _, name in of_seeds[0])
        means = (np.mean([of_patients(values, values, name).mean() for values in of_seeds]) for name in names)
        return ", ".join(f"{name} {100 * mean:.1f}" for name, mean in zip(names, means, strict=True))

    def volume(self, where: str) -> str:
        if not self.has(where, "prediction_ml"):
            return UNKNOWN
        predicted, true = (
            sum(sum(self.values(where, metric, seed).values()) for seed in self.seeds)
            for metric in ("prediction_ml", "reference_ml")
        )
        return f"{predicted / true:.2f}"

    def differences(self, other: Run, where: str, metric: str = "dice", name: str | None = None) -> np.ndarray:
        """(seeds, patients), of the seeds that both have, over the structures (or one) that both have in all."""
        seeds = sorted(set(self.seeds) & set(other.seeds))
        both = [[run.values(where, metric, seed) for seed in seeds] for run in (self, other)]
        keys = sorted(set.intersection(*(set(values) for run in both for values in run)))
        own, others = (np.stack([of_patients(values, keys, name) for values in run]) for run in both)
        return own - others

    def less(self, other: Run, where: str, metric: str = "dice", factor: float = 100) -> str:
        if not (self.has(where, metric) and other.has(where, metric)):
            return UNKNOWN
        differences = factor * self.differences(other, where, metric)
        return f"{with_each(differences.mean(1), '+.1f')}; {interval(differences.mean(0))}"


def table(args: argparse.Namespace) -> list[list[str]]:
    """Rows of cells, the first of them the head."""
    if args.show == "why":
        return why(args.runs, args.columns)
    runs = judged_runs(args)
    to = runs[0]
    columns = {title(where): where for run, _, where, _ in to.found if run == to.name}
    clean = next(iter(columns))
    hd95 = f"HD95 (mm): {clean}"

    def cell(run: Run, column: str) -> str:
        if column == "volume":
            return run.volume(columns[clean])
        what = (columns[clean], "hd95_mm", 1) if column == hd95 else (columns[column],)
        if args.show == "structures":
            return run.structures(*what)
        if args.show == "volumes":
            return f"{run.mean(*what).split(' (')[0]}, {run.volume(*what)}"
        return run.mean(*what) if run is to or args.show == "means" else run.less(to, *what)

    names = [*columns, *((hd95, "volume") if args.show in ("differences", "means") else ())]
    if unknown := set(args.columns or names) - set(names):
        raise ValueError(f"--columns: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    names = args.columns or names
    first = "mean Dice (%)" + {"differences": ", then differences to it", "volumes": ", volume"}.get(args.show, "")
    return [[first, *names], *([f"`{run.name}`", *(cell(run, name) for name in names)] for run in runs)]


def title(where: str) -> str:
    """Without the severity."""
    return re.sub(r" \d$", "", where)


def judged_runs(args: argparse.Namespace) -> list[Run]:
    """Raises: ValueError for a run without the seeds."""
    found = find(args.fold)
    runs = []
    for name in args.runs:
        seeds = {seed for run, seed, *_ in found if run == name} & set(args.seeds or [seed for _, seed, *_ in found])
        if not seeds & set(runs[0].seeds if runs else seeds):
            raise ValueError(f"{name} has no such seed in fold {args.fold} of {VALUES}")
        runs.append(Run(found, name, sorted(seeds)))
    return runs


def why(runs: Sequence[str], columns: Sequence[str] | None) -> list[list[str]]:
    """A row a run of why.csv, each seed's value in a cell."""
    names = columns or list(WHY_FORMS)

    def cell(run: str, name: str) -> str:
        of_seeds = [row[name] for row in read(WHY) if row["run"] == run and row[name]]
        return ", ".join(f"{float(value):{WHY_FORMS[name]}}" for value in of_seeds) or UNKNOWN

    return [["run", *names], *([f"`{run}`", *(cell(run, name) for name in names)] for run in runs)]


def claim(args: argparse.Namespace) -> list[str]:
    """n, the difference of the second run to the first where it is claimed (each seed's), and its interval."""
    if args.show == "why":
        _, (_, of_seeds) = why(args.runs, [args.claim])
        return [f"{read(WHY)[0]['batches']} batches, {seeds_of(of_seeds.count(',') + 1)}", of_seeds, UNKNOWN]
    first, second = judged_runs(args)
    where = next((one for _, _, one, _ in first.found if title(one) == args.claim), "")
    if not (first.has(where, "dice") and second.has(where, "dice")):
        raise ValueError(f"--claim {args.claim}: {first.name} and {second.name} were not both judged there")
    differences = 100 * second.differences(first, where)
    seeds, patients = differences.shape
    steps_of = {row["run"]: f"{int(row['steps']):,}" for row in read(PROVENANCE)}
    steps = " against ".join(dict.fromkeys(steps_of[run.name] for run in (second, first)))
    n = f"{patients} patients, {seeds_of(seeds)}, {steps} steps"
    return [n, with_each(differences.mean(1), "+.1f"), interval(differences.mean(0))]


def seeds_of(number: int) -> str:
    return f"{number} seed{'s' * (number > 1)}"


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the first is what the others are compared with")
    parser.add_argument("--seeds", type=int, nargs="+", help="by default all that a run has")
    parser.add_argument("--fold", type=int, default=0)
    shows = "differences", "means", "volumes", "structures", "why"
    parser.add_argument(
        "--show", choices=shows, default=shows[0], help="by default %(default)s; why: evidence_why.py's"
    )
    parser.add_argument("--columns", nargs="+", help="some of the columns")
    parser.add_argument("--claim", metavar="COLUMN", help="only n, difference and interval of two runs in a column")
    return parser.parse_args(arguments)


def printed(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    head, *others = (f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *others])


def main() -> None:
    args = parsed()
    try:
        print(" | ".join(claim(args)) if args.claim else printed(table(args)))
    except ValueError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
