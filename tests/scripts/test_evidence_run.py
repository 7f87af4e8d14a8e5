"""``evidence.py`` and the scripts around it: folds, rows, what a run is judged on, tables, gradients, pictures."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import ROOT
from test_experiments import load, script


def test_the_development_patients_are_a_fifth_of_each_pathology_and_none_of_the_validation(tmp_path):
    groups = ("DCM", "HCM", "MINF", "NOR", "RV")
    group_of = {f"patient{number:03d}": groups[number % 5] for number in range(85)}
    cases = {side: [f"{p}_frame{n}" for p in patients for n in ("01", "12")]
             for side, patients in (("train", [*group_of][:70]), ("val", [*group_of][70:]))}  # fmt: skip
    (tmp_path / "splits_final.json").write_text(json.dumps([cases]))
    lines = ["patient,group", *(f"{patient},{group}" for patient, group in group_of.items())]
    (tmp_path / "patients.csv").write_text("\n".join(lines) + "\n")
    preprocessed = tmp_path / "preprocessed"
    preprocessed.mkdir()
    script("evidence_data").write_folds(tmp_path, preprocessed)
    development, official = json.loads((preprocessed / "splits_final.json").read_text())
    assert official == cases
    assert sorted(development["train"] + development["val"]) == sorted(cases["train"])
    held_out = {case.split("_")[0] for case in development["val"]}
    assert len(held_out) == 14 and not held_out & {case.split("_")[0] for case in development["train"]}
    assert {sum(group_of[p] == group for p in held_out) for group in groups} <= {2, 3}


def test_a_set_without_stacks_is_named_before_anything_is_planned(tmp_path):
    with pytest.raises(SystemExit, match="cardiac_sunnybrook.images"):
        script("evidence_data").prepare(tmp_path / "data", tmp_path / "out")


@pytest.mark.parametrize("name", ["runs.csv", "values.csv.gz"])
def test_rows_of_a_run_take_the_place_of_its_earlier_ones(tmp_path, name):
    rows = script("evidence_rows")
    path, others = tmp_path / "new" / name, [""] * (len(rows.COLUMNS[name]) - 4)
    rows.put(path, [("stock", 0, 0, "a", *others), ("stock", 0, 0, "b", *others), ("ramp", 0, 0, "c", *others)])
    rows.put(path, [("stock", 1, 0, "d", *others)])
    rows.put(path, [("stock", 0, 0, "e", *others)])
    found = [tuple(row.values())[:4] for row in rows.read(path)]
    assert found == [("ramp", "0", "0", "c"), ("stock", "1", "0", "d"), ("stock", "0", "0", "e")]
    assert tuple(rows.read(path)[0]) == rows.COLUMNS[name]
    before = path.read_bytes()
    rows.put(path, [("stock", 0, 0, "e", *others)])
    assert path.read_bytes() == before  # no time of writing is in it


def test_processes_that_finish_at_once_lose_no_rows(tmp_path):
    rows = script("evidence_rows")
    path, others = tmp_path / "values.csv.gz", [""] * (len(rows.COLUMNS["values.csv.gz"]) - 3)
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "scripts" / "experiments")!r})
from evidence_rows import Path, put
for seed in range(20):
    put(Path({str(path)!r}), [(sys.argv[1], seed, 0, *{others!r})])
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, run]) for run in ("stock", "ramp", "labels")]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert len({(row["run"], row["seed"]) for row in rows.read(path)}) == 60


def test_every_student_has_its_teacher_among_the_runs_and_its_trainer_can_be_found():
    runs, seeded = script("evidence_runs"), load("experiments/trainers/seeded.py")
    for run in runs.RUNS.values():
        assert hasattr(seeded, run.trainer)
        assert run.teacher is None or hasattr(getattr(seeded, runs.RUNS[run.teacher].trainer), "teacher_input")


class Commands:
    """Stands in for ``evidence.execute``: writes what the commands leave, every Dice 0.5, and of the largest 0.75."""

    def __init__(self, dataset_json: str) -> None:
        self.dataset_json, self.executed, self.left_out = dataset_json, [], {}

    def __call__(self, command: list[str], environment: dict[str, str], to_log: Path) -> None:
        name = command[1] if command[0] == "shapekd" else command[0]
        self.executed.append(name)
        options = {
            word: command[i + 1] for i, word in enumerate(command) if word.startswith("-") and i + 1 < len(command)
        }
        to = Path(options.get("-o", ""))
        if name == "nnUNetv2_train":
            (folder,) = (Path(environment["nnUNet_results"]) / "Dataset060_ACDC").glob("*/fold_*")
            (folder.parent / "dataset.json").write_text(self.dataset_json)
            (folder / "training_log_1.txt").write_text("Epoch time: 2.5 s\nEpoch time: 4.5 s\n")
            (folder / "validation").mkdir()
            of_case = {"prediction_file": "x/p1_a.nii.gz", "metrics": {"1": {"Dice": 0.25}}}
            (folder / "validation/summary.json").write_text(json.dumps({"metric_per_case": [of_case]}))
        elif name == "stress":
            shifts = command[command.index("--shifts") + 1 : command.index("--severities")]
            places = {"none": "0"} | dict.fromkeys(shifts, "3")
            self.predictions(*(to / "predictions" / options["--names"] / f"{one}_{n}" for one, n in places.items()))
            self.table(to / "results/stress.csv", [{"shift": one, "severity": n} for one, n in places.items()])
        elif name == "cross":
            dataset = command[3]
            self.left_out[dataset] = options.get("--leave-out")
            self.predictions(to / "predictions" / options["--names"] / dataset / "Ts")
            self.table(to / dataset / "metrics.csv", [{}])
        else:
            label_map = sitk.GetArrayFromImage(sitk.ReadImage(str(Path(command[3]) / "p1_a.nii.gz")))
            assert np.count_nonzero(label_map) == 2  # the largest component
            self.table(to / "metrics.csv", [{"dice": 0.75}])

    def predictions(self, *folders: Path) -> None:
        for folder in folders:
            folder.mkdir(parents=True)
            image = sitk.GetImageFromArray(np.array([[[1, 1, 0, 2]]], np.uint8))
            sitk.WriteImage(image, str(folder / "p1_a.nii.gz"))

    def table(self, path: Path, rows: list[dict[str, object]]) -> None:
        every = {"case": "p1_a", "patient": "p1", "class": "RV", "dice": 0.5, "hd95_mm": "", "reference_ml": 1}
        path.parent.mkdir(parents=True)
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*{**every, **rows[0]}, "prediction_ml"])
            writer.writeheader()
            writer.writerows({**every, "prediction_ml": 2.00004, **row} for row in rows)


@pytest.fixture
def commands(monkeypatch, tmp_path) -> Commands:
    evidence = script("evidence")
    commands = Commands('{"labels": {"background": 0, "RV": 1}}')
    monkeypatch.setattr(evidence, "execute", commands)
    monkeypatch.setattr(evidence, "said", lambda *words: "said")
    monkeypatch.setattr(evidence, "VALUES", tmp_path / "values.csv.gz")
    monkeypatch.setattr(evidence, "PROVENANCE", tmp_path / "runs.csv")
    return commands


SHIFTED = {"clean", "bias field 3", "ghosting 3", "inversion of LVC 3"}
STRESS = ["nnUNetv2_train", "stress", *["evaluate"] * 4]


@pytest.mark.parametrize(
    ("fold", "executed", "places"),
    [
        (0, STRESS, SHIFTED),
        (
            1,
            [*STRESS, "stress", "evaluate", *["cross", "evaluate"] * 3],
            SHIFTED | {"inversion of MLV 3", "Sunnybrook", "bSSFP", "LGE"},
        ),
    ],
)
def test_a_run_is_trained_and_judged_everywhere_once(commands, tmp_path, fold, executed, places):
    evidence = script("evidence")
    for _ in range(2):  # the second time there is nothing to do
        evidence.Experiment(tmp_path / "out", 3, fold).finish("stock")
    assert commands.executed == executed
    values = evidence.read(evidence.VALUES)
    for run, dice in (("stock", "0.5"), ("stock-largest", "0.75")):
        mine = [row for row in values if row["run"] == run]
        assert {row["judged_on"] for row in mine} == places and len(mine) == len(places)
        assert {(row["seed"], row["dice"], row["hd95_mm"], row["prediction_ml"]) for row in mine} == {
            ("3", dice, "", "2.0")
        }
    runs = evidence.read(evidence.PROVENANCE)
    assert [(row["run"], row["settings"]) for row in runs] == [("stock", ""), ("stock-largest", "largest_component=1")]
    assert {(row["steps"], row["seconds"], row["commit"]) for row in runs} == {("1500", "7", evidence.commit())}


def test_a_run_that_was_not_judged_on_a_new_set_is_judged_anew_without_training(commands, monkeypatch, tmp_path):
    evidence, others = script("evidence"), script("evidence_data").OTHERS
    for known in (1, 2):
        monkeypatch.setattr(evidence, "OTHERS", others[:known])
        commands.executed.clear()
        evidence.Experiment(tmp_path / "out", 0, 1).finish("stock")
    assert [name for name in commands.executed if name != "evaluate"] == ["cross"]
    places = [row["judged_on"] for row in evidence.read(evidence.VALUES) if row["run"] == "stock"]
    assert len(places) == len(set(places)) and {"Sunnybrook", "bSSFP"} <= set(places)


def test_a_structure_that_a_set_does_not_have_is_left_out_there_alone(commands, tmp_path):
    evidence = script("evidence")
    evidence.Experiment(tmp_path / "out", 0, 1).finish("stock")
    assert commands.left_out == {"Dataset061_Sunnybrook": "RV", "Dataset067_bSSFP": None, "Dataset068_LGE": None}


def test_a_teacher_has_the_dice_of_what_it_sees_alone(commands, tmp_path):
    evidence = script("evidence")
    evidence.Experiment(tmp_path / "out", 0, 0).finish("teacher")
    assert commands.executed == ["nnUNetv2_train"]
    (row,) = evidence.read(evidence.VALUES)
    assert (row["judged_on"], row["case"], row["patient"], row["dice"]) == ("teacher's input", "p1_a", "p1", "0.25")
    assert not row["hd95_mm"] and not row["prediction_ml"]


@pytest.fixture
def table(monkeypatch, tmp_path):
    """evidence_table, of rows of its own: two seeds, in which the student gains 10 and 20 points."""
    table, rows = script("evidence_table"), script("evidence_rows")
    values, runs = [], []
    for run, gains in (("stock", (0, 0)), ("student", (0.10, 0.20))):
        for seed, gain in enumerate(gains):
            runs.append((run, seed, 0, "trainer", "", 1500, "", 1, "commit", "2.8.1", "2.15.0", "1 core"))
            for patient in range(8):
                for case in range(2 if patient else 4):  # a patient with twice the cases counts once
                    of = run, seed, 0, "clean", f"p{patient}_{case}", f"p{patient}", "RV"
                    dice = 0.5 + gain
                    values.append((*of, dice + 0.08 * (patient == 0), 10 * dice, 100, 80))
                    values.append((*of[:3], "blur 3", *of[4:], dice - 0.1, "", 100, 80))
    for name, found in (("VALUES", values), ("PROVENANCE", runs)):
        path = tmp_path / getattr(rows, name).name
        rows.put(path, found)
        monkeypatch.setattr(table, name, path)
    table.find.cache_clear()
    yield lambda *arguments: table.parsed(arguments)
    table.find.cache_clear()


def test_a_table_pairs_by_seed_and_case_and_resamples_patients(table):
    made = script("evidence_table").table
    assert made(table("stock", "student")) == [
        ["mean Dice (%), then differences to it", "clean", "blur", "HD95 (mm): clean", "volume"],
        ["`stock`", "51.0 (51.0, 51.0)", "40.0 (40.0, 40.0)", "5.0 (5.0, 5.0)", "0.80"],
        [
            "`student`",
            *["+15.0 (+10.0, +20.0); +15.0 to +15.0"] * 2,
            "+1.5 (+1.0, +2.0); +1.5 to +1.5",
            "0.80",
        ],
    ]
    assert made(table("student", "--show", "means"))[1][1:3] == ["66.0 (61.0, 71.0)", "55.0 (50.0, 60.0)"]
    assert made(table("student", "--show", "volumes"))[1][1:] == ["66.0, 0.80", "55.0, 0.80"]
    assert made(table("student", "--show", "structures", "--columns", "clean"))[1][1:] == ["RV 66.0"]
    assert made(table("stock", "student", "--seeds", "1"))[2][1] == "+20.0; +20.0 to +20.0"


def test_a_claim_is_n_the_difference_and_its_interval(table):
    claim = script("evidence_table").claim
    n = "8 patients, 2 seeds, 1,500 steps"
    assert claim(table("stock", "student", "--claim", "blur")) == [n, "+15.0 (+10.0, +20.0)", "+15.0 to +15.0"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("stock", "nonsense"), "nonsense"),
        (("stock", "--seeds", "5"), "stock"),
        (("stock", "--columns", "clean", "Mars"), "Mars; there are clean, blur"),
        (("stock", "student", "--claim", "Mars"), "Mars"),
    ],
)
def test_what_there_are_no_rows_of_is_named(table, monkeypatch, arguments, named):
    monkeypatch.setattr(sys, "argv", ["evidence_table.py", *arguments])
    with pytest.raises(SystemExit, match=named):
        script("evidence_table").main()


def test_the_gradients_of_all_seeds_are_in_a_cell(monkeypatch, tmp_path):
    table, rows = script("evidence_table"), script("evidence_rows")
    monkeypatch.setattr(table, "WHY", tmp_path / "why.csv")
    for seed, cosine in enumerate((0.5, 0.25)):
        rows.put(table.WHY, [("student", seed, 1, 40, cosine, 1, 0.125, "", 1, 0.5, "commit")])
    args = table.parsed(["student", "--show", "why", "--columns", "cosine", "missed", "false"])
    assert table.table(args) == [["run", *args.columns], ["`student`", "0.50, 0.25", "12.5%, 12.5%", "–"]]
    args = table.parsed(["student", "--show", "why", "--claim", "cosine"])
    assert table.claim(args) == ["40 batches, 2 seeds", "0.50, 0.25", "–"]


def test_what_a_teacher_misses_invents_and_fills():
    about_teacher = script("evidence_why").about_teacher
    labels = torch.zeros(1, 2, 4, dtype=torch.long)
    labels[:, 0] = 1
    says = labels.clone()
    says[:, 0, 0], says[:, 1, :2] = 0, 1  # one of four missed, two of four invented
    logits = 50.0 * torch.stack([1 - says, says], dim=1)
    about = about_teacher(logits, labels)
    assert about == pytest.approx({"missed": 0.25, "false": 0.5, "volume": 1.25, "entropy": 0.0}, abs=1e-6)
    unsure = about_teacher(torch.zeros(1, 2, 2, 4), labels)
    assert (unsure["volume"], unsure["entropy"]) == pytest.approx((1.0, math.log(2)))


def test_the_figure_has_a_panel_for_each_run_and_shift_with_the_patients_mean():
    figures = script("evidence_figure")
    of_classes = {"RV": np.array([1.0, 3.0]), "LVC": np.arange(-4.0, 4.0)}
    figure = figures.draw({"student": {"clean": of_classes}, "jitter": {"clean": of_classes}}, "stock", 3)
    assert [ax.get_ylabel() for ax in figure.axes] == ["student", "jitter"] and figure.axes[0].get_title() == "clean"
    assert [list(line.get_xdata()) for line in figure.axes[0].lines[:2]] == [[2.0, 2.0], [-0.5, -0.5]]
    assert len(figure.axes[0].patches) == 1  # no interval of two patients
