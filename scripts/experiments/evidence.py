"""Does distillation help, and with which settings? Stock, teachers and students at one budget, on ACDC.

    python scripts/experiments/evidence.py prepare DATA OUT                     convert, split, plan, preprocess
    python scripts/experiments/evidence.py run OUT RUN... --seeds 0 1 --fold 1  train, predict, judge; rows are kept

DATA holds acdc/training/patientXXX, acdc/split/{train,val}.json and the folders of ``evidence_data.OTHERS``. RUN is a
name of ``evidence_runs.RUNS``; the teachers a run needs are trained first. What is finished is skipped, what was killed
goes on. Start it twice to use two cores: a training belongs to one of them. All rows of a run are of one training: with
a set to judge it on that is new, they are made again, by the network in OUT or, where that is gone, another.

A run is judged on its fold's held-out cases, clean and under shifts that are none of nnU-Net's training augmentation;
in fold 1 on all of ``evidence_data.OTHERS``, too; then once more under the name RUN-largest, with only the largest
component of the foreground, by the function of nnU-Net's own postprocessing. ``evidence_table.py`` prints all of it in
one row a run. Seeds are replicates, and on a CPU the runs of one seed form a pair: they begin and draw alike.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from evidence_data import (
    ACDC,
    DATASET,
    DEVELOPMENT,
    OFFICIAL,
    OTHERS,
    STRUCTURES,
    execute,
    is_prepared,
    nnunet_environment,
    prepare,
)
from evidence_rows import KEY, METRICS, PROVENANCE, VALUES, alone, put, read
from evidence_runs import RUNS
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.postprocessing.remove_connected_components import (
    load_postprocess_save,
    remove_all_but_largest_component_from_segmentation,
)

HERE = Path(__file__).resolve().parent
#: shifts of ``shapekd stress``, by the structure whose contrast an inversion turns round; development has the first
SHIFTS = {"LVC": ("none", "bias-field", "ghosting", "inversion"), "MLV": ("inversion",)}
SEVERITY = 3
#: where teachers are judged: on what they see
TEACHERS_PLACE = "teacher's input"


def place_of(shift: str, inverted: str) -> str:
    if shift == "none":
        return "clean"
    return f"{f'inversion of {inverted}' if shift == 'inversion' else shift.replace('-', ' ')} {SEVERITY}"


@dataclass(frozen=True)
class Part:
    """What a run was judged on: the rows of each case and structure, and the folders they are of."""

    place: str
    rows: list[dict[str, str]]
    predictions: Path
    references: Path
    leave_out: tuple[str, ...] = ()


class Experiment:
    """One place on the disk, one seed, one fold."""

    def __init__(self, out: Path, seed: int, fold: int) -> None:
        self.out, self.seed, self.fold = out, seed, fold
        self.shifts = SHIFTS if fold == OFFICIAL else dict([next(iter(SHIFTS.items()))])
        self.others = OTHERS if fold == OFFICIAL else ()

    def training_folder(self, run: str) -> Path:
        results = self.out / "results" / run / f"seed{self.seed}"
        return results / ACDC / f"{RUNS[run].trainer}__smallPlans__2d" / f"fold_{self.fold}"

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
        with alone(self.out / "judged" / run / f"seed{self.seed}" / f"fold_{self.fold}.lock"):
            if not self.is_done(run):
                log(f"{run}, seed {self.seed}, fold {self.fold}: judging")
                self.judge(run)

    def is_done(self, run: str) -> bool:
        """Whether all its rows are there; that of runs.csv is written last."""
        mine = run, str(self.seed), str(self.fold)
        recorded, values = (
            [row for row in read(path) if tuple(map(row.get, KEY)) == mine] for path in (PROVENANCE, VALUES)
        )
        return bool(recorded) and self.places(run) <= {row["judged_on"] for row in values}

    def places(self, run: str) -> set[str]:
        if is_teacher(run):
            return {TEACHERS_PLACE}
        shifted = {place_of(shift, inverted) for inverted, shifts in self.shifts.items() for shift in shifts}
        return shifted | {other.name for other in self.others}

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
        """Add a row a case and structure, and one of how they came about."""
        if is_teacher(run):
            put(VALUES, list(self.of_teacher(run)))
            put(PROVENANCE, [self.provenance(run, run)])
            return
        largest, values = f"{run}-largest", []
        for part in self.parts(run):
            values += self.values(run, part.place, part.rows)
            values += self.values(largest, part.place, self.of_largest(run, part))
        put(VALUES, values)
        put(PROVENANCE, [self.provenance(run, run), self.provenance(run, largest, "largest_component=1")])

    def parts(self, run: str) -> Iterator[Part]:
        """Predictions and their rows, made by shapekd's commands."""
        judged, acdc = self.out / "judged" / run / f"seed{self.seed}" / f"fold_{self.fold}", self.out / "raw" / ACDC
        for inverted, shifts in self.shifts.items():
            to = judged / f"stress-{inverted}"
            how = ["--shifts", *(shift for shift in shifts if shift != "none")]
            how += ["--severities", SEVERITY, "--invert", inverted]
            rows = self.judged(run, to, "stress", [acdc / "imagesTr", acdc / "labelsTr", *how], "results/stress.csv")
            for shift in shifts:
                mine = [row for row in rows if row["shift"] == shift]
                predictions = to / "predictions" / run / f"{shift}_{SEVERITY * (shift != 'none')}"
                yield Part(place_of(shift, inverted), mine, predictions, acdc / "labelsTr")
        for other in self.others:
            to, leave_out = judged / other.name, tuple(name for name in STRUCTURES if name not in other.structures)
            how = [other.dataset, "--ignore-channel-names", *(("--leave-out", *leave_out) if leave_out else ())]
            rows = self.judged(run, to, "cross", how, f"{other.dataset}/metrics.csv")
            predictions = to / "predictions" / run / other.dataset / "Ts"
            yield Part(other.name, rows, predictions, acdc.with_name(other.dataset) / "labelsTs", leave_out)

    def judged(self, run: str, to: Path, command: str, what: list[object], found: str) -> list[dict[str, str]]:
        """Rows of the table that a command of shapekd's leaves in ``to``."""
        model = self.training_folder(run).parent
        words = ["shapekd", command, model, *what, "-o", to, "-f", self.fold, "--names", run, "-device", device()]
        if not (to / found).exists():
            execute([*map(str, words), "--disable_tta"], self.environment(run), to.with_suffix(".log"))
        return rows_of(to / found)

    def of_largest(self, run: str, part: Part) -> list[dict[str, str]]:
        """The rows of the same predictions, each with only its largest component."""
        labels = self.training_folder(run).parent / "dataset.json"
        with tempfile.TemporaryDirectory() as folder:
            largest, judged = Path(folder, "largest"), Path(folder, "judged")
            largest.mkdir()
            keep_largest(part.predictions, largest, list(STRUCTURES.values()))
            how = [
                "-djfile",
                labels,
                "--chill",
                "-np",
                1,
                *(("--leave-out", *part.leave_out) if part.leave_out else ()),
            ]
            words = ["shapekd", "evaluate", part.references, largest, "-o", judged, *how]
            execute(list(map(str, words)), self.environment(run), part.predictions.parents[2] / "largest.log")
            return rows_of(judged / "metrics.csv")

    def values(self, name: str, place: str, rows: list[dict[str, str]]) -> Iterator[tuple[object, ...]]:
        for row in rows:
            what = place, row["case"], row["patient"], row["class"]
            metrics = (row[metric] and round(float(row[metric]), 4) for metric in METRICS)
            yield (name, self.seed, self.fold, *what, *metrics)

    def of_teacher(self, run: str) -> Iterator[tuple[object, ...]]:
        """Rows of nnU-Net's own validation of a teacher, which shows it what teachers see; Dice alone."""
        folder = self.training_folder(run)
        labels = json.loads((folder.parent / "dataset.json").read_text())["labels"]
        for of_case in json.loads((folder / "validation" / "summary.json").read_text())["metric_per_case"]:
            case = Path(of_case["prediction_file"]).name.split(".")[0]
            for name, label in labels.items():
                dice = of_case["metrics"].get(str(label), {}).get("Dice", math.nan)
                if math.isfinite(dice):
                    what = run, self.seed, self.fold, TEACHERS_PLACE, case, case.split("_")[0], name
                    yield (*what, round(dice, 4), *[""] * (len(METRICS) - 1))

    def provenance(self, run: str, name: str, *settings: str) -> Sequence[object]:
        """``seconds`` are those of all training epochs, by nnU-Net's log; beside what else the machine did."""
        what, folder = RUNS[run], self.training_folder(run)
        logs = [path.read_text() for path in folder.glob("training_log_*.txt")]
        seconds = sum(float(found) for text in logs for found in re.findall(r"Epoch time: ([\d.]+) s", text))
        own = (f"{key.removeprefix('SHAPEKD_').lower()}={value}" for key, value in what.settings.items())
        how = what.trainer, " ".join((*own, *settings)), what.epochs * 50, what.teacher or "", round(seconds)
        where = (folder / "commit").read_text(), version("nnunetv2"), version("torch"), hardware()
        return name, self.seed, self.fold, *how, *where


def is_teacher(run: str) -> bool:
    return any(run == other.teacher for other in RUNS.values())


def keep_largest(predictions: Path, to: Path, labels: list[int]) -> None:
    """Write a folder's NIfTI label maps into another, each with only its largest component of the labels together."""
    functions = [remove_all_but_largest_component_from_segmentation], [{"labels_or_regions": labels}]
    for path in predictions.glob("*.nii.gz"):
        load_postprocess_save(str(path), str(to / path.name), SimpleITKIO(), *functions)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


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
    command.add_argument("--fold", type=int, choices=(DEVELOPMENT, OFFICIAL), default=DEVELOPMENT)
    args = parser.parse_args()
    out = args.out.absolute()
    if args.command == "prepare":
        prepare(args.data.absolute(), out)
        return
    if not is_prepared(out):
        parser.error(f"{out} is not prepared")
    for seed in args.seeds:
        for run in args.runs:
            Experiment(out, seed, args.fold).finish(run)


if __name__ == "__main__":
    main()
