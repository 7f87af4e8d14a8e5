"""A control of ``evidence.py``: how much of a difference is islands? Of each prediction the largest component stays.

    python scripts/experiments/evidence_largest.py OUT RUN... --seeds 0 1 2 --fold 1

The largest connected component of the whole foreground, with the function of nnU-Net's own postprocessing, which it
chooses for a data set where cross-validation gains from it (here it is applied to all runs alike). The predictions are
those that ``evidence.py`` has judged; the rows go to docs/evidence/values.csv under names like ``stock-largest``; what
is there already is skipped.
"""

from __future__ import annotations

import argparse
import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from evidence import (
    ACROSS,
    DATASET,
    EVIDENCE,
    INVERTED_TOO,
    METRICS,
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

from nnunet_shapekd.evaluation.evaluate import evaluate_folders


def keep_largest(predictions: Path, to: Path, labels: list[int]) -> None:
    """Write the NIfTI label maps of a folder into another, without what hangs together with nothing larger."""
    functions = [remove_all_but_largest_component_from_segmentation], [{"labels_or_regions": labels}]
    for path in predictions.glob("*.nii.gz"):
        load_postprocess_save(str(path), str(to / path.name), SimpleITKIO(), *functions)


def judged(experiment: Experiment, run: str) -> Iterator[tuple[str, int, Path, str]]:
    """Shift, severity, folder of predictions, and the data set they are of."""
    folder = experiment.out / "judged" / run / f"seed{experiment.seed}" / f"fold_{experiment.fold}"
    acdc = f"Dataset{DATASET:03d}_ACDC/labelsTr"
    for shift, severity in (("none", 0), *((shift, SEVERITY) for shift in SHIFTED)):
        yield shift, severity, folder / "predictions" / run / f"{shift}_{severity}", acdc
    if experiment.fold == OFFICIAL:
        inverted = folder.with_name(f"{folder.name}-inversion") / "predictions" / run / f"inversion_{SEVERITY}"
        yield f"inversion of {INVERTED_TOO}", SEVERITY, inverted, acdc
        across = folder.with_name(f"{folder.name}-across") / "predictions" / run / ACROSS / "Ts"
        yield ACROSS.partition("_")[2], 0, across, f"{ACROSS}/labelsTs"


def rows(experiment: Experiment, run: str) -> Iterator[tuple[object, ...]]:
    known = {"dataset_json": experiment.training_folder(run).parent / "dataset.json", "chill": True, "processes": 1}
    for shift, severity, predictions, labels in judged(experiment, run):
        with tempfile.TemporaryDirectory() as to:
            keep_largest(predictions, Path(to), [1, 2, 3])
            reference = experiment.out / "raw" / labels
            left_out = ["RV"] if ACROSS in labels else []
            found = evaluate_folders(reference, to, leave_out=left_out, **known)
        for row in found.rows:
            patient = re.sub(r"_frame\d+$", "", row["case"])
            what = (experiment.seed, experiment.fold, shift, severity, row["case"], patient, row["class"])
            for metric, (_, unit) in METRICS.items():
                if not math.isnan(row[metric]):
                    yield (*what, metric, unit, round(row[metric], 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", choices=RUNS, metavar="RUN")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--fold", type=int, default=0)
    args = parser.parse_args()
    for run in args.runs:
        for seed in args.seeds:
            experiment, name = Experiment(args.out.absolute(), seed, args.fold), f"{run}-largest"
            if experiment.is_done(name) or not experiment.is_done(run):
                continue
            found = [(name, *row) for row in rows(experiment, run)]
            own = [name, *experiment.provenance(run)[1:]]
            settings = PROVENANCE.index("settings")
            own[settings] = f"{own[settings]} largest_component=1".strip()
            put(EVIDENCE / "values.csv", VALUES, found)
            put(EVIDENCE / "runs.csv", PROVENANCE, [own])


if __name__ == "__main__":
    main()
