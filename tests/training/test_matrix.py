"""Every kind of dataset x every configuration x teacher and student, trained, predicted and evaluated by nnU-Net.

The commands are nnU-Net's own. Two datasets are worked on at a time; a test waits for its cell and checks it.
"""

from __future__ import annotations

import json
import math
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import environment_of
from matrix_datasets import (
    DATASETS,
    PLANS,
    TEST_CASE,
    MatrixDataset,
    write_raw,
    write_small_plans,
    write_split,
)
from matrix_driver import Driver, Result
from skimage import io

pytestmark = pytest.mark.slow

TRAINERS = {"teacher": "nnUNetTrainerMeanImage_Matrix", "student": "nnUNetTrainerShapeKD_Matrix"}
STEPS = ("train", "predict", "evaluate")
TRAINER_FILE = """
import torch
from nnunet_shapekd.training.teacher import MeanImage
from nnunet_shapekd.training.student import ShapeKD
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainerMeanImage_Matrix(MeanImage, nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1


class nnUNetTrainerShapeKD_Matrix(ShapeKD, nnUNetTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1
"""


def fold_of(configuration: str) -> str:
    """The cascade's second stage needs the first one's validation predictions of *all* cases."""
    return "all" if configuration == "3d_lowres" else "0"


@dataclass(frozen=True)
class Workspace:
    """nnU-Net's folders below one root, and the plans that are trained with."""

    root: Path
    plans: str = PLANS

    @property
    def environment(self) -> dict[str, str]:
        return environment_of(self.root)

    def make(self) -> None:
        for name in ("raw", "preprocessed", "results", "trainers"):
            (self.root / name).mkdir()
        (self.root / "trainers" / "shapekd_matrix_trainers.py").write_text(TRAINER_FILE)

    def raw(self, dataset: MatrixDataset) -> Path:
        return self.root / "raw" / dataset.name

    def preprocessed(self, dataset: MatrixDataset) -> Path:
        return self.root / "preprocessed" / dataset.name

    def results(self, dataset: MatrixDataset, trainer: str, configuration: str) -> Path:
        return self.root / "results" / dataset.name / f"{trainer}__{self.plans}__{configuration}"

    def predictions(self, dataset: MatrixDataset, role: str, configuration: str) -> Path:
        return self.root / "predictions" / dataset.name / role / configuration


@dataclass
class Cell:
    """One dataset in one configuration: what its steps came to, "ok", "FAILED" or "not run"."""

    outcomes: dict[tuple[str, str], str] = field(
        default_factory=lambda: {(role, step): "not run" for role in TRAINERS for step in STEPS}
    )
    failures: list[str] = field(default_factory=list)

    def record(self, role: str, step: str, result: Result) -> bool:
        self.outcomes[role, step] = "FAILED" if result.exit_code else "ok"
        if result.exit_code:
            self.failures.append(f"{role}, {step}:\n{result.tail()}")
        return not result.exit_code


def prepare(driver: Driver, workspace: Workspace, dataset: MatrixDataset) -> None:
    """Write, plan and preprocess a dataset with nnU-Net's commands."""
    write_raw(dataset, workspace.raw(dataset).parent)
    planned = [c for c in dataset.configurations if c in ("2d", "3d_fullres")]
    # planning (2.8.1) sets torch's threads to nnUNet_n_proc_DA, which must not be 0 there
    results = [
        driver.run("matrix_datasets:extract_fingerprint", str(dataset.id)),
        driver.run(
            *f"nnUNetv2_plan_and_preprocess -d {dataset.id} -np 1 -npfp 1 --verify_dataset_integrity -c".split(),
            *planned,
            nnUNet_n_proc_DA="1",
        ),
    ]
    if not results[-1].exit_code:
        write_split(dataset, workspace.preprocessed(dataset))
        if further := write_small_plans(workspace.preprocessed(dataset)):
            command = f"nnUNetv2_preprocess -d {dataset.id} -plans_name {PLANS} -np 1 -c"
            results.append(driver.run(*command.split(), *further))
    for result in results:
        if result.exit_code:
            raise RuntimeError(f"{dataset.kind} could not be prepared:\n{result.tail()}")


