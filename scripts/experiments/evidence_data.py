"""The data of ``evidence.py``: ACDC, planned small, with its folds, and the sets that it is judged on, too.

Fold 0 is for development: every fifth training patient, sorted by pathology, is held out (14 of 70). All choices rest
on it. Fold 1 is the data set's own split (70 and 15 patients) and serves once, for what was chosen.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

DATASET, ACDC = 60, "Dataset060_ACDC"
STRUCTURES = {"RV": 1, "MLV": 2, "LVC": 3}
PLANS = ("--spacing", "2", "2", "--patch", "96", "96", "--batch", "4", "--features", "12", "24", "48", "96", "128")
DEVELOPMENT, OFFICIAL = 0, 1


@dataclass(frozen=True)
class Stacks:
    """Another set, for prediction only: ``images`` and ``labels`` below a folder of DATA, in ACDC's label values."""

    number: int
    name: str
    folder: str
    channel: str
    structures: tuple[str, ...] = tuple(STRUCTURES)

    @property
    def dataset(self) -> str:
        return f"Dataset{self.number:03d}_{self.name}"


OTHERS = (
    Stacks(61, "Sunnybrook", "cardiac_sunnybrook", "cineMRI", ("MLV", "LVC")),
    Stacks(67, "bSSFP", "cardiac_mscmr/bSSFP", "bSSFP"),
    Stacks(68, "LGE", "cardiac_mscmr/LGE", "LGE"),
)


def prepare(data: Path, out: Path) -> None:
    """Convert, split, plan and preprocess; what is there is kept."""
    environment = nnunet_environment(out)
    raw = Path(environment["nnUNet_raw"], ACDC)
    preprocessed = Path(environment["nnUNet_preprocessed"], ACDC)
    for folder in (raw.parent, preprocessed.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for other in OTHERS:
        copy_stacks(other, data, raw.with_name(other.dataset))
    if is_prepared(out):
        return
    to_log = out / "prepare.log"
    if not raw.exists():
        splits = [option for name in ("train", "val") for option in (f"--{name}", data / "acdc/split" / f"{name}.json")]
        command = ["shapekd", "convert", "acdc", data / "acdc/training", *splits, "-d", DATASET]
        execute(list(map(str, command)), environment, to_log)
    plan = f"nnUNetv2_plan_and_preprocess -d {DATASET} -c 2d -np 1 -npfp 1 --no_pp"
    execute(plan.split(), environment, to_log)
    small_plans = str(Path(__file__).parents[1] / "small_plans.py")
    execute([sys.executable, small_plans, "-d", str(DATASET), "--name", "smallPlans", *PLANS], environment, to_log)
    execute(f"nnUNetv2_preprocess -d {DATASET} -plans_name smallPlans -c 2d -np 1".split(), environment, to_log)
    write_folds(raw, preprocessed)
    (preprocessed / "prepared").touch()


def is_prepared(out: Path) -> bool:
    return (out / "preprocessed" / ACDC / "prepared").exists()


def copy_stacks(stacks: Stacks, data: Path, to: Path) -> None:
    for part, ending in (("images", "_0000.nii.gz"), ("labels", ".nii.gz")):
        (to / f"{part}Ts").mkdir(parents=True, exist_ok=True)
        if not (paths := list((data / stacks.folder / part).glob("*.nii.gz"))):
            sys.exit(f"{data / stacks.folder / part}: no stacks (*.nii.gz) of {stacks.name}")
        for path in paths:
            shutil.copy(path, to / f"{part}Ts" / path.name.replace(".nii.gz", ending))
    labels = {"background": 0} | {name: STRUCTURES[name] for name in stacks.structures}
    about = {"channel_names": {"0": stacks.channel}, "labels": labels, "numTraining": 0, "file_ending": ".nii.gz"}
    (to / "dataset.json").write_text(json.dumps(about, indent=4) + "\n")


def write_folds(raw: Path, preprocessed: Path) -> None:
    (official,) = json.loads((raw / "splits_final.json").read_text())
    with (raw / "patients.csv").open(newline="") as file:
        group_of = {row["patient"]: row["group"] for row in csv.DictReader(file)}
    patients = sorted({case.split("_")[0] for case in official["train"]}, key=lambda one: (group_of[one], one))
    held_out = set(patients[2::5])
    development: dict[str, list[str]] = {"train": [], "val": []}
    for case in official["train"]:
        development["val" if case.split("_")[0] in held_out else "train"].append(case)
    folds = [development, official]
    (preprocessed / "splits_final.json").write_text(json.dumps(folds, indent=4) + "\n")


def nnunet_environment(out: Path) -> dict[str, str]:
    return {
        **os.environ,
        "nnUNet_raw": str(out / "raw"),
        "nnUNet_preprocessed": str(out / "preprocessed"),
        "nnUNet_results": str(out / "results"),
        "nnUNet_compile": "f",
        "nnUNet_def_n_proc": "1",
        "nnUNet_n_proc_DA": "1",  # planning wants one
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
    }


def execute(command: list[str], environment: dict[str, str], to_log: Path) -> None:
    to_log.parent.mkdir(parents=True, exist_ok=True)
    with to_log.open("a") as file:
        if subprocess.run(command, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode:
            sys.exit(f"{' '.join(command)}\nfailed; its whole output: {to_log}")
