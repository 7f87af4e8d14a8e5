"""What a user is told whose memory runs out in a student's training step."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.dataset_name_id_conversion import convert_dataset_name_to_id

from nnunet_shapekd.training.cost import PairCost, pair_cost, size_text


@dataclass(frozen=True)
class DeviceMemory:
    """What a device has; ``None`` for what cannot be known."""

    device: str
    total_bytes: int | None = None
    #: for every program on it
    free_bytes: int | None = None
    #: of this process so far
    peak_bytes: int | None = None

    def __str__(self) -> str:
        parts = ((self.total_bytes, "in all"), (self.free_bytes, "free"), (self.peak_bytes, "at this process's peak"))
        known = ", ".join(f"{size_text(number)} {what}" for number, what in parts if number is not None)
        return f"{self.device}: {known or 'its memory is not known'}"


def device_memory(device: torch.device) -> DeviceMemory:
    """The memory of a CUDA device, or of the machine for the CPU; without numbers for any other device."""
    if device.type == "cuda":
        try:
            free, total = torch.cuda.mem_get_info(device)
        except RuntimeError:  # some errors leave CUDA unusable
            return DeviceMemory(str(device))
        # what tensors took, without the allocator's reserve
        return DeviceMemory(str(device), total, free, torch.cuda.max_memory_allocated(device))
    if device.type == "cpu" and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):  # not on Windows
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return DeviceMemory("cpu", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), peak_bytes=peak)
    return DeviceMemory(str(device))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch has an exception of its own for that on a GPU only."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # the CPU allocator on Linux and macOS, on Windows; C++; MPS and CUDA itself; cuBLAS and cuDNN
    words = "allocate memory|not enough memory|bad_alloc|out of memory|ALLOC_FAILED"
    return isinstance(error, RuntimeError) and bool(re.search(words, str(error)))


def out_of_memory_message(step: str, cost: PairCost | None, memory: DeviceMemory, replan: str) -> str:
    """What a user whose memory ran out needs to know.

    Args:
        step: what ran out of memory.
        cost: of the pair, at the batch size of the step; ``None`` if it cannot be derived.
        memory: of the device.
        replan: how to make smaller plans and train with them.
    """
    lines = [f"Out of memory in {step}."]
    if cost is None:
        lines.append("What stock nnU-Net and this pair need cannot be derived for these trainers.")
    else:
        lines.append(
            "Estimated peak of a step in float32 (mixed precision needs less, convolutions' workspace comes on top): "
            f"stock nnU-Net {size_text(cost.stock_peak_bytes)}, student with its teacher "
            f"{size_text(cost.student_peak_bytes)} ({cost.memory_ratio:.2f} x stock)."
        )
    lines.append(f"{memory}.")
    if cost is not None and memory.total_bytes is not None:
        if cost.stock_peak_bytes > memory.total_bytes:
            lines.append("By this estimate stock nnU-Net itself does not fit: it is not the distillation.")
        elif cost.student_peak_bytes > memory.total_bytes:
            lines.append(
                "By this estimate stock nnU-Net fits, and the distillation's "
                f"{size_text(cost.student_peak_bytes - cost.stock_peak_bytes)} are too much."
            )
        else:
            lines.append("By this estimate both fit: see what other programs hold, and limits set on this one.")
    lines.append(f"What helps are smaller patches or batches: {replan}")
    return "\n".join(lines)


@contextmanager
def explained_out_of_memory(student: nnUNetTrainer, step: str) -> Iterator[None]:
    """Explain with numbers what a student's training step lacks memory for; every other error passes.

    Args:
        student: a ``ShapeKD`` trainer that has its teacher.
        step: what is done inside, for the message.

    Raises:
        torch.OutOfMemoryError: from the error that says so, on every device.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        try:
            cost = pair_cost(
                type(student),
                student.teacher_class,
                student.plans_manager,
                student.configuration_manager,
                student.dataset_json,
                student.batch_size,
            )
        except Exception:  # of a network of a user's own, say: what ran out must be told nevertheless
            cost = None
        message = out_of_memory_message(
            f"{step} of {type(student).__name__} (batch size {student.batch_size}, patch size "
            f"{' x '.join(map(str, student.configuration_manager.patch_size))})",
            cost,
            device_memory(student.device),
            _replanning(student),
        )
        raise torch.OutOfMemoryError(message) from error


def _replanning(trainer: nnUNetTrainer) -> str:
    dataset = convert_dataset_name_to_id(trainer.plans_manager.dataset_name)
    planner = trainer.plans_manager.plans.get("experiment_planner_used", "ExperimentPlanner")
    # the cascade's second stage has no preprocessed data of its own, and needs the first
    configurations = trainer.configuration_name.replace("3d_cascade_fullres", "3d_lowres 3d_fullres")
    return (
        "new plans, for teacher and student, with GB below what these were made for:\n"
        f"    nnUNetv2_plan_experiment -d {dataset} -pl {planner} -gpu_memory_target GB -overwrite_plans_name SMALLER\n"
        f"    nnUNetv2_preprocess -d {dataset} -plans_name SMALLER -c {configurations}\n"
        "    and both trainings with -p SMALLER"
    )
