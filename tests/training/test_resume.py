"""Killed at one moment after the other, and continued with nnU-Net's own --c, each in a fresh process."""

import signal

import pytest
from conftest import DATASET, PLANS

from nnunet_shapekd.files.checkpoints import read_checkpoint

MOMENTS = {  # the file that is left, and its epochs
    "during an epoch": ("checkpoint_latest.pth", 2),
    "during a write": ("checkpoint_latest.pth", 2),  # one epoch lost
    "after the last epoch": ("checkpoint_final.pth", 4),
    "in the final validation": ("checkpoint_final.pth", 4),
    "never": ("checkpoint_final.pth", 4),
}
TRAINERS = """
import os
import signal

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_shapekd.files import checkpoints
from nnunet_shapekd.training.teacher import MeanImage
from nnunet_shapekd.training.student import ShapeKD


def kill(moment):
    if os.environ.get("KILL_AT") == moment:
        os.kill(os.getpid(), signal.SIGKILL)


class Killable:
    seconds_between_saves = 0.0

    def initialize(self):
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 4, 2, 1
        super().initialize()

    def train_step(self, batch):
        if self.current_epoch == 2:
            kill("during an epoch")
        return super().train_step(batch)

    def save_checkpoint(self, filename):
        if self.current_epoch == 2 and str(filename).endswith("latest.pth"):
            fsync = os.fsync
            checkpoints.os.fsync = lambda fd: kill("during a write") or fsync(fd)
        super().save_checkpoint(filename)

    def on_train_end(self):
        super().on_train_end()
        kill("after the last epoch")

    def perform_actual_validation(self, save_probabilities=False):
        self.validating = True
        super().perform_actual_validation(save_probabilities)

    def print_to_log_file(self, *args, **kwargs):
        super().print_to_log_file(*args, **kwargs)
        if getattr(self, "validating", False) and "predicting" in str(args):
            kill("in the final validation")


class nnUNetTrainerMeanImage_Killable(Killable, MeanImage, nnUNetTrainer):
    pass


class nnUNetTrainerShapeKD_Killable(Killable, ShapeKD, nnUNetTrainer):
    teacher_trainer = "nnUNetTrainerMeanImage_1epoch"
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows cannot kill itself")
@pytest.mark.parametrize(
    ("trainer", "moments"),
    [
        ("nnUNetTrainerShapeKD_Killable", list(MOMENTS)),
        ("nnUNetTrainerMeanImage_Killable", ["during an epoch", "during a write", "never"]),
    ],
    ids=["student", "teacher"],
)
def test_after_a_kill_at_any_moment_the_log_has_no_gap_and_no_repeat(planned, teacher, trainer, moments):
    (planned.root / "trainers" / "killable_trainer.py").write_text(TRAINERS)
    folder = planned.root / "results" / DATASET / f"{trainer}__{PLANS}__2d" / "fold_0"
    logs, entries = [], []
    for moment in moments:
        kept, epochs = MOMENTS[moment]
        ended = planned.train(trainer, *["--c"][: len(logs)], check=False, KILL_AT=moment)
        assert ended.returncode == (0 if moment == "never" else -signal.SIGKILL), f"{moment}: {ended.stderr[-2000:]}"
        assert any(folder.glob(".checkpoint_latest.pth.*.partial")) == (moment == "during a write")
        checkpoint = read_checkpoint(folder / kept)
        assert checkpoint["current_epoch"] == epochs, moment
        logs.append(checkpoint["logging"])
        entries.append(checkpoint["shapekd"])
        assert {len(values) for values in logs[-1].values()} == {epochs}, moment
    assert all(entry == entries[0] for entry in entries)
    for earlier, later in zip(logs, logs[1:], strict=False):
        for key, values in earlier.items():
            assert list(later[key][: len(values)]) == list(values), key
    starts = logs[-1]["epoch_start_timestamps"]
    assert len(starts) == 4 and starts == sorted(set(starts))
    assert (folder / "validation" / "summary.json").is_file()
    assert not (folder / "checkpoint_latest.pth").exists()
