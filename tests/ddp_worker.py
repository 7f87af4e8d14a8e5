"""nnU-Net's multi-GPU training as two processes on the CPU: ``python ddp_worker.py FOLDER``.

nnU-Net 2.8.1 runs it with CUDA and NCCL only. What says so is replaced here, in the worker processes; all else is its
own ``run_ddp``. With ``nnUNet_compile=t`` it compiles, as the device that tells the ranks apart is none of those on
which it refuses to. A teacher is trained, then its student, which is stopped after an epoch and continued as by
``--c``. Each process writes what it saw into FOLDER as ``{run}_rank{rank}.pth``, for ``test_multi_gpu.py``.
"""

from __future__ import annotations

import os
import sys
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from conftest import PLANS
from nnunetv2.evaluation import evaluate_predictions
from nnunetv2.run import run_training
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as trainer_module
from torch import distributed, multiprocessing, nn
from torch._dynamo.utils import counters
from torch.nn.parallel import DistributedDataParallel

WORLD_SIZE = 2
EPOCHS = 2
STEPS = 3
# both terms of the distillation
TEACHER, STUDENT = "nnUNetTrainerMeanImage_CosAnneal", "nnUNetTrainerShapeKDLogitsFeatures_CosAnneal"


class Stopped(Exception):
    """Stands for a training that is killed between two epochs."""


def work(rank: int, folder: Path) -> None:
    """One process' part of all trainings."""
    _replace_cuda_and_nccl()
    for run, trainer, options in (
        ("teacher", TEACHER, {}),
        ("stopped", STUDENT, {"stop": True}),
        ("student", STUDENT, {"continue_training": True}),
    ):
        os.environ["DDP_RENDEZVOUS"] = (folder / f"{run}_rendezvous").as_uri()
        torch.save(_train(rank, trainer, **options), folder / f"{run}_rank{rank}.pth")


def _replace_cuda_and_nccl() -> None:
    run_training.setup_ddp = lambda rank, world_size: distributed.init_process_group(
        "gloo", init_method=os.environ["DDP_RENDEZVOUS"], rank=rank, world_size=world_size
    )
    torch.cuda.set_device = lambda device: None
    # small buckets, so that there are several: where a network is compiled, it is split at their borders
    distributed._DEFAULT_FIRST_BUCKET_BYTES = 20_000
    trainer_module.DDP = lambda network, device_ids: DistributedDataParallel(network, bucket_cap_mb=0.02)
    # torch.load itself knows no "cpu:1", see below
    torch.serialization.register_package(0, lambda storage: None, lambda storage, location: storage)
    # for speed alone: the pools that write and score the validation's predictions start processes otherwise
    pools_of_threads = SimpleNamespace(get_context=lambda method: SimpleNamespace(Pool=ThreadPool))
    trainer_module.multiprocessing = evaluate_predictions.multiprocessing = pools_of_threads


def _train(rank: int, trainer_name: str, continue_training: bool = False, stop: bool = False) -> dict[str, Any]:
    """Run nnU-Net's ``run_ddp`` and return what this process saw of it."""
    seen: dict[str, Any] = {"data": [], "input": [], "losses": [], "distillation_losses": [], "graphs": []}
    torch._dynamo.reset()
    counters.clear()
    trainers = []
    original = run_training.get_trainer_from_args

    def get_trainer(*args, **kwargs):
        # other weights and batches on each rank: what is equal in the end was made equal by DDP
        torch.manual_seed(rank)
        np.random.seed(rank)
        trainer = original(*args, **kwargs)
        trainers.append(trainer)
        # the index does nothing on a CPU but tells whether something was moved to this rank's device
        trainer.device, trainer.grad_scaler = torch.device("cpu", rank), None
        trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = STEPS, 1
        trainer.num_epochs, trainer.save_every = EPOCHS, 1
        _record_steps(trainer, seen)
        if stop:
            _stop_before_the_second_epoch(trainer)
        return trainer

    run_training.get_trainer_from_args = get_trainer
    try:
        with _Recorder() as recorder:
            arguments = ("27", "2d", 0, trainer_name, PLANS, False, continue_training, False, None, False, False)
            run_training.run_ddp(rank, *arguments, WORLD_SIZE)
    except Stopped:
        run_training.cleanup_ddp()
    finally:
        run_training.get_trainer_from_args = original
    return seen | _state(trainers[0], recorder)


