"""Steps compiled by inductor on the CPU: what nnU-Net compiles on a GPU, and this package beside it."""

import pytest
import torch
from conftest import TEACHER, batch_of, make, own
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch._dynamo.utils import counters


@pytest.mark.parametrize(
    "name",
    [
        "nnUNetTrainerShapeKD",
        "nnUNetTrainerShapeKDLogitsFeatures",
        "nnUNetTrainerMeanImage",
        "nnUNetTrainerMeanJitter_1epoch",
    ],
)
def test_compiled_steps(nnunet_environment, teacher, monkeypatch, name):
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    import time

    for compiles in (True,):
        torch._dynamo.reset()
        counters.clear()
        monkeypatch.setattr(nnUNetTrainer, "_do_i_compile", lambda self, compiles=compiles: compiles)
        attributes = {"teacher_trainer": TEACHER} if "ShapeKD" in name else {}
        trainer = own(type(make(name)), **attributes)
        trainer.on_train_start()

        for epoch in range(3):
            trainer.current_epoch = epoch
            trainer.on_train_epoch_start()
            for step in range(3):
                t = time.time()
                r = trainer.train_step(batch_of(trainer, step))
                print("train", epoch, step, time.time() - t, r, counters["stats"], counters["frames"])
            trainer.on_validation_epoch_start()
            with torch.no_grad():
                for step in range(2):
                    r = trainer.validation_step(batch_of(trainer, step))
                    print("val", r["loss"], counters["stats"], counters["frames"])
        print(dict(counters))
