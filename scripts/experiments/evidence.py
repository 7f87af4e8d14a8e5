"""Does distillation help, and with which settings? Stock, teachers and students at one budget, on ACDC.

    python scripts/experiments/evidence.py prepare DATA OUT            convert, split, plan, preprocess
    python scripts/experiments/evidence.py run OUT RUN... --seeds 0 1  train, predict, judge; rows go to the CSV files

DATA holds acdc/training/patientXXX, acdc/split/{train,val}.json and cardiac_sunnybrook/{images,labels}. RUN is a name
in ``RUNS``; the teachers a run needs are trained first. What is finished is skipped, what was killed goes on. Start it
twice to use two cores: a training belongs to one of them.

Fold 0 is for development: every fifth training patient, sorted by pathology, is held out (14 of 70), clean and under
shifts that are none of nnU-Net's training augmentation. All choices rest on it. Fold 1 is the data set's own split (70
and 15 patients) and serves once, for what was chosen, with one shift more and on Sunnybrook's patients, too. Folds 2 to
4 are fold 0 with 5, 10 and 20 training patients.

Rows: docs/evidence/values.csv has every value, docs/evidence/runs.csv how it came about. Seeds are replicates, and on a
CPU the runs of one seed form a pair: they begin and draw alike.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path

HERE = Path(__file__).resolve().parent
EVIDENCE = HERE.parents[1] / "docs" / "evidence"
DATASET = 60
PLANS = ("--spacing", "2", "2", "--patch", "96", "96", "--batch", "4", "--features", "12", "24", "48", "96", "128")
EPOCHS = 30  # of 50 steps
#: training patients of folds 2, 3 and 4
FEW_PATIENTS = (5, 10, 20)
#: shifts that are none of nnU-Net's training augmentation
INVERSION = ("inversion",)
SHIFTED, SEVERITY, INVERTED = ("bias-field", "ghosting", *INVERSION), 3, "LVC"
#: the fold that serves once, and what it alone is judged on: another structure, another scanner
OFFICIAL, INVERTED_TOO, ACROSS = 1, "MLV", "Dataset061_Sunnybrook"
#: metric -> its column in stress.csv, its unit
METRICS = {
    "dice": ("dice", "1"),
    "hd95": ("hd95_mm", "mm"),
    "reference_size": ("reference_ml", "ml"),
    "prediction_size": ("prediction_ml", "ml"),
}
VALUES = ("run", "seed", "fold", "shift", "severity", "case", "patient", "class", "metric", "unit", "value")
#: how a run came about
PROVENANCE = ("run", "seed", "fold", "trainer", "settings", "steps", "teacher_run", "seconds", "commit")
PROVENANCE += ("nnunetv2", "torch", "hardware")


@dataclass(frozen=True)
class Run:
    """A network to train: its trainer, its settings (environment variables), and the run that is its teacher."""

    trainer: str
    teacher: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    epochs: int = EPOCHS


def student(teacher: str | None = "teacher", trainer: str = "nnUNetTrainerShapeKD_Seeded", **settings: object) -> Run:
    settings = {"logit_weight": 1, "temperature": 1, "ramp": 0} | settings
    return Run(trainer, teacher, {f"SHAPEKD_{name.upper()}": str(value) for name, value in sorted(settings.items())})


def taught_by_labels(blur: int, **settings: object) -> Run:
    run = student(None, "nnUNetTrainerShapeKDLabels_Seeded", **settings)
    return replace(run, settings={**run.settings, "EXPERIMENT_BLUR": str(blur)})


def ramped(run: Run) -> Run:
    return replace(run, settings={**run.settings, "SHAPEKD_RAMP": "0.5"})


def randomly_convolved(run: Run, share: float = 0.5) -> Run:
    return replace(run, settings={**run.settings, "EXPERIMENT_SHARE": str(share)})


def varied(run: Run, jitter: float = 2, share: float = 0.5) -> Run:
    return replace(run, settings={**run.settings, "EXPERIMENT_JITTER": str(jitter), "EXPERIMENT_SHARE": str(share)})


RUNS = {
    "stock": Run("nnUNetTrainer_Seeded"),
    "teacher": Run("nnUNetTrainerMeanImage_Seeded"),
    "student": student(),
    # which teacher
    "teacher-half": Run("nnUNetTrainerMeanImageHalf_Seeded"),
    "student-of-half": student("teacher-half"),
    # which settings, one factor at a time
    "weight-0.3": student(logit_weight=0.3),
    "weight-3": student(logit_weight=3),
    "temperature-2": student(temperature=2),
    "balanced": student(balanced=1),
    "ramp": ramped(student()),
    "features": student(logit_weight=0, feature_weight=2),
    "both": student(feature_weight=2),
    # the same with weights that make their gradients about as large as the cross-entropy's (evidence_why.py)
    "temperature-2-matched": student(temperature=2, logit_weight=0.4),
    "balanced-matched": student(balanced=1, logit_weight=0.18),
    "features-matched": student(logit_weight=0, feature_weight=0.5),
    # controls
    "stock-of-the-pairs-cost": Run("nnUNetTrainer_Seeded", epochs=62),
    "label-smoothing": Run("nnUNetTrainerLabelSmoothing_Seeded"),
    "labels": taught_by_labels(0),
    "labels-balanced": taught_by_labels(0, balanced=1),
    "labels-blurred": taught_by_labels(3),
    "teacher-ordinary": Run("nnUNetTrainerOrdinary_Seeded"),
    "teacher-skipless": Run("nnUNetTrainerSkipless_Seeded"),
    "teacher-with-skips": Run("nnUNetTrainerMeanImageWithSkips_Seeded"),
    "student-of-ordinary": student("teacher-ordinary"),
    "student-of-skipless": student("teacher-skipless"),
    "student-of-with-skips": student("teacher-with-skips"),
    "random-convolutions": randomly_convolved(Run("nnUNetTrainerRandomConvolutions_Seeded")),
    "random-convolutions-rarely": randomly_convolved(Run("nnUNetTrainerRandomConvolutions_Seeded"), 0.15),
    # beyond the paper: distillation in place of the cross-entropy; structures whose mean intensity moves
    "instead": student(trainer="nnUNetTrainerShapeKDInstead_Seeded"),
    "mean-jitter": Run("nnUNetTrainerMeanJitter_Seeded"),
    "mean-jitter-fades": Run("nnUNetTrainerMeanJitterFades_Seeded"),
    "student-mean-jitter-ramp": ramped(student(trainer="nnUNetTrainerShapeKDMeanJitter_Seeded")),
    "varied-means": varied(Run("nnUNetTrainerVariedMeans_Seeded")),
    "varied-means-rarely": varied(Run("nnUNetTrainerVariedMeans_Seeded"), share=0.15),
    "student-varied-means-rarely": varied(student(trainer="nnUNetTrainerShapeKDVariedMeans_Seeded"), share=0.15),
    "student-random-convolutions": randomly_convolved(student(trainer="nnUNetTrainerShapeKDRandomConvolutions_Seeded")),
    "student-random-convolutions-rarely": randomly_convolved(
        student(trainer="nnUNetTrainerShapeKDRandomConvolutions_Seeded"), 0.15
    ),
    "student-where-varied": varied(student(trainer="nnUNetTrainerShapeKDWhereVaried_Seeded"), share=0.15),
}
# the controls of a student whose teacher's voice grows over the first half of the training
RUNS |= {
    f"ramp-{name}": ramped(RUNS[of])
    for name, of in {
        "labels": "labels",
        "labels-blurred": "labels-blurred",
        "of-ordinary": "student-of-ordinary",
        "of-skipless": "student-of-skipless",
        "of-with-skips": "student-of-with-skips",
        "random-convolutions-rarely": "student-random-convolutions-rarely",
    }.items()
}
# does nnU-Net's augmentation of intensities leave no texture to drop?
RUNS |= {
    "spatial-stock": Run("nnUNetTrainerSpatial_Seeded"),
    "spatial-teacher": Run("nnUNetTrainerMeanImageSpatial_Seeded"),
    "spatial-features": student(
        "spatial-teacher", "nnUNetTrainerShapeKDSpatial_Seeded", logit_weight=0, feature_weight=2
    ),
    "spatial-ramp": ramped(student("spatial-teacher", "nnUNetTrainerShapeKDSpatial_Seeded")),
    "spatial-ramp-labels": ramped(replace(taught_by_labels(0), trainer="nnUNetTrainerShapeKDLabelsSpatial_Seeded")),
}
# is it only faster convergence?
RUNS |= {
    f"{name}-5x": replace(run, epochs=5 * EPOCHS, teacher=run.teacher and f"{run.teacher}-5x")
    for name, run in RUNS.items()
    if name in ("stock", "teacher", "ramp", "ramp-labels", "mean-jitter")
}


class Experiment:
    """One place on the disk, one seed, one fold."""

    def __init__(self, out: Path, seed: int, fold: int) -> None:
        self.out, self.seed, self.fold = out, seed, fold

    def training_folder(self, run: str) -> Path:
        results = self.out / "results" / run / f"seed{self.seed}"
        return results / f"Dataset{DATASET:03d}_ACDC" / f"{RUNS[run].trainer}__smallPlans__2d" / f"fold_{self.fold}"

    def environment(self, run: str) -> dict[str, str]:
        what = RUNS[run]
        variables = nnunet_environment(self.out) | what.settings
        variables["nnUNet_results"] = str(self.out / "results" / run / f"seed{self.seed}")
        variables["nnUNet_extTrainer"] = os.pathsep.join((said("shapekd", "trainers"), str(HERE / "trainers")))
        variables |= {"EXPERIMENT_SEED": str(self.seed), "EXPERIMENT_EPOCHS": str(what.epochs)}
        variables["nnUNet_n_proc_DA"] = "0"  # no other process draws the patches
        if what.teacher:
            variables["SHAPEKD_TEACHER_PATH"] = str(self.training_folder(what.teacher))
        return variables

    def finish(self, run: str) -> None:
        """Do what is missing of a run, and of its teacher's."""
        if self.is_done(run):
            return
        if teacher := RUNS[run].teacher:
            self.finish(teacher)
            self.train(teacher)  # whose rows may be there without its weights
        self.train(run)
        if any(run == other.teacher for other in RUNS.values()):
            self.record_teacher(run)
        else:
            self.judge(run)

    def train(self, run: str) -> None:
        folder = self.training_folder(run)
        with alone(folder.parents[2] / f"fold_{self.fold}.lock"):
            if (folder / "trained").exists():
                return
            if not (folder / "commit").exists():
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "commit").write_text(commit())
            log(f"{run}, seed {self.seed}, fold {self.fold}: training")
            command = ["nnUNetv2_train", str(DATASET), "2d", str(self.fold), "-tr", RUNS[run].trainer]
            command += ["-p", "smallPlans", "-device", device(), "--c"]
            execute(command, self.environment(run), folder.parents[2] / f"fold_{self.fold}.log")
            (folder / "trained").touch()

    def judge(self, run: str) -> None:
        """Predict the held-out cases, clean and shifted, and add a row a value."""
        judged = self.judged_folder(run)
        with alone(judged.with_suffix(".lock")):
            if self.is_done(run):
                return
            log(f"{run}, seed {self.seed}, fold {self.fold}: judging")
            rows = self.stressed(run, judged, SHIFTED, INVERTED)
            if self.fold == OFFICIAL:
                of_other = self.stressed(run, self.judged_folder(run, "-inversion"), INVERSION, INVERTED_TOO)
                rows += [row | {"shift": f"inversion of {INVERTED_TOO}"} for row in of_other if row["shift"] != "none"]
                rows += self.across(run, self.judged_folder(run, "-across"))
            provenance = self.provenance(run)
            put(EVIDENCE / "values.csv", VALUES, [value for row in rows for value in self.values(run, row)])
            put(EVIDENCE / "runs.csv", PROVENANCE, [provenance])

    def judged_folder(self, run: str, what: str = "") -> Path:
        return self.out / "judged" / run / f"seed{self.seed}" / f"fold_{self.fold}{what}"

    def stressed(self, run: str, to: Path, shifts: Sequence[str], inverted: str) -> list[dict[str, str]]:
        raw = self.out / "raw" / f"Dataset{DATASET:03d}_ACDC"
        how = ["--shifts", *shifts, "--severities", SEVERITY, "--invert", inverted]
        return self.judged(run, to, "stress", [raw / "imagesTr", raw / "labelsTr", *how], "results/stress.csv")

    def across(self, run: str, to: Path) -> list[dict[str, str]]:
        """On another scanner's patients."""
        how = [ACROSS, "--leave-out", "RV", "--ignore-channel-names"]
        rows = self.judged(run, to, "cross", how, f"{ACROSS}/metrics.csv")
        return [row | {"shift": ACROSS.partition("_")[2], "severity": "0"} for row in rows]

    def judged(self, run: str, to: Path, command: str, what: list[object], found: str) -> list[dict[str, str]]:
        """Rows of the table that a command of shapekd's leaves in ``to``."""
        model = self.training_folder(run).parent
        words = ["shapekd", command, model, *what, "-o", to, "-f", self.fold, "--names", run, "-device", device()]
        if not (to / found).exists():
            execute([*map(str, words), "--disable_tta"], self.environment(run), to.with_suffix(".log"))
        with (to / found).open(newline="") as file:
            return list(csv.DictReader(file))

    def values(self, run: str, row: dict[str, str]) -> Iterator[tuple[object, ...]]:
        """The rows of one structure, whose metrics have their units in their columns' names; without undefined ones."""
        what = (run, self.seed, self.fold, *(row[key] for key in ("shift", "severity", "case", "patient", "class")))
        for metric, (column, unit) in METRICS.items():
            if row[column]:
                yield (*what, metric, unit, round(float(row[column]), 4))

    def is_done(self, run: str) -> bool:
        """Whether the rows are there; that of runs.csv is written last."""
        path = EVIDENCE / "runs.csv"
        if not path.exists():
            return False
        with path.open(newline="") as file:
            mine = (run, str(self.seed), str(self.fold))
            return any((row["run"], row["seed"], row["fold"]) == mine for row in csv.DictReader(file))

    def record_teacher(self, run: str) -> None:
        """A row a value of nnU-Net's own validation of a teacher, which shows it what teachers see."""
        folder = self.training_folder(run)
        labels = json.loads((folder.parent / "dataset.json").read_text())["labels"]
        rows = []
        for of_case in json.loads((folder / "validation" / "summary.json").read_text())["metric_per_case"]:
            case = Path(of_case["prediction_file"]).name.split(".")[0]
            for name, label in labels.items():
                dice = of_case["metrics"].get(str(label), {}).get("Dice", math.nan)
                if math.isfinite(dice):
                    what = run, self.seed, self.fold, "teacher's input", 0, case, case.split("_")[0], name
                    rows.append((*what, "dice", "1", round(dice, 4)))
        put(EVIDENCE / "values.csv", VALUES, rows)
        put(EVIDENCE / "runs.csv", PROVENANCE, [self.provenance(run)])

    def provenance(self, run: str) -> list[str | int]:
        """``seconds`` are those of all training epochs, by nnU-Net's log; beside what else the machine did."""
        what = RUNS[run]
        folder = self.training_folder(run)
        logs = [path.read_text() for path in folder.glob("training_log_*.txt")]
        seconds = sum(float(epoch) for text in logs for epoch in re.findall(r"Epoch time: ([\d.]+) s", text))
        settings = " ".join(f"{name.removeprefix('SHAPEKD_').lower()}={value}" for name, value in what.settings.items())
        began_with = (folder / "commit").read_text()
        how = [what.trainer, settings, what.epochs * 50, what.teacher or "", round(seconds), began_with]
        return [run, self.seed, self.fold, *how, version("nnunetv2"), version("torch"), hardware()]


