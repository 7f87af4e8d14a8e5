"""A phantom dataset, planned by nnU-Net, and a teacher and a student trained on it with nnU-Net's own commands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.trainers_folder import trainers_folder

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background of a script; tests send it to themselves
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
DATASET = "Dataset027_ACDC"
PLANS = "tinyPlans"
#: made when nnU-Net's look-up asks for them, as all variants are
STUDENT, TEACHER = "nnUNetTrainerShapeKD_1epoch", "nnUNetTrainerMeanImage_1epoch"
#: An epoch of nnU-Net's has 250 steps; tests of what surrounds a training need few. nnU-Net's look-up imports this file
#: on its way to the trainers' folders behind it.
FEW_STEPS = """
from functools import wraps

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

in_full = nnUNetTrainer.__init__


@wraps(in_full)
def shortened(self, *args, **kwargs):
    in_full(self, *args, **kwargs)
    self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 8, 2


nnUNetTrainer.__init__ = shortened
"""


def environment_of(root: Path) -> dict[str, str]:
    """nnU-Net's folders below ``root``, which holds trainers beside the package's own, and as few processes as go."""
    return {
        "nnUNet_raw": str(root / "raw"),
        "nnUNet_preprocessed": str(root / "preprocessed"),
        "nnUNet_results": str(root / "results"),
        "nnUNet_extTrainer": os.pathsep.join([trainers_folder(), str(root / "trainers")]),
        "nnUNet_n_proc_DA": "0",
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",  # nnU-Net takes all cores: on a busy machine its threads would spin
    }


@dataclass(frozen=True)
class Workspace:
    """nnU-Net's folders below one root, and the environment that names them."""

    root: Path
    #: path -> bytes of plans, dataset.json and splits as planning left them
    planned_files: dict[Path, bytes] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return environment_of(self.root)

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

    @property
    def few_steps(self) -> dict[str, str]:
        """The environment in which trainings take few steps."""
        folders = str(self.root / "few_steps"), self.environment["nnUNet_extTrainer"]
        return {"nnUNet_extTrainer": os.pathsep.join(folders)}

    def train(self, trainer: str, *options: str, check: bool = True, **environment: str | None):
        arguments = ("27", "2d", "0", "-tr", trainer, "-p", PLANS, "-device", "cpu", *options)
        return self.run("nnUNetv2_train", *arguments, check=check, **{**self.few_steps, **environment})


@pytest.fixture(scope="session")
def planned(tmp_path_factory) -> Workspace:
    """The phantom, converted, planned and preprocessed, with plans for a tiny network beside nnU-Net's."""
    workspace = Workspace(tmp_path_factory.mktemp("nnunet"))
    assert main(["phantom", str(workspace.root / "phantom"), "--patients", "5", "--test-patients", "1"]) == 0
    for folder in ("raw", "preprocessed", "results", "trainers", "few_steps"):
        (workspace.root / folder).mkdir()
    (workspace.root / "few_steps" / "few_steps.py").write_text(FEW_STEPS)
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
    planned.train(TEACHER)
    return planned.fold(TEACHER)


@pytest.fixture(scope="session")
def student(planned, teacher) -> Path:
    """The folder of a student trained for one epoch with that teacher."""
    planned.train(STUDENT, "--npz")
    return planned.fold(STUDENT)


@pytest.fixture(scope="session")
def bare(planned, tmp_path_factory):
    """Runs a command of nnU-Net's without this package and without nnUNet_extTrainer."""
    folder = tmp_path_factory.mktemp("bare")
    # stands for an environment that holds only nnunetv2: importing this package fails
    (folder / "sitecustomize.py").write_text("import sys; sys.modules['nnunet_shapekd'] = None\n")

    def run(*command, **environment):
        environment = {name: str(value) for name, value in environment.items()}
        return planned.run(*map(str, command), nnUNet_extTrainer=None, PYTHONPATH=str(folder), **environment)

    with pytest.raises(AssertionError, match="ModuleNotFoundError"):  # the stand-in does what it says
        run("python", "-c", "import nnunet_shapekd")
    return run


@pytest.fixture(scope="session")
def validation_images(planned) -> Path:
    """The images of fold 0's validation cases, in a folder of their own."""
    folder = planned.root / "validation_images"
    folder.mkdir()
    splits = json.loads((planned.root / "preprocessed" / DATASET / "splits_final.json").read_text())
    for case in splits[0]["val"]:
        shutil.copy(planned.root / "raw" / DATASET / "imagesTr" / f"{case}_0000.nii.gz", folder)
    return folder


@pytest.fixture
def nnunet_environment(planned, monkeypatch) -> Iterator[Workspace]:
    """``planned``, with its environment and one thread in this process: more wait for each other on a busy machine."""
    for name, value in planned.environment.items():
        monkeypatch.setenv(name, value)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield planned
    torch.set_num_threads(threads)


def make(trainer: str, fold: int | str = 0):
    """A trainer of the planned phantom, as nnU-Net's commands make it."""
    return get_trainer_from_args("27", "2d", fold, trainer, PLANS, device=torch.device("cpu"))


def own(trainer_class: type, dataset_json: dict | None = None, **attributes):
    """A trainer of the planned phantom of a class that is in no file."""
    stock = make("nnUNetTrainer")
    plans = {**stock.plans_manager.plans, "continue_training": False}
    trainer_class = type(trainer_class.__name__, (trainer_class,), attributes)
    trainer = trainer_class(plans, "2d", 0, dataset_json or stock.dataset_json, torch.device("cpu"))
    trainer.output_folder = tempfile.mkdtemp(dir=os.environ["nnUNet_results"])  # not that of a trained one
    return trainer


def batch_of(trainer, seed: int = 0) -> dict:
    """Random images and labels as nnU-Net's loaders deliver them: int16 labels, a list of scales, finest first."""
    generator = torch.Generator().manual_seed(seed)
    size, n = trainer.configuration_manager.patch_size, trainer.configuration_manager.batch_size
    scales = [
        [int(s * f) for s, f in zip(size, scale, strict=True)] for scale in trainer._get_deep_supervision_scales()
    ]
    target = [torch.randint(0, 4, (n, 1, *s), generator=generator, dtype=torch.int16) for s in scales]
    return {"data": torch.randn(n, 1, *size, generator=generator), "target": target, "keys": ["case"] * n}


@pytest.fixture
def loaders_must_not_start(monkeypatch):
    def fail(self):
        raise AssertionError("the data loaders were started")

    monkeypatch.setattr(nnUNetTrainer, "get_dataloaders", fail)


@pytest.fixture
def teacher_file(teacher, tmp_path):
    """The teacher's checkpoint, to be spoilt by a test and restored afterwards."""
    path = teacher / "checkpoint_final.pth"
    shutil.copy(path, tmp_path / "good.pth")
    yield path
    shutil.copy(tmp_path / "good.pth", path)


def segmentations(folder: Path) -> dict[str, np.ndarray]:
    """File name -> labels of a folder's NIfTI files."""
    return {path.name: sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in sorted(folder.glob("*.nii.gz"))}


class Malicious:
    """Makes a folder where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def edit(path, change) -> None:
    """Change a checkpoint on the disk."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, path)


@pytest.fixture
def ready(nnunet_environment, teacher, monkeypatch):
    """A student with its teacher, just before its first step."""
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    trainer = make(STUDENT)
    trainer.output_folder = tempfile.mkdtemp(dir=os.environ["nnUNet_results"])  # this process holds it from here on
    trainer.on_train_start()
    trainer.network.train()
    return trainer
