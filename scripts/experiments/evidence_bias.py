"""A control of ``evidence.py``: how much of a gain is more foreground? A bias is added to a run's foreground logits.

    python scripts/experiments/evidence_bias.py OUT RUN --seeds 0 1 --biases -1 0 1 2 --fold 1

The rows go to docs/evidence/values.csv under names like ``stock-bias+1``, with the commit of the run's training: Dice
and sizes of the ACDC cases that the run has not seen, clean and under the first three shifts of ``evidence.py``. With a
bias of 0 they are the run's own. What is there already is skipped.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from evidence import DATASET, EVIDENCE, INVERTED, PROVENANCE, RUNS, SEVERITY, SHIFTED, VALUES, Experiment, device, put
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_shapekd.stress.shifts import Scene, read_image, seed_of, shifted


def name_of(run: str, bias: float) -> str:
    return f"{run}-bias{bias:+g}"


def dice_and_sizes(predicted: np.ndarray, reference: np.ndarray) -> dict[str, float | None]:
    """Dice (none if both are empty) and the two numbers of voxels."""
    sizes = int(predicted.sum()), int(reference.sum())
    dice = 2 * int((predicted & reference).sum()) / sum(sizes) if sum(sizes) else None
    return {"dice": dice, "prediction_size": sizes[0], "reference_size": sizes[1]}


def rows(experiment: Experiment, run: str, biases: list[float]) -> Iterator[tuple[object, ...]]:
    folder = experiment.training_folder(run)
    predictor = nnUNetPredictor(
        use_mirroring=False, device=torch.device(device()), verbose_preprocessing=False, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(folder.parent), (experiment.fold,), "checkpoint_final.pth")
    labels = {name: value for name, value in predictor.dataset_json["labels"].items() if name != "background"}
    raw = experiment.out / "raw" / f"Dataset{DATASET:03d}_ACDC"
    paths = sorted((folder / "validation").glob("*.nii.gz"))
    if not paths:
        raise SystemExit(f"{folder} has no validation: train {run} with evidence.py first")
    for path in paths:
        case = path.name.removesuffix(".nii.gz")
        image = read_image(raw / "imagesTr" / f"{case}_0000.nii.gz")
        reference = read_image(raw / "labelsTr" / path.name).values[0]  # (x, y, z)
        ml = float(np.prod(image.spacing)) / 1000
        for shift, severity in (("none", 0), *((shift, SEVERITY) for shift in SHIFTED)):
            scene = Scene(image.spacing, seed_of(case, shift), mask=reference == labels[INVERTED])
            values = shifted(image.values, shift, severity, scene) if severity else image.values
            # as stress writes them
            values = np.rint(values) if image.values.dtype.kind in "iub" else values
            array = values.transpose(0, 3, 2, 1).astype(np.float32)  # (c, z, y, x)
            properties = {"spacing": list(image.spacing[::-1])}
            _, p = predictor.predict_single_npy_array(array, properties, None, None, True)  # (k, z, y, x)
            logits = np.log(np.maximum(p, 1e-12))
            for bias in biases:
                predicted = np.concatenate([logits[:1], logits[1:] + bias]).argmax(0).T  # (x, y, z)
                for name, value in labels.items():
                    found = dice_and_sizes(predicted == value, reference == value)
                    for metric, number in found.items():
                        if number is not None:
                            unit, number = ("1", number) if metric == "dice" else ("ml", number * ml)
                            what = (shift, severity, case, case.split("_")[0], name, metric, unit)
                            yield bias, (experiment.seed, experiment.fold, *what, round(number, 4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("run", choices=RUNS, metavar="RUN")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--biases", type=float, nargs="+", required=True)
    parser.add_argument("--fold", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in args.seeds:
        experiment = Experiment(args.out.absolute(), seed, args.fold)
        os.environ["nnUNet_extTrainer"] = experiment.environment(args.run)["nnUNet_extTrainer"]
        biases = [bias for bias in args.biases if not experiment.is_done(name_of(args.run, bias))]
        if not biases:
            continue
        of_bias = {bias: [] for bias in biases}
        for bias, row in rows(experiment, args.run, biases):
            of_bias[bias].append((name_of(args.run, bias), *row))
        provenance = experiment.provenance(args.run)
        settings = PROVENANCE.index("settings")
        for bias, found in of_bias.items():
            put(EVIDENCE / "values.csv", VALUES, found)
            own = [name_of(args.run, bias), *provenance[1:]]
            own[settings] = f"{own[settings]} foreground_logit_bias={bias:g}".strip()
            put(EVIDENCE / "runs.csv", PROVENANCE, [own])


if __name__ == "__main__":
    main()
