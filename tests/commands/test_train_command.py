import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import DATASET, FEW_STEPS, PLANS

from nnunet_shapekd.commands.cli import main
from nnunet_shapekd.commands.planned import Products, fold_state, planned_actions
from nnunet_shapekd.commands.processes import run_to_the_end
from nnunet_shapekd.files.checkpoints import read_checkpoint
from nnunet_shapekd.trainers_folder import trainers_folder
from nnunet_shapekd.training.settings import read_settings
from nnunet_shapekd.training.student import ShapeKD

WITHOUT_TEACHER = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunet_shapekd.training.student import ShapeKD


class nnUNetTrainerShapeKD_WithoutTeacher(ShapeKD, nnUNetTrainer):
    pass
"""
#: as on macOS and Windows, where the data loaders' processes get everything pickled
SPAWNED = """
import multiprocessing

multiprocessing.set_start_method("spawn", force=True)
"""


def make(folder: Path, state: str) -> Path:
    """A fold's folder as a training leaves it in that state."""
    files = {
        "none": ["training_log.txt"],
        "unfinished": ["checkpoint_latest.pth", "checkpoint_best.pth"],
        "trained": ["checkpoint_final.pth", "checkpoint_best.pth"],
        "validated": ["checkpoint_final.pth", "validation/summary.json"],
    }
    for file in files[state]:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    if state == "validated":
        summarise(folder, "case_1")
    return folder


def summarise(folder: Path, *cases: str) -> None:
    """What nnU-Net's final validation leaves of these cases, without probabilities."""
    validation = folder / "validation"
    files = [validation / f"{case}.nii.gz" for case in cases]
    for file in files:
        file.touch()
    summary = {"metric_per_case": [{"prediction_file": str(file), "metrics": {}} for file in files]}
    (validation / "summary.json").write_text(json.dumps(summary))


PREDICTIONS = Products(".nii.gz")