def prepare(data: Path, out: Path) -> None:
    """Convert, split, plan and preprocess."""
    environment = nnunet_environment(out)
    raw = Path(environment["nnUNet_raw"], f"Dataset{DATASET:03d}_ACDC")
    preprocessed = Path(environment["nnUNet_preprocessed"], raw.name)
    for folder in (raw.parent, preprocessed.parent):
        folder.mkdir(parents=True, exist_ok=True)
    prepare_across(data, raw.with_name(ACROSS))
    done = preprocessed / "prepared"
    if done.exists():
        add_folds(raw, preprocessed)
        return
    to_log = out / "prepare.log"
    if not raw.exists():
        splits = [option for name in ("train", "val") for option in (f"--{name}", data / "acdc/split" / f"{name}.json")]
        command = ["shapekd", "convert", "acdc", data / "acdc/training", *splits, "-d", DATASET]
        execute(list(map(str, command)), environment, to_log)
    plan = f"nnUNetv2_plan_and_preprocess -d {DATASET} -c 2d -np 1 -npfp 1 --no_pp"
    execute(plan.split(), environment, to_log)
    small = [sys.executable, str(HERE.parent / "small_plans.py"), "-d", str(DATASET), "--name", "smallPlans", *PLANS]
    execute(small, environment, to_log)
    execute(f"nnUNetv2_preprocess -d {DATASET} -plans_name smallPlans -c 2d -np 1".split(), environment, to_log)
    add_folds(raw, preprocessed)
    done.touch()


