"""Every error a user can make with a teacher, and that none costs anything but a message."""

import pickle
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import DATASET, PLANS, STUDENT, TEACHER, Malicious, batch_of, edit, make, own
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.files.whose import find_patients
from nnunet_shapekd.training.find_teacher import Teacher, fingerprint, read_teacher


def test_a_missing_teacher_is_named_with_the_command_before_the_loaders_start(
    nnunet_environment, loaders_must_not_start
):
    trainer = make("nnUNetTrainerShapeKD_5epochs")
    with pytest.raises(FileNotFoundError) as error:
        trainer.run_training()
    path = nnunet_environment.fold("nnUNetTrainerMeanImage_5epochs") / "checkpoint_final.pth"
    assert str(path) in str(error.value)
    assert f"nnUNetv2_train 27 2d 0 -tr nnUNetTrainerMeanImage_5epochs -p {PLANS} -device cpu" in str(error.value)


def test_an_unfinished_teacher_is_to_be_continued(nnunet_environment, teacher_file, loaders_must_not_start):
    teacher_file.unlink()
    with pytest.raises(
        FileNotFoundError,
        match=rf"not finished.*checkpoint_best.*\n    nnUNetv2_train 27 2d 0 -tr {TEACHER} -p {PLANS} -device cpu --c$",
    ):
        make(STUDENT).run_training()


def change_dataset(checkpoint):
    checkpoint["init_args"]["plans"]["dataset_name"] = "Dataset003_Liver"


def change_labels(checkpoint):
    checkpoint["init_args"]["dataset_json"]["labels"] = {"background": 0, "liver": 1}


def change_channels(checkpoint):
    checkpoint["init_args"]["dataset_json"]["channel_names"] = {"0": "CT", "1": "PET"}


def change_configuration(checkpoint):
    configurations = checkpoint["init_args"]["plans"]["configurations"]
    configurations["3d_fullres"] = configurations["2d"]
    checkpoint["init_args"]["configuration"] = "3d_fullres"


def change_spacing(checkpoint):
    checkpoint["init_args"]["plans"]["configurations"]["2d"]["spacing"] = [9.0, 9.0]


def leak_a_validation_case(checkpoint):
    checkpoint["shapekd"]["training_cases"] += checkpoint["shapekd"]["validation_cases"][:1]


def widen(checkpoint):
    name = "decoder.seg_layers.0.weight"
    checkpoint["network_weights"][name] = torch.zeros(7, *checkpoint["network_weights"][name].shape[1:])


def forget_a_layer(checkpoint):
    checkpoint["network_weights"].pop("decoder.transpconvs.0.weight")


def diverge(checkpoint):
    next(iter(checkpoint["network_weights"].values())).view(-1)[0] = float("nan")


def come_from_nowhere(checkpoint):
    checkpoint["trainer_name"] = "nnUNetTrainerMeanImage_Mine"


def without(*keys):
    """A change that takes an entry away."""

    def change(checkpoint):
        *above, last = keys
        for key in above:
            checkpoint = checkpoint[key]
        checkpoint.pop(last)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("init_args"), "init_args/plans.* missing"),
        (without("init_args", "configuration"), "init_args/configuration"),
        (without("init_args", "fold"), "init_args/fold"),
        (without("trainer_name"), "trainer_name"),
        (without("current_epoch"), "current_epoch"),
        (without("network_weights"), "network_weights"),
        (without("shapekd", "training_cases"), "shapekd/training_cases"),
        (without("shapekd", "deep_supervision"), "shapekd/deep_supervision"),
        (without("init_args", "plans", "dataset_name"), "KeyError: 'dataset_name'"),
        (without("init_args", "dataset_json", "labels"), "KeyError: 'labels'"),
        (lambda checkpoint: checkpoint["network_weights"].update(odd="text"), "network_weights.* not"),
        (lambda checkpoint: checkpoint["shapekd"].update(training_cases=7), "shapekd/training_cases.* int"),
        (lambda checkpoint: checkpoint.update(init_args=None), "init_args/plans"),
        (lambda checkpoint: checkpoint["init_args"]["plans"].update(configurations=3), "plans .* not nnU-Net's"),
        (change_dataset, r'does not fit(?s:.)*dataset: teacher "Dataset003_Liver", student "Dataset027_ACDC"'),
        (change_labels, r'does not fit(?s:.)*labels: teacher \{"background": 0, "liver": 1\}'),
        (change_channels, r'does not fit(?s:.)*channels: teacher \{"0": "CT", "1": "PET"\}'),
        (change_configuration, r'does not fit(?s:.)*configuration: teacher "3d_fullres", student "2d"'),
        (change_spacing, r"does not fit(?s:.)*spacing: teacher \[9.0, 9.0\]"),
        (leak_a_validation_case, "trained on 2 of the cases this student is validated on"),  # of one patient
        (widen, "do not fit the network(?s:.)*seg_layers"),
        (forget_a_layer, "do not fit the network(?s:.)*transpconvs"),
        (diverge, "weights that are not finite"),
        (lambda checkpoint: checkpoint.pop("shapekd"), "is not a teacher: it was written by"),
    ],
)
def test_an_unfit_teacher_is_refused_with_its_reason(
    nnunet_environment, teacher_file, loaders_must_not_start, change, message
):
    edit(teacher_file, change)
    with pytest.raises(ValueError, match=message) as error:
        make(STUDENT).run_training()
    assert str(teacher_file) in str(error.value)
    assert f"nnUNetv2_train 27 2d 0 -tr {TEACHER} -p {PLANS} -device cpu" in str(error.value)