def run_cell(driver: Driver, workspace: Workspace, dataset: MatrixDataset, configuration: str) -> Cell:
    """Train, predict and evaluate, first the teacher, then the student."""
    cell, fold = Cell(), fold_of(configuration)
    raw = workspace.raw(dataset)
    for role, trainer in TRAINERS.items():
        options = ["-tr", trainer, "-p", workspace.plans, "-device", "cpu"]
        if not cell.record(role, "train", driver.run("nnUNetv2_train", str(dataset.id), configuration, fold, *options)):
            break  # without a teacher there is no student
        out = workspace.predictions(dataset, role, configuration)
        options += ["-d", str(dataset.id), "-c", configuration, "-f", fold, "-i", str(raw / "imagesTs"), "-o", str(out)]
        options += ["-npp", "0", "-nps", "0", "--disable_tta", "--disable_progress_bar"]
        if configuration == "3d_cascade_fullres":
            options += ["-prev_stage_predictions", str(workspace.predictions(dataset, role, "3d_lowres"))]
        if not cell.record(role, "predict", driver.run("nnUNetv2_predict", *options)):
            continue
        files = ["-djfile", str(out / "dataset.json"), "-pfile", str(out / "plans.json"), "-np", "1"]
        evaluation = driver.run("nnUNetv2_evaluate_folder", str(raw / "labelsTs"), str(out), *files)
        cell.record(role, "evaluate", evaluation)
    return cell


class Table:
    """A pytest plugin: prints at the end of the session what ran."""

    def __init__(self, rows: dict[tuple[str, str], Future[Cell]]) -> None:
        self.rows = rows

    def pytest_terminal_summary(self, terminalreporter) -> None:
        terminalreporter.section("integration matrix")
        columns = [(role, step) for role in TRAINERS for step in STEPS]
        terminalreporter.line(" " * 36 + "".join(f"{role + ' ' + step:18}" for role, step in columns))
        for (kind, configuration), future in self.rows.items():
            done = future.done() and not future.cancelled() and future.exception() is None
            outcomes = future.result().outcomes if done else {}
            line = f"{kind:16}{configuration:20}"
            terminalreporter.line(line + "".join(f"{outcomes.get(column, 'not run'):18}" for column in columns))


def run_dataset(
    drivers: SimpleQueue[Driver],
    workspace: Workspace,
    dataset: MatrixDataset,
    configurations: list[str],
    cells: dict[tuple[str, str], Future[Cell]],
) -> None:
    """Prepare a dataset and fill in the cells of these configurations, in the order of their dependence."""
    driver = drivers.get()
    futures = {c: cells[dataset.kind, c] for c in dataset.configurations if c in configurations}
    try:
        prepare(driver, workspace, dataset)
        for configuration, future in futures.items():
            future.set_result(run_cell(driver, workspace, dataset, configuration))
    except BaseException as error:
        for future in futures.values():
            if not future.done():
                future.set_exception(error)
    finally:
        drivers.put(driver)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("matrix"))
    workspace.make()
    return workspace


@pytest.fixture(scope="module")
def cells(request, workspace):
    """(kind, configuration) -> what becomes of it; only what the selected tests need is run."""
    wanted: dict[str, list[str]] = {}
    for item in request.session.items:
        if item.path == request.path and hasattr(item, "callspec"):
            configurations = wanted.setdefault(item.callspec.params["kind"], [])
            configurations.append(item.callspec.params["configuration"])
            if configurations[-1] == "3d_cascade_fullres":
                configurations.append("3d_lowres")
    cells = {(kind, c): Future() for kind in wanted for c in DATASETS[kind].configurations if c in wanted[kind]}
    request.config.pluginmanager.register(Table(cells))

    n_drivers = min(2, os.cpu_count() or 1, len(wanted))
    drivers: SimpleQueue[Driver] = SimpleQueue()
    opened = [Driver(workspace.root / f"driver_{i}", workspace.environment) for i in range(n_drivers)]
    for driver in opened:
        drivers.put(driver)
    pool = ThreadPoolExecutor(n_drivers)
    for kind, configurations in wanted.items():
        pool.submit(run_dataset, drivers, workspace, DATASETS[kind], configurations, cells)
    yield cells
    for driver in opened:  # before the pool, whose work ends with them where tests were interrupted
        driver.close()
    pool.shutdown(cancel_futures=True)


