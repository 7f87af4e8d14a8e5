"""A control of ``evidence.py``: how much of a difference is islands? Of each prediction the largest component stays.

    python scripts/experiments/evidence_largest.py OUT RUN... --seeds 0 1 2 --fold 1

The largest connected component of the whole foreground, with the function of nnU-Net's own postprocessing, which it
chooses for a data set where cross-validation gains from it (here it is applied to all runs alike). The predictions are
those that ``evidence.py`` has judged; the rows go to docs/evidence/values.csv under names like ``stock-largest``, with
the commit of the run's training. What is there already is skipped.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from evidence import (
    ACROSS,
    DATASET,
    EVIDENCE,
    INVERTED_TOO,
    OFFICIAL,
    PROVENANCE,
    RUNS,
    SEVERITY,
    SHIFTED,
    VALUES,
    Experiment,
    put,
)
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.postprocessing.remove_connected_components import (
    load_postprocess_save,
    remove_all_but_largest_component_from_segmentation,
)

from nnunet_shapekd.evaluation.evaluate import Judging, evaluate_folders
from nnunet_shapekd.evaluation.results import write_evaluation


def keep_largest(predictions: Path, to: Path, labels: list[int]) -> None:
    """Write a folder's NIfTI label maps into another, each with only its largest component of the labels together."""
    functions = [remove_all_but_largest_component_from_segmentation], [{"labels_or_regions": labels}]
    for path in predictions.glob("*.nii.gz"):
        load_postprocess_save(str(path), str(to / path.name), SimpleITKIO(), *functions)


def predictions(experiment: Experiment, run: str) -> Iterator[tuple[str, int, Path, str]]:
    """Shift, severity, folder of predictions, and the folder of labels they are judged with."""
    acdc = f"Dataset{DATASET:03d}_ACDC/labelsTr"
    for shift, severity in (("none", 0), *((shift, SEVERITY) for shift in SHIFTED)):
        yield shift, severity, experiment.judged_folder(run) / "predictions" / run / f"{shift}_{severity}", acdc
    if experiment.fold == OFFICIAL:
        inverted = experiment.judged_folder(run, "-inversion") / "predictions" / run / f"inversion_{SEVERITY}"
        yield f"inversion of {INVERTED_TOO}", SEVERITY, inverted, acdc
        across = experiment.judged_folder(run, "-across") / "predictions" / run / ACROSS / "Ts"
        yield ACROSS.partition("_")[2], 0, across, f"{ACROSS}/labelsTs"


def rows(experiment: Experiment, run: str) -> Iterator[dict[str, str]]:
    dataset_json = experiment.training_folder(run).parent / "dataset.json"
    labels = [label for label in json.loads(dataset_json.read_text())["labels"].values() if label]
    for shift, severity, folder, reference in predictions(experiment, run):
        with tempfile.TemporaryDirectory() as to:
            largest, judged = Path(to, "largest"), Path(to, "judged")
            largest.mkdir()
            keep_largest(folder, largest, labels)
            left_out = ["RV"] if ACROSS in reference else []
            judging = Judging(dataset_json=dataset_json, leave_out=left_out, chill=True, processes=1)
            found = evaluate_folders(experiment.out / "raw" / reference, largest, judging)
            write_evaluation(found, judged)
            with (judged / "metrics.csv").open(newline="") as file:
                for row in csv.DictReader(file):
                    yield row | {"shift": shift, "severity": str(severity)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", choices=RUNS, metavar="RUN")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--fold", type=int, default=OFFICIAL, help="by default %(default)s")
    args = parser.parse_args()
    for run in args.runs:
        for seed in args.seeds:
            experiment, name = Experiment(args.out.absolute(), seed, args.fold), f"{run}-largest"
            if experiment.is_done(name):
                continue
            if not experiment.judged_folder(run).is_dir():
                parser.error(f"{experiment.judged_folder(run)} is not there: judge {run} with evidence.py first")
            found = [value for row in rows(experiment, run) for value in experiment.values(name, row)]
            own = [name, *experiment.provenance(run)[1:]]
            settings = PROVENANCE.index("settings")
            own[settings] = f"{own[settings]} largest_component=1".strip()
            put(EVIDENCE / "values.csv", VALUES, found)
            put(EVIDENCE / "runs.csv", PROVENANCE, [own])


if __name__ == "__main__":
    main()