@pytest.fixture
def train(nnunet_environment, tmp_path, monkeypatch, capfd):
    """`shapekd train ARGUMENTS` in this process, with empty results; trainings are recorded instead of run."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("nnUNet_extTrainer")  # users need not export it
    statuses: list[int] = []
    commands: list[str] = []

    def record(command: list[str]) -> int:
        assert "run_training_entry" in command[2]
        commands.append(" ".join(command[3:]))
        return statuses.pop(0) if statuses else 0

    def run(*arguments, fail_with: tuple[int, ...] = (), **environment):
        commands.clear()
        statuses[:] = fail_with
        with monkeypatch.context() as patch:
            patch.setattr("nnunet_shapekd.commands.train.run_to_the_end", record)
            for name, value in environment.items():
                patch.setenv(name, value) if value is not None else patch.delenv(name)
            code = main(["train", *arguments])
        out, err = capfd.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err, commands=list(commands))

    def folder(trainer: str, state: str = "none", fold: str = "0") -> Path:
        return make(tmp_path / "results" / DATASET / f"{trainer}__{PLANS}__2d" / f"fold_{fold}", state)

    run.folder = folder
    run.pair = lambda *options, **rest: run(
        "27", "2d", "0", "-tr", "nnUNetTrainerShapeKD_1epoch", "-p", PLANS, "-device", "cpu", *options, **rest
    )
    return run


TEACHER, STUDENT = "nnUNetTrainerMeanImage_1epoch", "nnUNetTrainerShapeKD_1epoch"


def command(trainer: str, *options: str) -> str:
    return " ".join([DATASET, "2d", "0", "-tr", trainer, "-p", PLANS, "-device", "cpu", *options])


@pytest.mark.parametrize("state", ["none", "unfinished", "trained", "validated"])
def test_the_state_of_a_fold_is_read_off_its_checkpoints_and_validation(tmp_path, state):
    assert fold_state(tmp_path / "nowhere", PREDICTIONS) == "none"
    assert fold_state(make(tmp_path / "fold_0", state), PREDICTIONS) == state


@pytest.mark.parametrize("summary", ["", '{"metric_per_', "[]", '{"mean": {}}'])
def test_a_summary_that_was_interrupted_is_none(tmp_path, summary):
    folder = make(tmp_path / "fold_0", "validated")
    (folder / "validation" / "summary.json").write_text(summary)
    assert fold_state(folder, PREDICTIONS) == "trained"


@pytest.mark.parametrize("missing", ["summary.json", "b.nii.gz", "a.npz", "b.pkl", "stage/b.b2nd", None])
def test_a_validation_is_complete_when_every_file_of_every_case_is_there(tmp_path, missing):
    folder, preprocessed = make(tmp_path / "fold_0", "validated"), tmp_path / "preprocessed"
    summarise(folder, "a", "b")
    stage = tmp_path / "predicted_next_stage" / "stage"
    files = [folder / "validation" / f"{case}{ending}" for case in "ab" for ending in (".npz", ".pkl")]
    files += [stage / "a.npz", stage / "b.b2nd", preprocessed / "a.b2nd", preprocessed / "b.b2nd"]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    if missing:
        (tmp_path / "predicted_next_stage" / missing if "/" in missing else folder / "validation" / missing).unlink()
    asked = Products(".nii.gz", probabilities=True, next_stages={"stage": preprocessed})
    assert asked.are_in(folder) == (missing is None)
    if missing == "stage/b.b2nd":  # nnU-Net predicts nothing for a next stage without the preprocessed case
        (preprocessed / "b.b2nd").unlink()
        assert asked.are_in(folder)


@pytest.mark.parametrize(
    ("teacher", "student", "only", "c", "expected"),
    [
        ("none", "none", None, False, {"teacher": "train", "student": "train"}),
        ("none", "none", None, True, {"teacher": "train", "student": "train"}),
        ("none", "none", "teacher", False, {"teacher": "train"}),
        ("none", "none", "student", False, FileNotFoundError),
        ("unfinished", "none", None, False, ValueError),
        ("unfinished", "none", None, True, {"teacher": "continue", "student": "train"}),
        ("unfinished", "none", "teacher", True, {"teacher": "continue"}),
        ("unfinished", "none", "student", True, FileNotFoundError),
        ("trained", "none", None, False, {"teacher": "nothing", "student": "train"}),  # no validation needed
        ("trained", "none", "teacher", False, {"teacher": "nothing"}),
        ("trained", "none", "teacher", True, {"teacher": "validate"}),  # asked for alone, to the end
        ("validated", "none", "teacher", True, {"teacher": "nothing"}),
        ("trained", "none", "student", False, {"student": "train"}),
        ("trained", "unfinished", None, False, ValueError),
        ("trained", "unfinished", None, True, {"teacher": "nothing", "student": "continue"}),
        ("trained", "unfinished", "teacher", False, {"teacher": "nothing"}),
        # a student that began with a teacher cannot go on with a new one
        ("none", "unfinished", None, True, FileNotFoundError),
        ("unfinished", "unfinished", None, True, FileNotFoundError),
        ("trained", "trained", None, False, ValueError),
        ("trained", "validated", "student", False, ValueError),
        ("trained", "trained", None, True, {"student": "validate"}),
        ("trained", "validated", None, True, {"student": "nothing"}),
        ("none", "validated", None, True, {"student": "nothing"}),  # a finished student needs no teacher any more
        ("none", "validated", "student", True, {"student": "nothing"}),
        ("none", "validated", "teacher", False, {"teacher": "train"}),
    ],
)
def test_what_is_there_decides_what_is_done(tmp_path, teacher, student, only, c, expected):
    folders = make(tmp_path / "teacher", teacher), make(tmp_path / "student", student)
    if isinstance(expected, dict):
        actions = planned_actions(*folders, PREDICTIONS, only, c)
        assert actions == expected and list(actions) == list(expected)  # the teacher first
    else:
        with pytest.raises(expected, match="--c|--only|teacher"):
            planned_actions(*folders, PREDICTIONS, only, c)


def test_before_a_cascade_the_teachers_validation_is_needed_too(tmp_path):
    folders = make(tmp_path / "teacher", "trained"), make(tmp_path / "student", "none")
    before_a_stage = Products(".nii.gz", next_stages={"stage": tmp_path})
    assert planned_actions(*folders, before_a_stage) == {"teacher": "validate", "student": "train"}
    make(tmp_path / "teacher", "validated")
    assert planned_actions(*folders, before_a_stage)["teacher"] == "nothing"


def test_a_teacher_given_by_path_is_not_trained(tmp_path):
    actions = planned_actions(tmp_path / "teacher", tmp_path / "student", PREDICTIONS, teacher_given=True)
    assert actions == {"teacher": "nothing", "student": "train"}


def test_teacher_and_student_are_trained_in_turn_with_nnunets_own_options(train):
    result = train.pair("--npz")
    assert result.returncode == 0, result.stderr
    assert result.commands == [command(TEACHER), command(STUDENT, "--npz")]
    assert os.environ["nnUNet_extTrainer"] == trainers_folder()
    assert f"teacher {TEACHER}: to be trained" in result.stdout and f"student {STUDENT}: to be trained" in result.stdout
    assert "x stock" in result.stdout and f"finished: {TEACHER}, {STUDENT}" in result.stdout


def test_own_trainer_folders_are_kept(train, tmp_path):
    train.pair(nnUNet_extTrainer=str(tmp_path))
    assert train.pair(nnUNet_extTrainer=str(tmp_path)).returncode == 0


def test_a_finished_teacher_is_found_and_an_unfinished_student_continued(train):
    train.folder(TEACHER, "trained")
    train.folder(STUDENT, "unfinished")
    refused = train.pair()
    assert refused.returncode == 1 and not refused.commands
    assert f"{STUDENT}__" in refused.stderr and "--c" in refused.stderr
    result = train.pair("--c", "--npz")
    assert result.commands == [command(STUDENT, "--npz", "--c")]
    assert f"teacher {TEACHER}: finished already" in result.stdout
    assert f"student {STUDENT}: to be continued" in result.stdout


def test_a_finished_student_is_left_alone(train):
    settings = read_settings(ShapeKD, {})[0]
    folder = train.folder(STUDENT, "validated")
    torch.save({"shapekd": {"settings": settings}}, folder / "checkpoint_final.pth")
    refused = train.pair()
    assert refused.returncode == 1 and not refused.commands
    assert str(folder) in refused.stderr and "--c" in refused.stderr
    result = train.pair("--c")
    assert result.returncode == 0 and not result.commands
    assert f"student {STUDENT}: finished already" in result.stdout and "x stock" not in result.stdout
    refused = train.pair("--c", SHAPEKD_TEMPERATURE="2")  # its result must not pass for that of these settings
    assert refused.returncode == 1 and "temperature (SHAPEKD_TEMPERATURE): 1.0 before, 2.0 now" in refused.stderr


def test_what_a_finished_student_lacks_of_its_validation_is_made(train):
    folder = train.folder(STUDENT, "validated")
    torch.save({"shapekd": {"settings": read_settings(ShapeKD, {})[0]}}, folder / "checkpoint_final.pth")
    refused = train.pair("--npz")
    assert refused.returncode == 1 and "--c" in refused.stderr and "--npz" in refused.stderr
    result = train.pair("--npz", "--c")
    assert result.commands == [command(STUDENT, "--npz", "--c")] and "x stock" not in result.stdout
    assert f"student {STUDENT}: trained, its final validation to be made ({folder})" in result.stdout
    for ending in (".npz", ".pkl"):
        (folder / "validation" / f"case_1{ending}").touch()
    assert train.pair("--npz", "--c").commands == []
    (folder / "validation" / "case_1.nii.gz").unlink()
    assert train.pair("--c").commands == [command(STUDENT, "--c")]


def test_only_trains_one_of_them(train):
    refused = train.pair("--only", "student")
    assert refused.returncode == 1 and "--only teacher" in refused.stderr
    assert train.pair("--only", "teacher", "--npz").commands == [command(TEACHER)]
    train.folder(TEACHER, "trained")
    assert train.pair("--only", "student").commands == [command(STUDENT)]
    finished = train.pair("--only", "teacher")
    assert finished.commands == [] and "final validation is not there" in finished.stdout and "--c" in finished.stdout
    assert train.pair("--only", "teacher", "--c", "--npz").commands == [command(TEACHER, "--c")]


@pytest.mark.parametrize(("status", "ended"), [(1, "exit code 1"), (-9, "ended by SIGKILL, often for lack of memory")])
def test_a_failing_step_ends_the_command_and_is_named(train, status, ended):
    result = train.pair(fail_with=(status,))
    assert result.returncode == 1 and result.commands == [command(TEACHER)]
    assert f"{TEACHER}, {ended}" in result.stderr and "--c" in result.stderr
    result = train.pair(fail_with=(0, status))
    assert f"{STUDENT}, {ended}" in result.stderr


def test_a_teacher_is_taken_from_the_path_given(train, tmp_path):
    missing = train.pair(SHAPEKD_TEACHER_PATH=str(tmp_path / "nowhere"))
    assert missing.returncode == 1 and "nowhere" in missing.stderr and not missing.commands
    given = make(tmp_path / "given", "trained")
    no_teacher = train.pair(SHAPEKD_TEACHER_PATH=str(given))
    assert no_teacher.returncode == 1 and str(given) in no_teacher.stderr and not no_teacher.commands
    half = "nnUNetTrainerMeanImageHalf_1epoch"  # not the student's own: what it costs is what counts
    record = {
        "trainer_name": half,
        "current_epoch": 1,
        "network_weights": {"w": torch.zeros(1)},
        "init_args": {"plans": {}, "configuration": "2d", "dataset_json": {}, "fold": 0},
        "shapekd": {"role": "teacher", "deep_supervision": True, "training_cases": []},
    }
    torch.save(record, given / "checkpoint_final.pth")
    result = train.pair(SHAPEKD_TEACHER_PATH=str(given))
    assert result.commands == [command(STUDENT)] and f"teacher {half}: finished already ({given})" in result.stdout
    alone = train.pair("--only", "teacher", "--c", SHAPEKD_TEACHER_PATH=str(given))
    assert alone.commands == [] and "--c makes it" not in alone.stdout  # it is not this command's to validate
    own, narrow = (float(re.search(r"([\d.]+) x stock", out)[1]) for out in (train.pair().stdout, result.stdout))
    assert 1 < narrow < own


def test_a_student_of_a_half_width_teacher_trains_that_one_first(train):
    result = train("27", "2d", "0", "-tr", "nnUNetTrainerShapeKDHalfTeacher_1epoch", "-p", PLANS, "-device", "cpu")
    assert result.commands == [
        command("nnUNetTrainerMeanImageHalf_1epoch"),
        command("nnUNetTrainerShapeKDHalfTeacher_1epoch"),
    ]


def test_the_fold_all_is_a_fold_and_leading_zeros_are_none(train):
    arguments = ("-tr", STUDENT, "-p", PLANS, "-device", "cpu", "--only", "teacher")
    assert train(DATASET, "2d", "all", *arguments).commands == [command(TEACHER).replace("2d 0", "2d all")]
    assert train("027", "2d", "00", *arguments).commands == [command(TEACHER)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("99 2d 0", "nnUNetv2_plan_and_preprocess -d 99"),
        ("Dataset027_Other 2d 0", "nnUNetv2_plan_and_preprocess -d Dataset027_Other"),
        ("ACDC 2d 0", "27 or Dataset027_ACDC; got 'ACDC'"),
        ("27 2d one", "got 'one'"),
        ("27 2d 0 -p nothing", "plans nothing (-p)"),
        ("27 4d 0", "configuration 4d; they have: 2d"),
        ("27 3d_fullres 0", "nnUNetv2_preprocess -d 27"),
        ("27 2d 0 -tr nnUNetTrainerShapeKD_2epochs", "nnUNetTrainerShapeKD_2epochs (-tr)"),
        ("27 2d 0 -tr nnUNetTrainer", "-tr must be a trainer made with the ShapeKD mixin"),
        ("27 2d 0 -tr nnUNetTrainer", "nnUNetTrainer is not. It has no teacher: nnUNetv2_train alone trains it."),
        ("27 2d 0 -tr nnUNetTrainerMeanImage", "nnUNetTrainerMeanImage is"),
        ("27 2d 0", "-device cpu"),
        ("27 2d 0 -device cpu -num_gpus 2", "-device cuda"),
        ("27 2d 0 -device cpu -num_gpus 0", "-num_gpus"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_before_anything_starts(train, tmp_path, arguments, message):
    result = train(*arguments.split())
    assert result.returncode == 1 and not result.commands
    lines = [line for line in result.stderr.splitlines() if line.startswith("shapekd: ")]
    assert len(lines) == 1 and message in lines[0]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "results").exists()


def test_unset_folders_and_wrong_settings_are_refused(train):
    for variable in ("nnUNet_preprocessed", "nnUNet_results"):
        result = train.pair(**{variable: None})
        assert result.returncode == 1 and f"{variable} is not set" in result.stderr
    result = train.pair(SHAPEKD_TEMPERATUR="2")
    assert result.returncode == 1 and "SHAPEKD_TEMPERATURE?" in result.stderr and not result.commands


def test_a_student_without_a_teachers_trainer_and_damaged_plans_are_refused(train, tmp_path):
    (tmp_path / "trainers").mkdir()
    (tmp_path / "trainers" / "without_teacher.py").write_text(WITHOUT_TEACHER)
    own = {"nnUNet_extTrainer": str(tmp_path / "trainers")}
    result = train("27", "2d", "0", "-tr", "nnUNetTrainerShapeKD_WithoutTeacher", "-p", PLANS, **own)
    assert "nnUNetTrainerMeanImage_WithoutTeacher (teacher_trainer of nnUNetTrainerShapeKD_With" in result.stderr
    (tmp_path / DATASET).mkdir()
    (tmp_path / DATASET / "tinyPlans.json").write_text('{"configurations":')
    result = train(DATASET, "2d", "0", "-p", PLANS, nnUNet_preprocessed=str(tmp_path))
    assert result.returncode == 1 and "tinyPlans.json" in result.stderr and "JSON" in result.stderr


def test_an_estimate_that_fails_keeps_nobody_from_training(train, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no kernel")

    monkeypatch.setattr("nnunet_shapekd.commands.pair.pair_cost", fail)
    result = train.pair()
    assert result.returncode == 0 and len(result.commands) == 2
    assert "RuntimeError: no kernel" in result.stdout


def test_the_command_trains_a_teacher_and_a_student_that_nnunet_can_use(planned, train, tmp_path, monkeypatch):
    (tmp_path / "few_steps").mkdir()
    (tmp_path / "few_steps" / "few_spawned_steps.py").write_text(FEW_STEPS + SPAWNED)
    arguments = ("27", "2d", "1", "-tr", "nnUNetTrainerShapeKD_NoDeepSupervision", "-p", PLANS, "-device", "cpu")
    folders = {"nnUNet_extTrainer": str(tmp_path / "few_steps"), "nnUNet_results": str(tmp_path / "results")}
    planned.run("shapekd", "train", *arguments, "--npz", **folders, nnUNet_n_proc_DA="1")

    teacher, student = (
        tmp_path / "results" / DATASET / f"nnUNetTrainer{name}_NoDeepSupervision__{PLANS}__2d" / "fold_1"
        for name in ("MeanImage", "ShapeKD")
    )
    assert fold_state(teacher, PREDICTIONS) == "validated"
    assert fold_state(student, replace(PREDICTIONS, probabilities=True)) == "validated"
    validated = json.loads((planned.root / "preprocessed" / DATASET / "splits_final.json").read_text())[1]["val"]
    assert {path.stem for path in (student / "validation").glob("*.npz")} == set(validated)
    assert not list((teacher / "validation").glob("*.npz"))
    entry = read_checkpoint(student / "checkpoint_final.pth")["shapekd"]
    assert entry["teacher"]["trainer"] == "nnUNetTrainerMeanImage_NoDeepSupervision" and entry["teacher"]["fold"] == 1

    # where it is finished there is nothing to do; after an interrupted validation there is that
    assert train(*arguments, "--c", "--npz").commands == []
    shutil.rmtree(student / "validation")
    assert train(*arguments, "--c").commands[0].endswith("-device cpu --c")


def run_in_python(command: list[str]) -> subprocess.Popen[str]:
    code = f"""