def _stop_before_the_second_epoch(trainer) -> None:
    original = trainer.on_epoch_start

    def on_epoch_start() -> None:
        if trainer.current_epoch == 1:
            raise Stopped
        original()

    trainer.on_epoch_start = on_epoch_start


def _record_steps(trainer, seen: dict[str, Any]) -> None:
    """Write what goes into the training steps and what comes out of them into ``seen``."""
    original = trainer.train_step

    def train_step(batch: dict) -> dict:
        seen["data"].append(batch["data"].clone())
        hook = trainer.network.register_forward_pre_hook(lambda network, args: seen["input"].append(args[0].clone()))
        result = original(batch)
        hook.remove()
        seen["losses"].append(float(result["loss"]))
        seen["distillation_losses"].append(float(result.get("distillation_loss", "nan")))
        seen["graphs"].append((counters["stats"]["unique_graphs"], counters["aot_autograd"]["total"]))
        return result

    trainer.train_step = train_step


class _Recorder:
    """Records, while it is entered, this process' written files and the modules' moves to devices."""

    written: set[str]
    moves: list[tuple[nn.Module, torch.device]]
    _current: _Recorder | None = None
    _hooked = False

    def __enter__(self) -> _Recorder:
        self.written, self.moves = set(), []
        if not _Recorder._hooked:  # an audit hook stays for good
            sys.addaudithook(_Recorder._audit)
            _Recorder._hooked = True
        _Recorder._current, self._to = self, nn.Module.to

        def to(module: nn.Module, *args, **kwargs) -> nn.Module:
            self.moves.append((module, args[0]))
            return self._to(module, *args, **kwargs)

        nn.Module.to = to
        return self

    def __exit__(self, *_) -> None:
        _Recorder._current, nn.Module.to = None, self._to

    @staticmethod
    def _audit(event: str, args: tuple) -> None:
        recorder = _Recorder._current
        if recorder is None:
            return
        if event == "open" and isinstance(args[0], (str, os.PathLike)) and args[2] & (os.O_WRONLY | os.O_RDWR):
            recorder.written.add(os.fspath(args[0]))
        elif event == "os.rename":
            recorder.written.add(os.fspath(args[1]))


def _plain(network: nn.Module) -> nn.Module:
    """A network without what compiles it."""
    return getattr(network, "_orig_mod", network)


def _state(trainer, recorder: _Recorder) -> dict[str, Any]:
    """What the test compares: weights, gradients, the teacher, the loss, the log, the files."""
    results = os.environ["nnUNet_results"]
    state = {
        "distributed": isinstance(trainer.network, DistributedDataParallel),
        "weights": _plain(trainer.network.module).state_dict(),
        "gradients": {name: parameter.grad for name, parameter in _plain(trainer.network.module).named_parameters()},
        "logging": trainer.logger.get_checkpoint(),
        "epoch": trainer.current_epoch,
        "written": sorted(Path(path).name for path in recorder.written if path.startswith(results)),
    }
    if hasattr(trainer, "teacher"):
        of_teacher = {parameter.data_ptr() for parameter in trainer.teacher.parameters()}
        optimised = [p for group in trainer.optimizer.param_groups for p in group["params"]]
        state |= {
            "teacher": _plain(trainer.teacher).state_dict(),
            "teacher_is_distributed": isinstance(trainer.teacher, DistributedDataParallel),
            "teacher_requires_grad": any(p.requires_grad for p in trainer.teacher.parameters()),
            "teacher_trains": any(module.training for module in trainer.teacher.modules()),
            "teacher_in_network": bool(of_teacher & {v.data_ptr() for v in trainer.network.state_dict().values()}),
            "teacher_in_optimiser": bool(of_teacher & {parameter.data_ptr() for parameter in optimised}),
            "teacher_devices": [str(device) for module, device in recorder.moves if module is _plain(trainer.teacher)],
            "segmentation_scale_weights": [float(w) for w in trainer.loss.segmentation.weight_factors],
            "distillation_scale_weights": [float(w) for w in trainer.loss.scale_weights],
        }
    return state


if __name__ == "__main__":
    multiprocessing.spawn(work, args=(Path(sys.argv[1]),), nprocs=WORLD_SIZE)
