"""Saving, resuming and provenance, in this process."""

import platform
import shutil
import subprocess
import sys
from time import time

import numpy as np
import pytest
import torch
from conftest import STUDENT, TEACHER, Malicious, edit, make
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.files import checkpoints, lock
from nnunet_shapekd.files.checkpoints import read_checkpoint
from nnunet_shapekd.training import resumable


def continuing(folder):
    """A student that nnU-Net's --c continues in ``folder``."""
    trainer = make(STUDENT)
    trainer.output_folder = str(folder)
    trainer.logger.resume = True
    return trainer


@pytest.fixture
def folder(student, tmp_path):
    """A copy of the student's training that ended before its last epoch did: only "latest" and "best" are there."""
    folder = shutil.copytree(student, tmp_path / "fold_0")
    (folder / "checkpoint_final.pth").rename(folder / "checkpoint_latest.pth")
    edit(folder / "checkpoint_latest.pth", lambda checkpoint: checkpoint.update(current_epoch=7))
    edit(folder / "checkpoint_best.pth", lambda checkpoint: checkpoint.update(current_epoch=5))
    return folder


@pytest.mark.parametrize("name", [TEACHER, STUDENT])
def test_a_training_is_not_continued_on_another_split(ready, student, teacher, name):
    trainer = make(name)
    trainer.load_checkpoint(str((teacher if name == TEACHER else student) / "checkpoint_final.pth"))
    trainer.num_epochs = 2  # one is left
    trainer.on_train_start()  # the same split: no objection
    trainer.provenance["training_cases"] = trainer.provenance["training_cases"][1:]
    with pytest.raises(ValueError, match="split"):
        trainer.on_train_start()


def test_a_checkpoint_of_another_origin_is_named(nnunet_environment, teacher_file):
    edit(teacher_file, lambda checkpoint: checkpoint.pop("shapekd"))
    with pytest.raises(ValueError, match=f"{teacher_file} .*{TEACHER}"):
        make(TEACHER).load_checkpoint(str(teacher_file))


def test_after_the_last_epoch_no_teacher_is_needed_and_provenance_stays(
    nnunet_environment, student, monkeypatch, tmp_path
):
    before = torch.load(student / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    trainer = make(STUDENT)
    trainer.load_checkpoint(str(student / "checkpoint_final.pth"))
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    monkeypatch.setattr(type(trainer), "teacher_trainer", "nnUNetTrainerThatIsNowhere")
    trainer.on_train_start()
    assert not hasattr(trainer, "teacher")
    trainer.current_epoch -= 1  # as on_train_end does
    trainer.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))
    after = torch.load(tmp_path / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    assert after["shapekd"] == before["shapekd"] and after["logging"] == before["logging"]
    assert after["current_epoch"] == before["current_epoch"]


@pytest.mark.parametrize("epochs_left", [1, 0])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda settings: settings.update(temperature=4.0), "SHAPEKD_TEMPERATURE.*: 4.0 before, 1.0 now"),
        (lambda settings: settings.pop("balanced"), "SHAPEKD_BALANCED.*: not recorded before, False now"),
    ],
)
def test_continuing_with_other_settings_is_refused_even_after_the_last_epoch(
    ready, student, change, message, epochs_left
):
    trainer = make(STUDENT)
    trainer.load_checkpoint(str(student / "checkpoint_final.pth"))
    trainer.num_epochs += epochs_left
    trainer.on_train_start()  # the same teacher and settings: no objection
    change(trainer.provenance["settings"])
    with pytest.raises(ValueError, match=message):
        trainer.on_train_start()


def test_continuing_with_another_teacher_is_refused(ready, student):
    trainer = make(STUDENT)
    trainer.load_checkpoint(str(student / "checkpoint_final.pth"))
    trainer.num_epochs += 1
    trainer.provenance["teacher"]["weights_sha256"] = "0" * 64
    with pytest.raises(ValueError, match="SHA-256 000000000000"):
        trainer.on_train_start()


def test_continuing_without_the_teacher_asks_for_it_not_for_a_new_one(ready, student, teacher):
    trainer = make(STUDENT)
    trainer.load_checkpoint(str(student / "checkpoint_final.pth"))
    trainer.num_epochs += 1
    away = teacher.parent.with_name("away")
    teacher.parent.rename(away)
    try:
        with pytest.raises(FileNotFoundError) as error:
            trainer.on_train_start()
    finally:
        away.rename(teacher.parent)
    message = str(error.value)
    assert "a newly trained one will not do" in message and "SHAPEKD_TEACHER_PATH" in message
    assert trainer.provenance["teacher"]["weights_sha256"][:12] in message
    assert "nnUNetv2_train" not in message