import signal
from nnunet_shapekd.commands.processes import run_to_the_end
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests themselves run under nohup
print(run_to_the_end({command!r}), flush=True)
"""
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name == "nt", reason="needs bash and signals")
@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("wait", [0.0, 0.5])  # while the program is still being started, too
def test_an_interrupted_run_leaves_nothing_behind(sent, wait):
    process = run_in_python(["bash", "-c", "sleep 600 & echo began; wait"])
    assert process.stdout.readline() == "began\n"
    time.sleep(wait)
    process.send_signal(getattr(signal, sent))
    # returns when nobody holds the pipes any more: the grandchild has ended, too
    _, error = process.communicate(timeout=60)
    assert process.returncode != 0 and "KeyboardInterrupt" in error


@pytest.mark.skipif(os.name == "nt", reason="needs bash and signals")
def test_even_a_killed_run_leaves_nothing_behind():
    process = run_in_python(["bash", "-c", "sleep 600 & echo began; wait"])
    assert process.stdout.readline() == "began\n"
    process.kill()
    process.communicate(timeout=60)  # returns when nobody holds the pipes any more
    assert process.returncode == -signal.SIGKILL


def test_a_signal_during_the_start_is_not_lost_and_loses_no_program(monkeypatch):
    started = []

    class InterruptedStart(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)
            signal.raise_signal(signal.SIGTERM)
            started.append("completely")

    monkeypatch.setattr(subprocess, "Popen", InterruptedStart)
    with pytest.raises(KeyboardInterrupt):
        run_to_the_end([sys.executable, "-c", "import time; time.sleep(600)"])
    guard, *_, program, _ = started  # in this order: what is killed meanwhile would leave the program behind
    assert started[1::2] == ["completely"] * 2 and program.args[-1] == "import time; time.sleep(600)"
    assert guard.returncode is not None and program.returncode is not None
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.skipif(os.name == "nt", reason="needs bash and signals")
def test_the_workers_of_a_run_that_failed_are_ended():
    out, _ = run_in_python(["bash", "-c", "sleep 600 & exit 3"]).communicate(timeout=60)
    assert out == "3\n"
