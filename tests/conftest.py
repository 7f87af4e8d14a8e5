"""A phantom dataset, planned by nnU-Net, and a teacher and a student trained on it with nnU-Net's own commands."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nnunet_shapekd.cli import main, trainers_folder

ROOT = Path(__file__).parents[1]
DATASET = "Dataset027_ACDC"
PLANS = "tinyPlans"


@dataclass(frozen=True)
class Workspace:
    """nnU-Net's folders below one root, and the environment that names them."""

    root: Path
    #: path -> bytes of plans, dataset.json and splits as planning left them
    planned_files: dict[Path, bytes] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "nnUNet_raw": str(self.root / "raw"),
            "nnUNet_preprocessed": str(self.root / "preprocessed"),
            "nnUNet_results": str(self.root / "results"),
            "nnUNet_extTrainer": trainers_folder(),
            "nnUNet_n_proc_DA": "0",
            "nnUNet_def_n_proc": "1",
            "nnUNet_compile": "f",
            "OMP_NUM_THREADS": "1",
        }

    def fold(self, trainer: str) -> Path:
        return self.root / "results" / DATASET / f"{trainer}__{PLANS}__2d" / "fold_0"

    def run(self, *command: str, check: bool = True, **environment: str | None) -> subprocess.CompletedProcess[str]:
        """Run a command of this environment in a fresh process; a variable given as None is unset."""
        merged = {**os.environ, **self.environment, **environment}
        program = Path(sys.executable).parent / command[0]
        result = subprocess.run(
            [program, *command[1:]],
            env={k: v for k, v in merged.items() if v is not None},
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if check and result.returncode:
            raise AssertionError(f"{command} failed:\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}")
        return result

    def train(self, trainer: str, *options: str, check: bool = True, **environment: str | None):
        arguments = ("27", "2d", "0", "-tr", trainer, "-p", PLANS, "-device", "cpu", *options)
        return self.run("nnUNetv2_train", *arguments, check=check, **environment)


@pytest.fixture(scope="session")
def planned(tmp_path_factory) -> Workspace:
    """The phantom, converted, planned and preprocessed, with plans for a tiny network beside nnU-Net's."""
    workspace = Workspace(tmp_path_factory.mktemp("nnunet"))
    assert main(["phantom", str(workspace.root / "phantom"), "--patients", "5", "--test-patients", "1"]) == 0
    for folder in ("raw", "preprocessed", "results"):
        (workspace.root / folder).mkdir()
    workspace.run("shapekd", "convert", "acdc", "phantom", "-d", "27")
    # planning (2.8.1) sets torch's threads to nnUNet_n_proc_DA, which must not be 0 there
    arguments = "-d 27 -c 2d -np 1 -npfp 1 --verify_dataset_integrity"
    workspace.run("nnUNetv2_plan_and_preprocess", *arguments.split(), nnUNet_n_proc_DA="1")
    small_plans = f"-d 27 --name {PLANS} --patch 64 64 --batch 4 --features 8 16 24"
    workspace.run("python", str(ROOT / "scripts" / "small_plans.py"), *small_plans.split())
    for path in (workspace.root / "preprocessed" / DATASET).glob("*.json"):
        workspace.planned_files[path] = path.read_bytes()
    return workspace


@pytest.fixture(scope="session")
def teacher(planned) -> Path:
    """The folder of a teacher trained for one epoch."""
    planned.train("nnUNetTrainerMeanImage_1epoch")
    return planned.fold("nnUNetTrainerMeanImage_1epoch")


@pytest.fixture(scope="session")
def student(planned, teacher) -> Path:
    """The folder of a student trained for one epoch with that teacher."""
    planned.train("nnUNetTrainerShapeKD_1epoch", "--npz")
    return planned.fold("nnUNetTrainerShapeKD_1epoch")


@pytest.fixture
def nnunet_environment(planned, monkeypatch) -> Workspace:
    """``planned``, with its environment in this process."""
    for name, value in planned.environment.items():
        monkeypatch.setenv(name, value)
    return planned
