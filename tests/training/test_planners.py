"""Teacher and student of the networks that nnU-Net's residual encoder presets plan."""

from __future__ import annotations

import json

import pytest
import torch
from matrix_datasets import DATASETS, shrink, write_raw, write_split
from matrix_driver import Driver
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from test_matrix import CHECKS, TRAINERS, Workspace, run_cell

from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage

pytestmark = pytest.mark.slow

DATASET = DATASETS["plain"]
#: preset -> memory (GB) to plan for, an eighth of its own
PRESETS = {"M": 1, "L": 3, "XL": 5}


class Teacher(MeanImage, nnUNetTrainer):
    pass


class Student(ShapeKD, nnUNetTrainer):
    pass


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("planners"), plans="smallResEncM")
    workspace.make()
    return workspace


@pytest.fixture(scope="module")
def driver(workspace):
    with Driver(workspace.root / "driver", workspace.environment) as driver:
        yield driver


@pytest.fixture(scope="module")
def plans(workspace, driver) -> dict[str, dict]:
    """What each preset plans if the dataset's images are as large as uncropped ones."""
    write_raw(DATASET, workspace.raw(DATASET).parent)
    result = driver.run("matrix_datasets:extract_fingerprint", str(DATASET.id))
    assert not result.exit_code, result.tail()
    folder = workspace.preprocessed(DATASET)
    fingerprint = json.loads((folder / "dataset_fingerprint.json").read_text())
    # of the small images themselves all presets would make the same network
    fingerprint["shapes_after_crop"] = [[z, 4 * y, 4 * x] for z, y, x in fingerprint["shapes_after_crop"]]
    (folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    for preset, memory_gb in PRESETS.items():
        command = f"nnUNetv2_plan_experiment -d {DATASET.id} -pl nnUNetPlannerResEnc{preset}"
        command += f" -gpu_memory_target {memory_gb} -overwrite_plans_name resEnc{preset}"
        result = driver.run(*command.split(), nnUNet_n_proc_DA="1")  # which planning must not find at 0
        assert not result.exit_code, result.tail()
    return {preset: json.loads((folder / f"resEnc{preset}.json").read_text()) for preset in PRESETS}


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
@pytest.mark.parametrize("preset", PRESETS)
def test_teacher_and_student_have_the_same_outputs_at_every_scale(plans, preset, configuration):
    manager = PlansManager(plans[preset])
    assert manager.plans["experiment_planner_used"] == f"nnUNetPlannerResEnc{preset}"
    planned = manager.get_configuration(configuration)
    assert planned.network_arch_class_name.endswith("ResidualEncoderUNet")
    patch = tuple(planned.patch_size)
    with torch.device("meta"):  # shapes only: full-size networks, no arithmetic
        teacher, student = (
            trainer.build_network_architecture(manager, planned, 2, 4, enable_deep_supervision=True)
            for trainer in (Teacher, Student)
        )
        shapes = [[tuple(o.shape) for o in network(torch.empty(2, 2, *patch))] for network in (teacher, student)]
    assert shapes[0] == shapes[1]
    assert shapes[0][0] == (2, 4, *patch)
    assert len(shapes[0]) == len(planned.pool_op_kernel_sizes) - 1 > 1
    narrow, wide = (network.decoder.stages[0].convs[0].conv.in_channels for network in (teacher, student))
    assert wide == 2 * narrow  # the student's decoder reads skips, the teacher's does not


def test_teacher_and_student_of_a_residual_encoder_train_predict_and_evaluate(workspace, driver, plans):
    small = json.loads(json.dumps(plans["M"]))
    small["plans_name"] = workspace.plans
    shrink(small["configurations"]["2d"], patch_size=[64, 64], strides=[[1, 1], [2, 2], [2, 2]])
    (workspace.preprocessed(DATASET) / f"{workspace.plans}.json").write_text(json.dumps(small))
    result = driver.run(*f"nnUNetv2_preprocess -d {DATASET.id} -plans_name {workspace.plans} -c 2d -np 1".split())
    assert not result.exit_code, result.tail()
    write_split(DATASET, workspace.preprocessed(DATASET))
    cell = run_cell(driver, workspace, DATASET, "2d")
    assert not cell.failures, "\n\n".join(cell.failures)
    for role in TRAINERS:
        for check in CHECKS.values():
            check(workspace, DATASET, role, "2d")