def test_continuing_with_the_same_teacher_from_another_place_is_fine(ready, student, teacher, tmp_path, monkeypatch):
    shutil.copy(teacher / "checkpoint_final.pth", tmp_path)
    monkeypatch.setenv("SHAPEKD_TEACHER_PATH", str(tmp_path))
    trainer = make(STUDENT)
    trainer.load_checkpoint(str(student / "checkpoint_final.pth"))
    trainer.num_epochs = 2
    trainer.on_train_start()
    assert trainer.provenance["settings"]["teacher_path"] == str(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "empty", "no zip"])
def test_a_damaged_latest_checkpoint_falls_back_to_the_newest_good_one(nnunet_environment, folder, capsys, damage):
    latest = folder / "checkpoint_latest.pth"
    content = latest.read_bytes()
    latest.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "no zip": b"no" * 1000}[damage])
    trainer = continuing(folder)
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    assert trainer.current_epoch == 5
    said = capsys.readouterr().out
    assert f"WARNING: {latest} cannot be read" in said and "Continuing from checkpoint_best.pth instead" in said


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ModuleNotFoundError("numpy._core"), MemoryError()])
def test_trouble_with_disk_or_installation_is_no_damage(nnunet_environment, folder, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    trainer = continuing(folder)
    monkeypatch.setattr(checkpoints.torch, "load", fail)
    with pytest.raises(type(error)):
        trainer.load_checkpoint(str(folder / "checkpoint_latest.pth"))
    with pytest.raises(type(error)):
        read_checkpoint(folder / "checkpoint_latest.pth")


def test_a_damaged_checkpoint_is_not_replaced_by_what_somebody_else_put_beside_it(nnunet_environment, folder, tmp_path):
    (folder / "checkpoint_latest.pth").write_bytes(b"")
    shutil.copy(folder / "checkpoint_best.pth", folder / "checkpoint_downloaded.pth")
    edit(
        folder / "checkpoint_downloaded.pth", lambda c: c.update(current_epoch=9, extra=Malicious(tmp_path / "it_ran"))
    )
    shutil.copy(folder / "checkpoint_best.pth", folder / "checkpoint_stock.pth")
    edit(folder / "checkpoint_stock.pth", lambda c: (c.update(current_epoch=9), c.pop("shapekd")))
    trainer = continuing(folder)
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    assert trainer.current_epoch == 5 and not (tmp_path / "it_ran").exists()


def test_nnunet_itself_runs_nothing_even_if_the_file_changes_after_it_was_checked(
    nnunet_environment, folder, tmp_path, monkeypatch
):
    latest = folder / "checkpoint_latest.pth"
    good = read_checkpoint(latest)
    edit(latest, lambda checkpoint: checkpoint.update(extra=Malicious(tmp_path / "it_ran")))
    monkeypatch.setattr(resumable, "read_checkpoint", lambda path: good)
    with pytest.raises(Exception, match="mkdir"):
        continuing(folder).load_checkpoint(str(latest))
    assert not (tmp_path / "it_ran").exists()


def test_a_training_that_diverges_stops_at_the_end_of_its_epoch_and_says_so(nnunet_environment):
    trainer = make(TEACHER)
    trainer.initialize()
    for name in ("train_losses", "val_losses"):
        trainer.logger.log(name, 0.5, 0)
    trainer.on_train_epoch_end([{"loss": np.array(0.5)}])
    trainer.on_train_epoch_end([{"loss": np.array(float("nan"))}])  # a step that mixed precision skipped
    next(trainer.network.parameters()).data.fill_(float("nan"))
    with pytest.raises(RuntimeError, match=f"{TEACHER} diverged.*--c"):
        trainer.on_train_epoch_end([{"loss": np.array(float("nan"))}])


def test_the_fallback_takes_the_newest_not_just_any(nnunet_environment, folder):
    shutil.copy(folder / "checkpoint_best.pth", folder / "checkpoint_older.pth")
    edit(folder / "checkpoint_older.pth", lambda checkpoint: checkpoint.update(current_epoch=2))
    (folder / "checkpoint_final.pth").write_bytes(b"")  # what --c takes first
    trainer = continuing(folder)
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    assert trainer.current_epoch == 7  # latest


def test_where_nothing_is_readable_the_message_says_what_to_do(nnunet_environment, folder):
    for path in folder.glob("*.pth"):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{folder} away"):
        continuing(folder).load_checkpoint(str(folder / "checkpoint_latest.pth"))


def test_validation_alone_never_falls_back_to_other_weights(nnunet_environment, folder):
    final = folder / "checkpoint_final.pth"
    final.write_bytes(b"damaged")
    trainer = make(STUDENT)  # as --val makes it
    with pytest.raises(ValueError, match=f"{final} .*--c"):
        trainer.load_checkpoint(str(final))
    best = folder / "checkpoint_best.pth"
    best.write_bytes(b"damaged")
    trainer = continuing(folder)
    trainer.initialize()
    with pytest.raises(ValueError, match=f"{best} "):  # --c --val_best, after the training
        trainer.load_checkpoint(str(best))


def test_validating_the_best_checkpoint_where_there_is_none_names_what_there_is(nnunet_environment, folder):
    best = folder / "checkpoint_best.pth"
    best.unlink()
    there = ", ".join(sorted(path.name for path in folder.glob("*.pth")))
    with pytest.raises(FileNotFoundError, match=f"{best} is not there.* There is {there}. --val alone"):
        make(STUDENT).load_checkpoint(str(best))  # as --val --val_best does


def test_a_killed_save_leaves_the_old_checkpoint(ready, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint_latest.pth"
    ready.save_checkpoint(str(path))
    before = path.read_bytes()
    monkeypatch.setattr(checkpoints.os, "fsync", lambda fd: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ready.save_checkpoint(str(path))
    assert path.read_bytes() == before


def test_a_training_beside_another_in_one_folder_is_refused_before_it_writes(ready, tmp_path, loaders_must_not_start):
    code = (
        f"from nnunet_shapekd.files.lock import hold; hold({str(tmp_path)!r}, 'training'); print(flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        ready.output_folder = str(tmp_path)
        with pytest.raises(ValueError, match=f"{tmp_path} is in use: training by process {other.pid} .*--c"):
            ready.on_train_start()
        other.communicate(b"\n")
    assert {path.name for path in tmp_path.iterdir()} == {lock.NAME}
    ready.on_train_start()


def test_what_a_killed_save_left_is_cleared_at_the_next_start(ready, tmp_path):
    ready.output_folder = str(tmp_path)
    (tmp_path / f".checkpoint_latest.pth.{platform.node()}-999999999.partial").write_bytes(b"half")
    (tmp_path / "checkpoint_best.pth").write_bytes(b"not ours to clear")
    ready.on_train_start()
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint_best.pth", lock.NAME}


@pytest.mark.parametrize(("seconds_ago", "saves"), [(30, False), (61, True)])
def test_a_run_saves_when_a_minute_has_passed_not_only_every_fifty_epochs(ready, tmp_path, seconds_ago, saves, capsys):
    ready.output_folder = str(tmp_path)
    ready.num_epochs = 10
    ready._best_ema = 0.1  # this epoch is the best so far
    ready._saved_at, ready.seconds_between_saves = time() - seconds_ago, 60
    for key in ("train_losses", "val_losses", "mean_fg_dice", "distillation_losses", "lrs"):
        ready.logger.log(key, 0.5, 0)
    ready.logger.log("dice_per_class_or_region", [0.5], 0)
    ready.logger.log("epoch_start_timestamps", time() - 100, 0)
    ready.on_epoch_end()
    assert "Progress: 1 of 10 epochs, about 0:15:0" in capsys.readouterr().out  # nine epochs of 100 seconds are left
    assert (tmp_path / "checkpoint_latest.pth").is_file() == saves
    assert ready.save_every == 50 and ready.current_epoch == 1
    if saves:
        assert time() - ready._saved_at < 30
        latest, best = (read_checkpoint(tmp_path / f"checkpoint_{name}.pth") for name in ("latest", "best"))
        assert latest["current_epoch"] == 1
        assert latest["_best_ema"] == best["_best_ema"] == 0.5  # or a continued run would overwrite a better one


@pytest.mark.parametrize(
    ("costs", "seconds"),
    [((0.01, 10**6), 60), ((2.0, 10**6), 200), ((0.5, 2 * 2**30), 8640)],
    ids=["never within a minute", "1 % of the time", "20 GiB a day"],
)
def test_a_run_saves_as_often_as_time_and_disk_allow(ready, costs, seconds):
    ready._save_costs = costs
    assert ready._seconds_until_next_save == pytest.approx(seconds)
    ready.seconds_between_saves = 5.0
    assert ready._seconds_until_next_save == 5.0


def test_a_save_serialises_once_and_knows_what_it_cost(ready, tmp_path, monkeypatch):
    saved, save = [], torch.save
    monkeypatch.setattr(torch, "save", lambda obj, f, *args: saved.append(f) or save(obj, f, *args))
    ready.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    assert len(saved) == 1 and ready._save_costs[1] == (tmp_path / "checkpoint_latest.pth").stat().st_size


def test_disabled_checkpointing_writes_nothing(ready, tmp_path):
    ready.disable_checkpointing = True
    ready.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    assert list(tmp_path.iterdir()) == []
