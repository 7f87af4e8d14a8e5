"""The table of ``five_tasks.sh``: seeds are averaged within a patient, then patients are resampled.

    python scripts/experiments/five_tasks_table.py [--model moves]              rows of docs/tasks/README.md
    python scripts/experiments/five_tasks_table.py --judged OUT --seeds 0 1     first write their file anew

All is from the model's file in docs/tasks, as student.csv: a row a task, data set, seed, model, case and structure.
Seeds are replicates: they are never counted as patients. A structure that is not there and that only some run predicted
is left out of all.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
from evidence_table import UNKNOWN, Values, interval, of_patients, with_each

from nnunet_shapekd.evaluation.statistics import MIN_PATIENTS

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "tasks"
TASKS = ("cardiac", "fundus", "polyp", "breast", "abdomen")
MODELS = ("student", "moves", "mean-jitter")
METRICS = ("dice", "hd95", "reference_size", "prediction_size")
COLUMNS = ("task", "dataset", "seed", "model", "case", "patient", "class", *METRICS, "distance_unit", "size_unit")
#: frames of few sequences, whose independence nobody vouches for: no interval
DEPENDENT = {"Dataset064_ColonDB"}


def judged_rows(out: Path, other: str, seeds: list[int]) -> list[dict[str, str]]:
    """Rows of ``COLUMNS`` of what ``five_tasks.sh judge`` has left.

    Raises:
        FileNotFoundError: for sets that were not judged with each seed.
    """
    judged = {seed: out / "judged" / other / f"seed{seed}" for seed in seeds}
    sets = {seed: {path.relative_to(folder) for path in folder.glob("*/Dataset*")} for seed, folder in judged.items()}
    everything = sorted(set.union(*sets.values()))
    missing = [f"{path} of seed {seed}" for seed, found in sets.items() for path in everything if path not in found]
    if missing or not everything:
        raise FileNotFoundError(f"not judged yet: {', '.join(missing) or out}")
    rows = []
    for path in everything:
        for seed, folder in judged.items():
            for model in ("stock", other):
                with (folder / path / model / "metrics.csv").open(newline="") as file:
                    for row in csv.DictReader(file):
                        distance = "mm" if "hd95_mm" in row else "px"
                        (size,) = (unit for unit in ("ml", "mm2", "px") if f"reference_{unit}" in row)
                        own = {"task": path.parts[0], "dataset": path.name, "seed": seed, "model": model}
                        own |= {name: row[name] for name in ("case", "patient", "class", "dice")}
                        own |= {"hd95": row[f"hd95_{distance}"], "distance_unit": distance, "size_unit": size}
                        rows.append(own | {name: row[name.replace("size", size)] for name in METRICS[2:]})
    return rows


def line(rows: list[dict[str, str]], other: str) -> str:
    """One line of the table, of the rows of one data set; and one that says what was left out."""
    models = "stock", other
    found: dict[tuple[str, str, str], Values] = defaultdict(dict)
    for row in rows:
        for metric in METRICS:
            if row[metric]:
                of = row["model"], row["seed"], metric
                found[of][row["case"], row["patient"], row["class"]] = float(row[metric])
    seeds = sorted({row["seed"] for row in rows})
    of_runs = [set(found[model, seed, "dice"]) for model in models for seed in seeds]
    keys = sorted(set.intersection(*of_runs))

    def means(model: str, metric: str) -> np.ndarray:  # (seeds, patients)
        return np.stack([of_patients(found[model, seed, metric], keys) for seed in seeds])

    def size(model: str) -> str:  # predicted / true, all classes and cases together
        predicted, true = (sum(sum(found[model, seed, m].values()) for seed in seeds) for m in METRICS[:1:-1])
        return f"{predicted / true:.2f}"

    stock, student = (100 * means(model, "dice") for model in models)
    differences = student - stock
    enough = differences.shape[1] >= MIN_PATIENTS and rows[0]["dataset"] not in DEPENDENT
    cells = (
        rows[0]["task"],
        rows[0]["dataset"].split("_")[1],
        f"{len({case for case, *_ in keys})} ({differences.shape[1]})",
        *(with_each(of_patient.mean(1), ".1f") for of_patient in (stock, student)),
        with_each(differences.mean(1), "+.1f"),
        interval(differences.mean(0)) if enough else UNKNOWN,
        " → ".join(with_each(means(model, "hd95").mean(1), ".1f") for model in models) + f" {rows[0]['distance_unit']}",
        " → ".join(map(size, models)),
    )
    invented = len(set.union(*of_runs)) - len(keys)
    note = f"\n{rows[0]['dataset']}: without {invented} structures that are not there and that some run predicted"
    return f"| {' | '.join(cells)} |" + note * bool(invented)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judged", type=Path, metavar="OUT", help="OUT of five_tasks.sh, to read anew")
    parser.add_argument("--seeds", type=int, nargs="+", help="with --judged: those judged there")
    parser.add_argument("--model", choices=MODELS, default="student", help="compared with stock")
    parser.add_argument("--results", type=Path, help="by default the model's in docs/tasks")
    args = parser.parse_args()
    if bool(args.judged) != bool(args.seeds):
        parser.error("--judged and --seeds belong together")
    results = args.results or RESULTS / f"{args.model}.csv"
    if args.judged:
        try:
            rows = judged_rows(args.judged, args.model, sorted(set(args.seeds)))
        except FileNotFoundError as error:
            parser.error(str(error))
        with results.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    of_datasets: dict[str, list[dict[str, str]]] = defaultdict(list)
    with results.open(newline="") as file:
        for row in csv.DictReader(file):
            of_datasets[row["dataset"]].append(row)
    for rows in sorted(of_datasets.values(), key=lambda rows: TASKS.index(rows[0]["task"])):
        print(line(rows, args.model))


if __name__ == "__main__":
    main()
