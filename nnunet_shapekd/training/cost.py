"""What a teacher and its student cost beside stock nnU-Net, derived from the plans alone.

Everything runs on torch's meta device: shapes without values, so neither data nor memory nor a GPU is needed.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from nnunet_shapekd.method.class_mean import VoxelClasses
from nnunet_shapekd.method.distillation import outputs_and_features
from nnunet_shapekd.training.settings import read_settings


@dataclass(frozen=True)
class PairCost:
    """Cost of one training step; a multiplication with its addition is two FLOPs.

    Memory is the peak of all tensors alive at a time in float32, without the convolutions' workspace: an estimate from
    above, because mixed precision and ``torch.compile`` need less.
    """

    student_parameters: int
    teacher_parameters: int
    #: forward and backward of the student alone: what stock nnU-Net computes
    stock_step_flops: int
    #: the same, and the teacher's forward
    student_step_flops: int
    #: forward and backward of the teacher, in its own training
    teacher_step_flops: int
    stock_peak_bytes: int
    student_peak_bytes: int

    @property
    def teacher_forward_flops(self) -> int:
        """What distillation adds to each of the student's steps."""
        return self.student_step_flops - self.stock_step_flops

    @property
    def step_ratio(self) -> float:
        """FLOPs of a student's step over those of a stock step."""
        return self.student_step_flops / self.stock_step_flops

    @property
    def pair_ratio(self) -> float:
        """FLOPs of teacher's and student's training, both of the same length, over those of stock training."""
        return (self.student_step_flops + self.teacher_step_flops) / self.stock_step_flops

    @property
    def memory_ratio(self) -> float:
        """Peak memory of a student's step over that of a stock step."""
        return self.student_peak_bytes / self.stock_peak_bytes

    def __str__(self) -> str:
        student, teacher = self.student_parameters / 1e6, self.teacher_parameters / 1e6
        rows = (
            ("", "stock nnU-Net", "student", "teacher's own training"),
            ("parameters", f"{student:.1f} M", "the same", f"{teacher:.1f} M"),
            (
                "computation",
                f"{self.stock_step_flops / 1e9:,.1f} GFLOPs",
                f"{self.step_ratio:.2f} x stock",
                f"{self.teacher_step_flops / self.stock_step_flops:.2f} x stock",
            ),
            ("peak memory", f"{self.stock_peak_bytes / 2**30:.2f} GiB", f"{self.memory_ratio:.2f} x stock", ""),
        )
        table = "\n".join(f"  {a:<13}{b:<18}{c:<15}{d}".rstrip() for a, b, c, d in rows)
        return (
            "Cost of a training step, derived from the plans (memory in float32; mixed precision needs less):\n"
            f"{table}\nTeacher and student together, trained equally long: {self.pair_ratio:.2f} x the computation of "
            "stock nnU-Net. Prediction costs the same."
        )