def read(path: Path) -> np.ndarray:
    return io.imread(path) if path.suffix == ".png" else sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def check_training(workspace: Workspace, dataset: MatrixDataset, role: str, configuration: str) -> None:
    folder = workspace.results(dataset, TRAINERS[role], configuration)
    run = folder / f"fold_{fold_of(configuration)}"
    checkpoint = torch.load(run / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    # the student's file opens where this package is not installed; the teacher's must not pass for nnU-Net's own
    assert checkpoint["trainer_name"] == ("nnUNetTrainer" if role == "student" else TRAINERS["teacher"])
    assert checkpoint["shapekd"]["role"] == role
    log = checkpoint["logging"]
    curves = ["train_losses", "val_losses"]
    if role == "student":
        assert checkpoint["shapekd"]["teacher"]["trainer"] == TRAINERS["teacher"]
        curves.append("distillation_losses")
    for curve in curves:
        assert len(log[curve]) == 1 and math.isfinite(log[curve][0]), (curve, log[curve])
    for name, weights in checkpoint["network_weights"].items():
        assert torch.isfinite(weights).all(), name

    cascaded = configuration == "3d_cascade_fullres"
    first = next(w for name, w in checkpoint["network_weights"].items() if name.endswith("conv.weight"))
    assert first.shape[1] == len(dataset.channel_names) + cascaded * dataset.n_foreground_labels
    assert set(json.loads((run / "validation" / "summary.json").read_text())["mean"]) == dataset.classes
    if configuration == "3d_lowres":
        for_cascade = (folder / "predicted_next_stage" / "3d_cascade_fullres").iterdir()
        assert {path.name.split(".")[0] for path in for_cascade} == set(dataset.training_cases)


def check_prediction(workspace: Workspace, dataset: MatrixDataset, role: str, configuration: str) -> None:
    file = f"{TEST_CASE}{dataset.file_ending}"
    prediction = read(workspace.predictions(dataset, role, configuration) / file)
    assert prediction.shape == read(workspace.raw(dataset) / "labelsTs" / file).shape
    assert set(np.unique(prediction)) <= set(range(1 + dataset.n_foreground_labels))  # never the ignore label


def check_evaluation(workspace: Workspace, dataset: MatrixDataset, role: str, configuration: str) -> None:
    summary = json.loads((workspace.predictions(dataset, role, configuration) / "summary.json").read_text())
    assert set(summary["mean"]) == dataset.classes
    (case,) = summary["metric_per_case"]
    assert all(0 <= of_class["Dice"] <= 1 for of_class in case["metrics"].values()), case["metrics"]


CHECKS = {"train": check_training, "predict": check_prediction, "evaluate": check_evaluation}


@pytest.mark.parametrize(
    ("kind", "configuration"),
    [(kind, configuration) for kind, dataset in DATASETS.items() for configuration in dataset.configurations],
)
def test_teacher_and_student_train_predict_and_evaluate(cells, workspace, kind, configuration):
    cell = cells[kind, configuration].result()
    failures = list(cell.failures)
    for (role, step), outcome in cell.outcomes.items():
        if outcome == "ok":
            try:
                CHECKS[step](workspace, DATASETS[kind], role, configuration)
            except (AssertionError, OSError, KeyError) as error:
                cell.outcomes[role, step] = "FAILED"
                failures.append(f"{role}, {step}: {type(error).__name__}: {error}")
    assert not failures, "\n\n".join(failures)
    assert set(cell.outcomes.values()) == {"ok"}