def test_the_order_of_labels_means_nothing_but_that_of_regions(nnunet_environment):
    plans = make("nnUNetTrainer").plans_manager.plans
    reordered = [{"labels": dict(labels)} for labels in ([("background", 0), ("a", 1)], [("a", 1), ("background", 0)])]
    assert fingerprint(plans, "2d", reordered[0]) == fingerprint(plans, "2d", reordered[1])
    regions = [{"labels": {"background": 0, **of}} for of in ({"a": [1, 2], "b": 2}, {"b": 2, "a": [1, 2]})]
    assert fingerprint(plans, "2d", regions[0]) != fingerprint(plans, "2d", regions[1])


def test_a_students_checkpoint_is_no_teacher(nnunet_environment, teacher_file, student, loaders_must_not_start):
    shutil.copy(student / "checkpoint_final.pth", teacher_file)
    with pytest.raises(ValueError, match="nnUNetTrainer as a student"):
        make(STUDENT).run_training()


def test_a_truncated_teacher_is_refused(nnunet_environment, teacher_file, loaders_must_not_start):
    teacher_file.write_bytes(teacher_file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=f"damaged or truncated(?s:.)*nnUNetv2_train 27 2d 0 -tr {TEACHER}"):
        make(STUDENT).run_training()


def test_a_checkpoint_that_would_run_code_does_not_run_it(
    nnunet_environment, teacher_file, loaders_must_not_start, tmp_path
):
    attack = Malicious(tmp_path / "it_ran")
    edit(teacher_file, lambda checkpoint: checkpoint.update(extra=attack))
    with pytest.raises(ValueError, match=r"other than weights and plain values \(posix.mkdir\)") as error:
        make(STUDENT).run_training()
    assert not attack.path.exists()
    assert "weights_only" not in str(error.value)  # torch's own message advises to switch the protection off
    pickle.loads(pickle.dumps(attack))  # the attack works where nothing stops it
    assert attack.path.exists()


def test_fold_all_leaks_nothing_into_a_validation_on_the_training_cases(nnunet_environment):
    student = make(STUDENT, fold="all")
    split = student.do_split()
    assert sorted(split[0]) == sorted(split[1]) and len(split[0]) == 10
    teacher = Teacher(Path("teacher"), {"shapekd": {"training_cases": sorted(split[0])}})
    patients = find_patients(split[0])
    assert teacher.leaked_cases(*split, patients) == []
    assert teacher.leaked_cases(split[0][1:], split[0][:1], patients) == split[0][:1]


def test_a_teacher_that_was_trained_on_another_case_of_a_patient_leaks():
    teacher = Teacher(Path("teacher"), {"shapekd": {"training_cases": ["A1_ED", "B2_ED"]}})
    patients = find_patients(["A1_ED", "A1_ES", "B2_ED", "B2_ES", "C3_ES"])
    assert teacher.leaked_cases(["B2_ED"], ["A1_ES", "C3_ES"], patients) == ["A1_ES"]
    # a patient whom the student itself was trained on says nothing about the teacher
    assert teacher.leaked_cases(["B2_ED"], ["B2_ES"], patients) == []


def test_a_teacher_on_nnunets_own_fresh_split_can_be_read_by_its_student(nnunet_environment, tmp_path, monkeypatch):
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    splits = nnunet_environment.root / "preprocessed" / DATASET / "splits_final.json"
    content = splits.read_bytes()
    splits.unlink()  # nnU-Net then makes one, of numpy strings
    try:
        trainer = make(TEACHER)
        trainer.on_train_start()
        assert splits.is_file()
    finally:
        splits.write_bytes(content)
    trainer.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))
    checkpoint = read_teacher(tmp_path / "checkpoint_final.pth", "command", "advice").checkpoint
    assert len(checkpoint["shapekd"]["training_cases"]) == 8


def test_a_teacher_whose_trainer_is_nowhere_is_named(nnunet_environment, teacher_file, loaders_must_not_start):
    edit(teacher_file, come_from_nowhere)
    with pytest.raises(ValueError, match="nnUNetTrainerMeanImage_Mine of the teacher .* nnUNet_extTrainer"):
        make(STUDENT).run_training()