def prepare_across(data: Path, folder: Path) -> None:
    """Stacks for prediction only."""
    for part, ending in (("images", "_0000.nii.gz"), ("labels", ".nii.gz")):
        (folder / f"{part}Ts").mkdir(parents=True, exist_ok=True)
        for path in (data / "cardiac_sunnybrook" / part).glob("*.nii.gz"):
            shutil.copy(path, folder / f"{part}Ts" / path.name.replace(".nii.gz", ending))
    labels = {"background": 0, "MYO": 2, "LV": 3}
    about = {"channel_names": {"0": "cineMRI"}, "labels": labels, "numTraining": 0, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(about, indent=4) + "\n")


def add_folds(raw: Path, preprocessed: Path) -> None:
    """Fold 0 for choices, from the training patients; 1 is the data set's own; the others are 0 with fewer patients."""
    (official,) = json.loads((raw / "splits_final.json").read_text())
    with (raw / "patients.csv").open(newline="") as file:
        group_of = {row["patient"]: row["group"] for row in csv.DictReader(file)}
    patients = sorted({case.split("_")[0] for case in official["train"]}, key=lambda one: (group_of[one], one))
    held_out = set(patients[2::5])
    sides = {"train": [], "val": []}
    for case in official["train"]:
        sides["val" if case.split("_")[0] in held_out else "train"].append(case)
    folds = [sides, official]
    members: dict[str, list[str]] = {}
    for patient in patients:
        if patient not in held_out:
            members.setdefault(group_of[patient], []).append(patient)
    in_turns = [patient for row in zip_longest(*members.values()) for patient in row if patient]  # of the pathologies
    for few in FEW_PATIENTS:
        chosen = set(in_turns[:few])
        folds.append({**sides, "train": [case for case in sides["train"] if case.split("_")[0] in chosen]})
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


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the lock, which ends with its process."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def execute(command: list[str], environment: dict[str, str], to_log: Path) -> None:
    to_log.parent.mkdir(parents=True, exist_ok=True)
    with to_log.open("a") as file:
        if subprocess.run(command, env=environment, stdout=file, stderr=subprocess.STDOUT).returncode:
            sys.exit(f"{' '.join(command)}\nfailed; its whole output: {to_log}")