def pair_cost(
    student_trainer_class: type[nnUNetTrainer],
    teacher_trainer_class: type[nnUNetTrainer],
    plans_manager: PlansManager,
    configuration_manager: ConfigurationManager,
    dataset_json: dict,
    batch_size: int | None = None,
) -> PairCost:
    """Count parameters, FLOPs and memory of a teacher and its student.

    The networks are the trainers' own, with deep supervision; which distillation terms there are is read from the
    student's settings. Takes some seconds for the largest plans.

    Args:
        student_trainer_class: a ``ShapeKD`` trainer.
        teacher_trainer_class: its ``MeanImage`` trainer.
        plans_manager: the plans of both.
        configuration_manager: the configuration of both; the patch size is its.
        dataset_json: the dataset's, for the numbers of channels and labels.
        batch_size: of one step; ``None`` for that of the plans. On several GPUs each has a part of it.
    """
    labels = plans_manager.get_label_manager(dataset_json)
    input_channels = determine_num_input_channels(plans_manager, configuration_manager, dataset_json)
    arguments = (plans_manager, configuration_manager, input_channels, labels.num_segmentation_heads, True)
    with torch.device("meta"):
        student = student_trainer_class.build_network_architecture(*arguments)
        teacher = teacher_trainer_class.build_network_architecture(*arguments)
        batch = torch.empty(
            (batch_size or configuration_manager.batch_size, input_channels, *configuration_manager.patch_size)
        )
    settings, _ = read_settings(student_trainer_class, os.environ)
    weighted = student_trainer_class.distillation_terms(settings, VoxelClasses.of_dataset(labels))
    terms = [term for weight, term in weighted if weight]
    stock_step_flops, stock_peak_bytes = step_cost(student, batch)
    student_step_flops, student_peak_bytes = step_cost(student, batch, teacher, terms)
    teacher_step_flops, _ = step_cost(teacher, batch)
    return PairCost(
        student_parameters=sum(weight.numel() for weight in student.parameters()),
        teacher_parameters=sum(weight.numel() for weight in teacher.parameters()),
        stock_step_flops=stock_step_flops,
        student_step_flops=student_step_flops,
        teacher_step_flops=teacher_step_flops,
        stock_peak_bytes=stock_peak_bytes,
        student_peak_bytes=student_peak_bytes,
    )


def step_cost(
    network: nn.Module,
    batch: torch.Tensor,
    teacher: nn.Module | None = None,
    terms: Sequence[nn.Module] = (),
) -> tuple[int, int]:
    """FLOPs of a training step, and the peak of the bytes alive in it: weights, gradients, momentum, activations.

    nnU-Net's loss for plain labels at every scale is the segmentation loss, for regions, too.

    Args:
        network: what is trained; on the meta device, without gradients.
        batch: ``(b, c, x, y[, z])`` images on the meta device.
        teacher: ``None`` for a step without distillation. It runs first and without gradients; its outputs stay until
            the loss.
        terms: of the distillation, see :class:`~nnunet_shapekd.method.distillation.DistilledLoss`.
    """
    segmentation_loss = DC_and_CE_loss(
        {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}, {}, dice_class=MemoryEfficientSoftDiceLoss
    )
    live = LiveBytes()
    for module in (network, teacher or nn.Module()):
        live.follow([*module.parameters(), *module.buffers()])
    live.follow([batch])
    with torch.device("meta"), FlopCounterMode(display=False) as counter, live:
        momentum = [torch.empty_like(weight) for weight in network.parameters()]  # nnU-Net's SGD keeps it
        if teacher is not None:
            with torch.no_grad():
                teacher_outputs, teacher_features = outputs_and_features(teacher, batch)
                if not any(term.compares == "features" for term in terms):
                    teacher_features = None  # frees it before the student runs
        outputs, features = outputs_and_features(network, batch)
        loss = torch.zeros(())
        for scale, output in enumerate(outputs):
            loss = loss + segmentation_loss(output, torch.zeros((output.shape[0], 1, *output.shape[2:])))
            if teacher is not None:
                for term in terms:
                    if term.compares == "logits":
                        loss = loss + term(output, teacher_outputs[scale])
                    elif scale == 0:
                        loss = loss + term(features, teacher_features)
        loss.backward()
        del momentum
    network.zero_grad(set_to_none=True)
    return counter.get_total_flops(), live.peak


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages made under it, from their making to their end, and remembers the peak."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._known: set[int] = set()

    def follow(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()  # views share one; its Python object lives as long as itself
            if storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self.alive += storage.nbytes()
                weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.alive)

    def _forget(self, key: int, nbytes: int) -> None:
        self._known.discard(key)
        self.alive -= nbytes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.follow(leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor))
        return result


def size_text(nbytes: int) -> str:
    """In GiB or MiB."""
    return f"{nbytes / 2**30:.2f} GiB" if nbytes >= 2**30 else f"{nbytes / 2**20:.0f} MiB"