def started(monkeypatch, **attributes):
    """A student just before its first step."""
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    trainer = own(type(make(STUDENT)), **attributes)
    trainer.on_train_start()
    return trainer


@pytest.mark.parametrize("given", ["file", "training", "all folds"])
def test_a_teacher_is_found_by_path(nnunet_environment, teacher, tmp_path, monkeypatch, given):
    folder = tmp_path / "Teacher__plans_0.5mm__2d" / "fold_0"
    folder.mkdir(parents=True)
    shutil.copy(teacher / "checkpoint_final.pth", folder)
    path = {"file": folder / "checkpoint_final.pth", "training": folder, "all folds": folder.parent}[given]
    monkeypatch.setenv("SHAPEKD_TEACHER_PATH", str(path))
    trainer = started(monkeypatch, teacher_trainer="nnUNetTrainerMeanImageThatIsNotTrained")
    assert trainer.provenance["settings"]["teacher_path"] == str(path)
    assert trainer.provenance["teacher"]["trainer"] == TEACHER


def test_a_path_without_a_teacher_is_named(nnunet_environment, tmp_path, monkeypatch, loaders_must_not_start):
    monkeypatch.setenv("SHAPEKD_TEACHER_PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"SHAPEKD_TEACHER_PATH.*{tmp_path}.*no .*checkpoint_final.pth and no"):
        make(STUDENT).run_training()


def test_a_teachers_folder_of_another_dataset_is_refused(
    nnunet_environment, teacher, tmp_path, monkeypatch, loaders_must_not_start
):
    shutil.copy(teacher / "checkpoint_final.pth", tmp_path)
    edit(tmp_path / "checkpoint_final.pth", change_dataset)
    monkeypatch.setenv("SHAPEKD_TEACHER_PATH", str(tmp_path))
    with pytest.raises(ValueError, match='(?s)does not fit.*dataset: teacher "Dataset003_Liver".*another teacher_path'):
        make(STUDENT).run_training()


def test_by_path_a_leaking_teacher_is_taken_with_a_warning(nnunet_environment, teacher, tmp_path, monkeypatch, capsys):
    shutil.copy(teacher / "checkpoint_final.pth", tmp_path)
    edit(tmp_path / "checkpoint_final.pth", leak_a_validation_case)
    monkeypatch.setenv("SHAPEKD_TEACHER_PATH", str(tmp_path))
    assert started(monkeypatch).teacher is not None
    assert "WARNING: The teacher" in capsys.readouterr().out


def test_a_student_without_deep_supervision_takes_a_teacher_with_it(nnunet_environment, teacher, monkeypatch):
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    trainer = own(type(make(STUDENT)))
    trainer.enable_deep_supervision = False
    trainer.on_train_start()
    trainer.network.train()
    batch = batch_of(make("nnUNetTrainer"))
    assert trainer.train_step({**batch, "target": batch["target"][0]})["distillation_loss"] > 0


def test_a_teacher_without_deep_supervision_does_not_fit_a_student_with_it(
    nnunet_environment, teacher_file, loaders_must_not_start
):
    edit(teacher_file, lambda checkpoint: checkpoint["shapekd"].update(deep_supervision=False))
    with pytest.raises(ValueError, match="deep supervision"):
        make(STUDENT).run_training()


HALF = "nnUNetTrainerMeanImageHalf_1epoch"


@pytest.fixture
def narrow(nnunet_environment, monkeypatch):
    """An untrained teacher of half the width, on disk."""
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    trainer = make(HALF)
    trainer.on_train_start()
    path = nnunet_environment.fold(HALF) / "checkpoint_final.pth"
    trainer.save_checkpoint(str(path))
    yield path
    path.unlink()


def test_for_logits_a_teacher_may_be_narrower(narrow, monkeypatch):
    trainer = started(monkeypatch, teacher_trainer=HALF)
    widths = [network.decoder.stages[-1].output_channels for network in (trainer.teacher, trainer.network)]
    assert widths == [4, 8]
    trainer.network.train()
    assert trainer.train_step(batch_of(trainer))["distillation_loss"] > 0


def test_features_refuse_a_narrower_teacher(narrow, monkeypatch, loaders_must_not_start):
    features = type(make("nnUNetTrainerShapeKDFeatures_1epoch"))
    with pytest.raises(ValueError, match="has 4 features there, the student 8"):
        own(features, teacher_trainer=HALF).run_training()


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_a_teacher_written_with_either_numpy_can_be_read(teacher, tmp_path, module):
    path = tmp_path / "checkpoint_final.pth"
    with zipfile.ZipFile(teacher / "checkpoint_final.pth") as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray\nscalar" in content or b"numpy.core.multiarray\nscalar" in content
                for written in (b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"):
                    content = content.replace(written, f"c{module}\n".encode())
            new.writestr(entry, content)
    checkpoint = read_teacher(path, "command", "advice").checkpoint
    assert float(checkpoint["logging"]["train_losses"][0]) > -1