def put(path: Path, columns: tuple[str, ...], rows: list[Sequence[object]]) -> None:
    """Add rows to a CSV file, in place of those of the same run, seed and fold (of which the first row tells)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with alone(path.with_suffix(".lock")):
        before: list[list[str]] = []
        if path.exists():
            with path.open(newline="") as file:
                before = [row for row in csv.reader(file) if row[:3] != list(map(str, rows[0][:3]))][1:]
        building = path.with_suffix(".partial")
        with building.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([columns, *before, *rows])
        os.replace(building, path)


def commit() -> str:
    git = ["git", "-C", str(HERE.parents[1])]
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", ".", ":!docs"]).returncode
    return said(*git, "rev-parse", "--short", "HEAD") + "-dirty" * bool(changed)


def said(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def hardware() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"1 core {platform.machine()}"


def log(text: str) -> None:
    print(time.strftime("%H:%M"), text, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare")
    command.add_argument("data", type=Path)
    command.add_argument("out", type=Path)
    command = commands.add_parser("run")
    command.add_argument("out", type=Path)
    command.add_argument("runs", nargs="+", choices=RUNS, metavar="RUN")
    command.add_argument("--seeds", type=int, nargs="+", required=True)
    command.add_argument("--fold", type=int, choices=range(2 + len(FEW_PATIENTS)), default=0)
    args = parser.parse_args()
    out = args.out.absolute()
    if args.command == "prepare":
        prepare(args.data.absolute(), out)
        return
    if not (out / "preprocessed" / f"Dataset{DATASET:03d}_ACDC" / "prepared").exists():
        parser.error(f"{out} is not prepared")
    for seed in args.seeds:
        for run in args.runs:
            Experiment(out, seed, args.fold).finish(run)


if __name__ == "__main__":
    main()
