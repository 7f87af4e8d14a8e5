"""The demo with stand-ins for everything that it calls, and the page at its end."""

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
from conftest import ROOT
from test_experiments import load
from test_scripts import Standins

#: writes down what was asked for; fails for what matches FAILING
COMMAND = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >>"$RECORD"
[[ "$*" != *${FAILING:-nothing}* ]] || { echo "no more memory"; exit 1; }
"""
PYTHON = """#!/usr/bin/env bash
echo cpu
"""
#: runs until it is told to end, as its group of processes is
ENDLESS = """#!/usr/bin/env bash
trap 'echo "ended $5" >>"$RECORD"; exit 130' TERM
echo "began $5" >>"$RECORD"
while true; do sleep 0.1; done
"""


class Demo(Standins):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "demo.sh", folder / "scripts")
        (folder / "scripts" / "environment.sh").write_text(f'cd "{folder}"\n')
        for name in ("shapekd", "nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_predict"):
            self.write(name, COMMAND)
        self.write("python", PYTHON)

    @property
    def script(self) -> str:
        return str(self.folder / "scripts" / "demo.sh")

    def trained(self) -> list[str]:
        return [call.split()[5] for call in self.calls if call.startswith("nnUNetv2_train")]


@pytest.fixture
def demo(tmp_path) -> Demo:
    return Demo(tmp_path)


def test_four_networks_are_trained_and_all_but_the_teacher_are_judged_on_three_scanners(demo):
    result = demo.run(demo.script)
    assert result.returncode == 0, result.stdout + result.stderr
    trainers = demo.trained()
    judged = [f"nnUNetTrainer{kind}_Demo" for kind in ("", "IntensityMoves", "ShapeKD")]
    assert sorted(trainers) == sorted([*judged, "nnUNetTrainerMeanImage_Demo"])
    assert trainers.index("nnUNetTrainerMeanImage_Demo") < trainers.index("nnUNetTrainerShapeKD_Demo")
    predictions = [call.split() for call in demo.calls if call.startswith("nnUNetv2_predict")]
    datasets = ("Dataset027_PhantomA", "Dataset028_PhantomB", "Dataset029_PhantomC")
    assert sorted((call[call.index("-tr") + 1], Path(call[2]).parent.name) for call in predictions) == sorted(
        (trainer, dataset) for trainer in judged for dataset in datasets
    )
    assert "Page to open" in result.stdout


def test_what_is_finished_is_not_run_again(demo):
    demo.run(demo.script)
    demo.record.unlink()
    assert demo.run(demo.script).returncode == 0
    assert demo.calls == ["shapekd trainers"]  # which is no step


def test_a_training_that_fails_says_so_stops_no_other_and_is_run_again(demo):
    failed = demo.run(demo.script, FAILING="IntensityMoves")
    assert failed.returncode == 1
    assert "no more memory" in failed.stdout and "Page to open" not in failed.stdout
    assert "05_train_nnUNetTrainerIntensityMoves_Demo failed; its whole output: " in failed.stderr
    assert "nnUNetTrainerShapeKD_Demo" in demo.trained()
    demo.record.unlink()
    assert demo.run(demo.script).returncode == 0
    assert demo.trained() == ["nnUNetTrainerIntensityMoves_Demo"]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_all_trainings(demo, sent):
    demo.write("nnUNetv2_train", ENDLESS)
    script = demo.start(demo.script)
    while sum(call.startswith("began") for call in demo.calls) < 3:
        assert script.poll() is None
        time.sleep(0.05)
    script.send_signal(sent)
    script.communicate(timeout=60)
    assert script.returncode != 0
    until = time.monotonic() + 60
    while len(ended := [call for call in demo.calls if call.startswith("ended")]) < 3 and time.monotonic() < until:
        time.sleep(0.05)  # they take a moment
    assert sorted(ended) == [f"ended nnUNetTrainer{kind}_Demo" for kind in ("IntensityMoves", "MeanImage", "")]


#: Dice of RV, MLV, LVC and the mean, and open rings of ten slices
MEASURED = {"stock": ((0.8, 0.7, 0.9, 0.8), 1), "student": ((0.8, 0.7, 0.9, 0.8), 2), "moves": ((0.9, 0.8, 1, 0.9), 0)}


def comparison(folder: Path) -> None:
    """What shapekd compare writes, as far as the page reads it."""
    rows = []
    for name, (dice, n_open) in MEASURED.items():
        (folder / name).mkdir(parents=True)
        plausibility = {"RV": {}, "MLV": {"open_ring_slices": n_open, "ring_slices": 10}}
        (folder / name / "summary.json").write_text(json.dumps({"plausibility": plausibility}))
        for label, value, stock in zip(("RV", "MLV", "LVC", "mean"), dice, MEASURED["stock"][0], strict=True):
            of = {"model": name, "class": label, "metric": "dice", "model_mean": value, "baseline_mean": stock}
            rows.append({**of, "difference": value - stock, "low": -0.05, "high": 0.25})
    rows = [row for row in rows if row["model"] != "stock"]
    (folder / "comparison.json").write_text(json.dumps({"rows": rows, "n_patients": 10}))


def test_the_table_says_what_each_network_reaches_and_how_far_it_is_from_stock(tmp_path):
    for scanner in ("a", "b", "c"):
        comparison(tmp_path / "comparison" / scanner)
    tables = load("demo_result.py").rows(tmp_path)
    assert list(tables) == ["a", "b", "c"]
    assert [row[1:] for row in tables["b"]] == [
        ["stock", "80.0", "70.0", "90.0", "80.0", "", "", "1/10"],
        ["student", "80.0", "70.0", "90.0", "80.0", "+0.0", "-5.0 to +25.0", "2/10"],
        ["moves", "90.0", "80.0", "100.0", "90.0", "+10.0", "-5.0 to +25.0", "0/10"],
    ]


def test_the_page_says_first_what_one_seed_cannot_show():
    result = load("demo_result.py")
    row = ["a <b>", "stock", *["1.0"] * 4, "", "", "0/10"]
    html = result.page({"a": [row]}, "legend", result.LIMITS.format(steps="2,000"))
    assert html.index("cannot show") < html.index("<table>") and "2,000 small" in html
    assert "a &lt;b&gt;" in html and 'href="report/a/index.html"' in html
