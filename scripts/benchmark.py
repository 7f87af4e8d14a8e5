"""Measures what the method costs beside stock nnU-Net: training steps, prediction, class mean, on synthetic data.

    python scripts/benchmark.py                                       # on the GPU if there is one, else on the CPU
    python scripts/benchmark.py --device cpu --cases 2d-plain-4 --rounds 15 --threads 1 -o benchmark.json

A case is plans, network (PlainConv or ResEnc) and number of classes. The plans are those nnU-Net makes for ACDC; on the
CPU with a batch of 2, and in 3d a smaller patch. (A batch of 1, which nnU-Net never plans, makes torch take other, slow
3d convolutions on a CPU.) A step is ``train_step`` of a real trainer; on a GPU it has AMP and
is measured compiled and not compiled. A teacher of width 0.5 has half the planned feature maps.

All contenders of a table live in one process and take turns in every round, in a drawn order. "ms" is the
median of one call of the first, "ratio" the median of the rounds' ratios of the first to the second; its interval holds
the true median with at least 95 % (order statistics; fewer than 6 rounds cannot do that and give their range).

- FLOP bound: what the ratio would be if only convolutions took time, by torch's counter.
- student step / stock step + teacher forward + class mean: what is above 1 are the loss and the parts' company.
- loss, loss with distillation / stock step: forward and backward of the losses alone, on given logits.
- class mean / stock step: with the classes from the target, as in a step. loop, one-hot, ... / class mean: other ways.
- moves step / stock step: a moved sample comes from the data loader, so that a step costs nothing more; with a teacher,
  that is asked about the sample as it was, against the student's step.
- batches: read and augmented with one thread in this process as by a worker of nnU-Net's data loader, of the plans' own
  size, half of the samples moved, as in training; "moves of a batch" is that alone, of every sample.
- student's / stock prediction: sliding windows; equal weights, and checked to give equal outputs.
- MiB: the peak. Of a step on a GPU: of all tensors, one trainer at a time. On the CPU: of the whole process (RSS; Linux
  only), one process for each trainer; "at start" is before the first step. Of a class mean: of all tensors it makes.

The tables are also written as JSON, with versions and hardware.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import itertools
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from benchmark_batches import BATCH, BATCH_AND_AS_IT_WAS, MOVED_BATCH, MOVES_ALONE, batches, one_thread
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_shapekd import __version__
from nnunet_shapekd.evaluation.tables import aligned
from nnunet_shapekd.files.output import new_file
from nnunet_shapekd.method.class_mean import class_mean_image
from nnunet_shapekd.training.cost import LiveBytes, PairCost, pair_cost
from nnunet_shapekd.training.moves import IntensityMoves, MeanJitter
from nnunet_shapekd.training.student import ShapeKD
from nnunet_shapekd.training.teacher import MeanImage

Contenders = dict[str, Callable[[], object]]

PARTS = ("steps", "class-means", "batches", "predictions")
CASES = ("2d-plain-4", "2d-plain-14", "2d-resenc-4", "3d-plain-4", "3d-plain-14", "3d-resenc-4")
DATASET = "Dataset001_Benchmark"
STOCK, TEACHER, MOVES, CLASS_MEAN = "stock step", "teacher step", "mean jitter step", "class mean"
LOSS, DISTILLED_LOSS = "loss", "loss with distillation"
INTENSITY_MOVES = "moves step"
STUDENT_WITH_MOVES = "student step with moves, teacher of width 1"
STOCK_PREDICTION, PREDICTION = "stock prediction", "student's prediction"

#: nnU-Net's default trainer as student, with moves of intensities, and as teachers by width
STUDENT = type("nnUNetTrainerShapeKD", (ShapeKD, nnUNetTrainer), {})
MOVED = type("nnUNetTrainerIntensityMoves", (IntensityMoves, nnUNetTrainer), {})
MOVED_STUDENT = type("nnUNetTrainerShapeKDIntensityMoves", (ShapeKD, IntensityMoves, nnUNetTrainer), {})
MEAN_JITTER = type("nnUNetTrainerMeanJitter", (MeanJitter, nnUNetTrainer), {})
TEACHERS = {w: type("nnUNetTrainerMeanImage", (MeanImage, nnUNetTrainer), {"width": w}) for w in (1.0, 0.5, 0.25)}


@dataclass(frozen=True)
class Setup:
    """What is measured: a case, such as ``3d-plain-14``, and where."""

    case: str
    device: str = "cpu"
    compile: bool = False
    batch: int | None = None
    tiny: bool = False
    #: patch and batch as planned on the CPU, too
    planned: bool = False

    @property
    def parts(self) -> tuple[str, str, int]:
        plan, network, classes = self.case.split("-")
        return plan, network, int(classes)

    @property
    def dataset(self) -> dict:
        labels = {"background": 0, **{f"label {label}": label for label in range(1, self.parts[2])}}
        return {"labels": labels, "channel_names": {"0": "MRI"}, "file_ending": ".nii.gz"}


@dataclass
class Row:
    """One line of a table; ``None`` where there is no such number."""

    what: str
    against: str
    median_ms: float
    ratio: float
    low: float
    high: float
    flop_bound: float | None = None
    memory_bytes: int | None = None
    memory_at_start_bytes: int | None = None
    #: to the peak of a stock step
    memory_ratio: float | None = None


def plans_of(setup: Setup) -> dict:
    """Plans with one configuration, called "any", as nnU-Net's planners (2.8.1) make them for ACDC."""
    plan, network, _ = setup.parts
    if plan == "2d":
        size, batch = [256, 224], 56 if setup.device == "cuda" or setup.planned else 2
        features, kernels = [32, 64, 128, 256, 512, 512], [[3, 3]] * 6
        strides = [[1, 1]] + [[2, 2]] * 5
    else:
        size, batch = ([20, 256, 224], 4) if setup.device == "cuda" or setup.planned else ([8, 64, 96], 2)
        features, kernels = [32, 64, 128, 256, 320, 320], [[1, 3, 3]] + [[3, 3, 3]] * 5
        strides = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2], [1, 2, 2]]
    dim, stages = len(size), 6
    if setup.tiny:
        size, batch, features, stages = ([4, 32, 32])[-dim:], 2, [4, 8, 8], 3
    if network == "resenc":
        class_name, decoder = "ResidualEncoderUNet", [1] * (stages - 1)
        encoder = {"n_blocks_per_stage": [1, 3, 4, 6, 6, 6][:stages]}
    else:
        class_name, decoder, encoder = "PlainConvUNet", [2] * (stages - 1), {"n_conv_per_stage": [2] * stages}
    arguments = {
        "n_stages": stages,
        "features_per_stage": features,
        "conv_op": f"torch.nn.modules.conv.Conv{dim}d",
        "kernel_sizes": kernels[:stages],
        "strides": strides[:stages],
        **encoder,
        "n_conv_per_stage_decoder": decoder,
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dim}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        **{"dropout_op": None, "dropout_op_kwargs": None},
        **{"nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}},
    }
    class_path = f"dynamic_network_architectures.architectures.unet.{class_name}"
    architecture = {"network_class_name": class_path, "arch_kwargs": arguments}
    architecture["_kw_requires_import"] = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    configuration = {"data_identifier": "data", "batch_dice": plan == "2d", "architecture": architecture}
    configuration["use_mask_for_norm"] = [False]
    configuration |= {"patch_size": size, "batch_size": setup.batch or batch, "spacing": [10, 1.5625, 1.5625][-dim:]}
    names = {"dataset_name": DATASET, "plans_name": "nnUNetPlans", "label_manager": "LabelManager"}
    return {**names, "configurations": {"any": configuration}}


@contextlib.contextmanager
def nnunet_environment(setup: Setup) -> Iterator[None]:
    """Folders for nnU-Net, without any data, and a switch for its compilation."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SHAPEKD_")}
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, kept, clear=True):
        os.environ.update({f"nnUNet_{room}": f"{folder}/{room}" for room in ("raw", "preprocessed", "results")})
        os.environ.update(nnUNet_compile="t" if setup.compile else "f", nnUNet_wandb_enabled="0")
        data = Path(folder, "preprocessed", DATASET, "data")
        data.mkdir(parents=True)
        (data / "case.b2nd").touch()  # nnU-Net infers the files' format from their names
        torch._dynamo.reset()  # other networks' shapes before would make these ones' dynamic
        yield


def trainer_of(trainer_class: type[nnUNetTrainer], setup: Setup) -> nnUNetTrainer:
    plans = {**plans_of(setup), "continue_training": False}
    with contextlib.redirect_stdout(io.StringIO()):
        trainer = trainer_class(plans, "any", 0, setup.dataset, torch.device(setup.device))
        trainer.initialize()
    trainer.network.train()
    return trainer


def batch_of(trainer: nnUNetTrainer) -> dict:
    """Noise and regions that hang together, mostly background, as nnU-Net's loaders deliver them.

    int16 labels, a list of scales, finest first; in pinned memory for a GPU. White noise as labels would meet other
    caches and atomics than a segmentation does.
    """
    generator = torch.Generator().manual_seed(0)
    size, n = trainer.configuration_manager.patch_size, trainer.batch_size
    coarse = [max(4, s // 16) for s in size]
    fields = torch.randn(n, len(trainer.label_manager.all_labels), *coarse, generator=generator)
    fields[:, 0] += 1.5
    labels = F.interpolate(fields, size, mode="bilinear" if len(size) == 2 else "trilinear").argmax(1, keepdim=True)
    scales = [
        [round(s * f) for s, f in zip(size, scale, strict=True)] for scale in trainer._get_deep_supervision_scales()
    ]
    batch = {
        "data": torch.randn(n, trainer.num_input_channels, *size, generator=generator),
        "target": [F.interpolate(labels.float(), scale, mode="nearest-exact").short() for scale in scales],
    }
    if trainer.device.type == "cuda":
        batch = {"data": batch["data"].pin_memory(), "target": [target.pin_memory() for target in batch["target"]]}
    return batch


def own_step(trainer_class: type[nnUNetTrainer], name: str, setup: Setup) -> Contenders:
    trainer = trainer_of(trainer_class, setup)
    return {name: partial(trainer.train_step, batch_of(trainer))}


def student_name(width: float) -> str:
    return f"student step, teacher of width {width:g}"


def forward_name(width: float) -> str:
    return f"teacher forward, width {width:g}"


def student_steps(widths: Iterable[float], setup: Setup) -> Contenders:
    """The steps of one student with teachers of several widths, and the parts that are not nnU-Net's own."""
    student = trainer_of(STUDENT, setup)
    batch = batch_of(student)
    data, _, finest = student._on_device(batch)
    means = student._with_image(TEACHERS[1.0].teacher_input, data, finest)

    def step(teacher_class: type[MeanImage], teacher: nn.Module) -> None:
        student.teacher_class, student.teacher = teacher_class, teacher
        student.train_step(batch)

    def forward(teacher: nn.Module) -> None:
        with torch.no_grad(), torch.autocast(setup.device, enabled=setup.device == "cuda"):
            teacher(means)

    contenders: Contenders = {
        CLASS_MEAN: partial(student._with_image, TEACHERS[1.0].teacher_input, data, finest),
        **losses(student, batch),
    }
    for width in widths:
        teacher = frozen_teacher(TEACHERS[width], student)
        contenders[student_name(width)] = partial(step, TEACHERS[width], teacher)
        contenders[forward_name(width)] = partial(forward, teacher)
    return contenders


def moved_student_step(setup: Setup) -> Contenders:
    """The step of a student with moves of intensities, whose batches hold the samples as they were, too."""
    student = trainer_of(MOVED_STUDENT, setup)
    student.teacher_class, student.teacher = TEACHERS[1.0], frozen_teacher(TEACHERS[1.0], student)
    batch = batch_of(student)
    both = torch.cat((batch["data"], batch["data"]), 1)
    batch["data"] = both.pin_memory() if setup.device == "cuda" else both
    return {STUDENT_WITH_MOVES: partial(student.train_step, batch)}


def worker_batches(setup: Setup) -> Contenders:
    """What a data loader's worker does for a batch of the plans' size, with and without moves; on the CPU."""
    setup = replace(setup, device="cpu", compile=False, planned=True)
    kinds = {BATCH: nnUNetTrainer, MOVED_BATCH: MOVED, BATCH_AND_AS_IT_WAS: MOVED_STUDENT}
    trainers = {name: trainer_of(kind, setup) for name, kind in kinds.items()}
    return batches(trainers, batch_of(trainers[BATCH]))


def losses(student: nnUNetTrainer, batch: dict) -> Contenders:
    """Forward and backward of a student's loss alone, without and with distillation, on given logits."""
    _, target, _ = student._on_device(batch)
    amp = student.device.type == "cuda"
    shapes = [(t.shape[0], student.label_manager.num_segmentation_heads, *t.shape[2:]) for t in target]
    made = partial(torch.randn, device=student.device, dtype=torch.float16 if amp else torch.float32)
    logits, of_teacher = [made(shape, requires_grad=True) for shape in shapes], [made(shape) for shape in shapes]
    weighted = [x for x, weight in zip(logits, student.loss.scale_weights, strict=True) if weight]

    def both_ways(teacher_logits: list[torch.Tensor] | None) -> None:
        student.loss.teacher_logits = teacher_logits
        with torch.autocast(student.device.type, enabled=amp):
            loss = student.loss(logits, target)
        torch.autograd.grad(loss, weighted)

    return {LOSS: partial(both_ways, None), DISTILLED_LOSS: partial(both_ways, of_teacher)}


def frozen_teacher(teacher_class: type[MeanImage], student: nnUNetTrainer) -> nn.Module:
    """An untrained teacher, made ready as a student's trainer does it with a trained one."""
    teacher = network_of(teacher_class, student, student.enable_deep_supervision)
    teacher = teacher.eval().requires_grad_(False).to(student.device)
    return torch.compile(teacher) if student._do_i_compile() else teacher


def network_of(trainer_class: type[nnUNetTrainer], trainer: nnUNetTrainer, deep_supervision: bool) -> nn.Module:
    return trainer_class.build_network_architecture(
        trainer.plans_manager,
        trainer.configuration_manager,
        trainer.num_input_channels,
        trainer.label_manager.num_segmentation_heads,
        deep_supervision,
    )


#: name of a step -> what makes it, beside others
STEPS: dict[str, Callable[[Setup], Contenders]] = {
    STOCK: partial(own_step, nnUNetTrainer, STOCK),
    TEACHER: partial(own_step, TEACHERS[1.0], TEACHER),
    MOVES: partial(own_step, MEAN_JITTER, MOVES),
    INTENSITY_MOVES: partial(own_step, MOVED, INTENSITY_MOVES),
    STUDENT_WITH_MOVES: moved_student_step,
    **{student_name(width): partial(student_steps, (width,)) for width in TEACHERS},
}


def predictions(setup: Setup) -> Contenders:
    """Sliding-window prediction by a stock network and by a student's, with the same weights."""
    student = trainer_of(STUDENT, setup)
    weights = student._plain_network().state_dict()
    size = list(student.configuration_manager.patch_size)
    shape = [4, *size] if len(size) == 2 else [*size[:-1], size[-1] * 3 // 2]  # 4 slices, 2 windows
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    contenders: Contenders = {}
    for name, trainer_class in ((STOCK_PREDICTION, nnUNetTrainer), (PREDICTION, STUDENT)):
        network = network_of(trainer_class, student, deep_supervision=False)
        network.load_state_dict(weights)
        with contextlib.redirect_stdout(io.StringIO()):
            predictor = nnUNetPredictor(use_mirroring=False, device=student.device, allow_tqdm=False)
            arguments = (network, student.plans_manager, student.configuration_manager, None, student.dataset_json)
            predictor.manual_initialization(*arguments, trainer_class.__name__, None)
        contenders[name] = partial(predictor.predict_sliding_window_return_logits, image)
    stock, of_student = (predict().float() for predict in contenders.values())
    # a GPU may choose other algorithms for the same convolution
    tolerance = 1e-2 * stock.abs().max().item() if setup.device == "cuda" else 0.0
    torch.testing.assert_close(of_student, stock, rtol=0, atol=tolerance)
    return contenders


def paper_loop(image: torch.Tensor, target: torch.Tensor, number: int) -> torch.Tensor:
    """Samples and classes one by one, with boolean masks, as in the code published with the paper."""
    result = torch.zeros_like(image)
    for sample, labels, means in zip(image, target, result, strict=True):
        for label in range(number):
            mask = labels[0] == label
            if mask.any():
                means[:, mask] = sample[:, mask].mean(1, keepdim=True)
    return result


def one_hot_matmul(image: torch.Tensor, target: torch.Tensor, number: int) -> torch.Tensor:
    one_hot = (target.flatten(2) == torch.arange(number, device=image.device)[:, None]).to(image.dtype)  # (b, k, n)
    means = image.flatten(2) @ one_hot.mT / one_hot.sum(2).clamp_min(1)[:, None]  # (b, c, k)
    return (means @ one_hot).view_as(image)


def flat_scatter_add(image: torch.Tensor, target: torch.Tensor, number: int) -> torch.Tensor:
    """As :func:`class_mean_image`, without the stage of rows."""
    labels, x = target.flatten(2).long(), image.flatten(2)
    count = x.new_zeros(x.shape[0], 1, number).scatter_add_(2, labels, torch.ones_like(x[:, :1]))
    labels = labels.expand_as(x)
    total = x.new_zeros(*x.shape[:2], number).scatter_add_(2, labels, x)
    return (total / count.clamp_min(1)).gather(2, labels).view_as(image)


def bincount(image: torch.Tensor, target: torch.Tensor, number: int) -> torch.Tensor:
    rows = torch.arange(image.shape[0] * image.shape[1], device=image.device).view(*image.shape[:2], 1)
    labels = (target.flatten(2).long() + number * rows).flatten()
    count = torch.bincount(labels, minlength=number * rows.numel()).clamp_min(1)
    total = torch.bincount(labels, weights=image.flatten(), minlength=number * rows.numel())
    return (total / count).to(image.dtype)[labels].view_as(image)


WAYS = {
    CLASS_MEAN: class_mean_image,
    "loop over samples and classes": paper_loop,
    "one-hot matmul": one_hot_matmul,
    "flat scatter_add": flat_scatter_add,
    "bincount": bincount,
}


def class_means(setup: Setup) -> Contenders:
    trainer = trainer_of(nnUNetTrainer, setup)
    batch = batch_of(trainer)
    data, target = batch["data"].to(trainer.device), batch["target"][0].to(trainer.device)
    return {name: partial(way, data, target, setup.parts[2]) for name, way in WAYS.items()}


def measure(contenders: Contenders, device: str, rounds: int, warmup: int, at_least: float) -> dict[str, list[float]]:
    """Seconds of a call of each contender in each round; warm-up rounds come before the first.

    Calls are repeated until a turn takes ``at_least`` so many seconds. ``device`` "cuda" is waited for.
    """
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None

    def turn(call: Callable[[], object], repeats: int) -> float:
        synchronize()
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        synchronize()
        return (time.perf_counter() - started) / repeats

    for _ in range(warmup):
        repeats = {name: min(100, math.ceil(at_least / turn(call, 1))) or 1 for name, call in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    draw = random.Random(0)
    for _ in range(rounds):
        for name in draw.sample(list(contenders), len(contenders)):
            seconds[name].append(turn(contenders[name], repeats[name]))
    return seconds


def median_and_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """The median, and the narrowest symmetric pair of order statistics that covers the true one with ``confidence``.

    Distribution-free: how many of n values lie below the true median is binomial. Where n is too small for any pair,
    the range.
    """
    values, n = sorted(values), len(values)
    rank, outside = 1, 2 / 2**n  # the chance that the true median is not between the first and the last
    while (more := outside + 2 * math.comb(n, rank) / 2**n) <= 1 - confidence:
        rank, outside = rank + 1, more
    return statistics.median(values), values[rank - 1], values[-rank]


def row_of(seconds: dict[str, list[float]], what: str, *against: str, flop_bound: float | None = None) -> Row:
    """The ratio of a contender to another, or to the sum of others, round by round."""
    sums = [sum(parts) for parts in zip(*(seconds[name] for name in against), strict=True)]
    ratios = [one / other for one, other in zip(seconds[what], sums, strict=True)]
    median_ms = 1000 * statistics.median(seconds[what])
    return Row(what, " + ".join(against), median_ms, *median_and_interval(ratios), flop_bound)


def memory_here(setup: Setup, name: str) -> tuple[int, int]:
    """Bytes before the first step, and at the peak.

    On a GPU that of later steps: in the first ones cuDNN tries its algorithms, which take what workspace they like, and
    mixed precision finds its scale, before which the optimiser has no momentum.
    """
    with nnunet_environment(setup):
        step = STEPS[name](setup)[name]
        gc.collect()
        if setup.device == "cuda":
            before = torch.cuda.memory_allocated()
            for _ in range(8):
                step()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        else:
            before = resident_bytes("VmRSS")
        step()
        step()  # with the momentum that the first one made
        return before, torch.cuda.max_memory_allocated() if setup.device == "cuda" else resident_bytes("VmHWM")


def resident_bytes(what: str) -> int:
    """VmRSS or VmHWM, its peak, of this process; Linux. (getrusage's peak is inherited from the parent process.)"""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{what}:")[1].split()[0])


def memory_of(setup: Setup, name: str) -> tuple[int, int] | None:
    """:func:`memory_here`, on the CPU in a process of its own, since its peak never goes down."""
    if setup.device == "cuda":
        return memory_here(setup, name)
    if sys.platform != "linux":
        return None
    command = [sys.executable, __file__, "--memory-of", json.dumps([asdict(setup), name])]
    command += ["--threads", str(torch.get_num_threads())]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return tuple(json.loads(found.splitlines()[-1]))


def flop_counts(setup: Setup) -> tuple[PairCost, dict[float, int]]:
    """Of a stock step and a teacher's own, and of each width's teacher forward, without any computation."""
    plans = PlansManager(plans_of(setup))
    configuration = plans.get_configuration("any")
    shape = configuration.batch_size, 1, *configuration.patch_size
    forward = {}
    for width, teacher in TEACHERS.items():
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            teacher.build_network_architecture(plans, configuration, 1, setup.parts[2])(torch.empty(shape))
        forward[width] = counter.get_total_flops()
    return pair_cost(STUDENT, TEACHERS[1.0], plans, configuration, setup.dataset), forward


def tensor_bytes(call: Callable[[], object]) -> int:
    """The peak of all tensors that a call makes."""
    with LiveBytes() as live:
        call()
    return live.peak


def benchmark(setup: Setup, rounds: int, with_memory: bool, parts: Sequence[str] = PARTS) -> list[Row]:
    """Everything about one setup, or some ``PARTS`` of it."""
    warmup, at_least = (3 if setup.device == "cuda" else 2), (0.0 if setup.tiny else 0.05)
    timed = partial(measure, device=setup.device, rounds=rounds, warmup=warmup, at_least=at_least)
    rows = []
    if "steps" in parts:
        peaks = {name: memory_of(setup, name) for name in STEPS} if with_memory else {}
        with nnunet_environment(setup):
            cost, forward_flops = flop_counts(setup)
            alone = (STOCK, TEACHER, MOVES, INTENSITY_MOVES, STUDENT_WITH_MOVES)
            steps = {what: step for name in alone for what, step in STEPS[name](setup).items()}
            rows += step_rows(timed({**steps, **student_steps(TEACHERS, setup)}), cost, forward_flops)
        for row in rows:
            if peaks.get(row.what) and row.against == STOCK:
                row.memory_at_start_bytes, row.memory_bytes = peaks[row.what]
                row.memory_ratio = row.memory_bytes / peaks[STOCK][1]
    if "class-means" in parts:
        with nnunet_environment(setup):
            ways = class_means(setup)
            way_bytes = {name: tensor_bytes(way) for name, way in ways.items()}
            of_ways = timed(ways)
        for name in WAYS:
            rows.append(row_of(of_ways, name, CLASS_MEAN))
            rows[-1].memory_bytes = way_bytes[name]
    if "batches" in parts:
        with nnunet_environment(setup), one_thread():
            # what nnU-Net draws for a sample makes one ten times as dear as another: many a turn
            found = timed(worker_batches(setup), device="cpu", at_least=40 * at_least)
        rows += [row_of(found, name, BATCH) for name in (BATCH, MOVES_ALONE, MOVED_BATCH, BATCH_AND_AS_IT_WAS)]
    if "predictions" in parts:
        with nnunet_environment(setup):
            predicted = timed(predictions(setup))
        rows.append(row_of(predicted, PREDICTION, STOCK_PREDICTION, flop_bound=1.0))
    return rows


def step_rows(steps: dict[str, list[float]], cost: PairCost, forward_flops: dict[float, int]) -> list[Row]:
    """What the steps and their parts cost beside a stock step; of the teachers' widths that were timed."""
    rows = [row_of(steps, name, STOCK) for name in (STOCK, CLASS_MEAN, LOSS, DISTILLED_LOSS)]
    rows.append(row_of(steps, TEACHER, STOCK, flop_bound=cost.teacher_step_flops / cost.stock_step_flops))
    rows += [row_of(steps, name, STOCK, flop_bound=1.0) for name in (MOVES, INTENSITY_MOVES) if name in steps]
    for width, flops in forward_flops.items():
        student, forward, added = student_name(width), forward_name(width), flops / cost.stock_step_flops
        if student in steps:
            rows += [
                row_of(steps, forward, STOCK, flop_bound=added),
                row_of(steps, student, STOCK, flop_bound=1 + added),
                row_of(steps, student, STOCK, forward, CLASS_MEAN, flop_bound=1.0),
            ]
    if STUDENT_WITH_MOVES in steps:
        bound = 1 + forward_flops[1.0] / cost.stock_step_flops
        rows.append(row_of(steps, STUDENT_WITH_MOVES, STOCK, flop_bound=bound))
        rows.append(row_of(steps, STUDENT_WITH_MOVES, student_name(1.0), flop_bound=1.0))
    return rows


def table(rows: Sequence[Row]) -> Iterator[str]:
    cells = [["", "ms", "ratio", "95 % interval", "FLOP bound", "MiB", "at start", "x stock"]]
    for row in rows:
        low, high, *others = map(number, (row.low, row.high, row.ratio, row.flop_bound, row.memory_ratio))
        mebibytes = [n and n / 2**20 for n in (row.memory_bytes, row.memory_at_start_bytes)]
        times = [number(row.median_ms), others[0], f"{low} to {high}", others[1]]
        cells.append([f"{row.what} / {row.against}", *times, *map(number, mebibytes), others[2]])
    yield from aligned(cells)


def number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.{4 if value < 0.1 else 3 if value < 10 else 1}f}"


def surroundings() -> dict:
    """Versions and hardware."""
    cpus = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    cpu = next((line.split(": ")[1] for line in cpus.splitlines() if "model name" in line), platform.processor())
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=40"]
    try:
        commit = subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    versions = {"python": platform.python_version(), "torch": torch.__version__, "nnunetv2": version("nnunetv2")}
    versions |= {"nnunet_shapekd": __version__, "commit": commit, "cudnn": torch.backends.cudnn.version()}
    hardware = {"system": f"{platform.system()} {platform.machine()}", "cpu": cpu, "cores": os.cpu_count(), "gpu": gpu}
    return {**versions, **hardware}


def write(path: Path, report: dict) -> None:
    """Whole or not at all."""
    with new_file(path) as unfinished:
        unfinished.write_text(json.dumps(report, indent=1) + "\n")


def arguments_of(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cuda = torch.cuda.is_available()
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--device", nargs="+", choices=("cpu", "cuda"), default=["cuda" if cuda else "cpu"])
    parser.add_argument("--compile", choices=("on", "off", "both"), default="both", help="on CUDA; nnU-Net: never else")
    parser.add_argument("--rounds", type=int, help="default: 6 on the CPU, 21 on CUDA")
    parser.add_argument("--batch", type=int, help="batch size; default: of the plans on CUDA, 2 on the CPU")
    parser.add_argument("--threads", type=int, help="of torch; default: 1 on CUDA, as nnU-Net, else torch's own")
    parser.add_argument("--no-memory", action="store_true", help="no measurement of the steps' memory")
    parser.add_argument("--tiny", action="store_true", help="networks of a few features: whether it runs at all")
    parser.add_argument("-o", type=Path, default=Path("benchmark.json"), help="default: benchmark.json")
    parser.add_argument("--memory-of", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    for name in ("rounds", "batch", "threads"):
        if (value := getattr(args, name)) is not None and value < 1:
            parser.error(f"--{name} must be at least 1; got {value}")
    if "cuda" in args.device and not cuda:
        parser.error("--device cuda: torch sees no GPU")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments_of(argv)
    own_threads = torch.get_num_threads()
    if args.memory_of:  # the process of its own that memory_of starts
        torch.set_num_threads(args.threads)
        print(json.dumps(memory_here(Setup(**args.memory_of[0]), args.memory_of[1])))
        return
    torch.backends.cudnn.benchmark = True  # as nnU-Net's training
    torch._dynamo.config.cache_size_limit = 64  # else some of so many networks would not be compiled
    report = {**surroundings(), "finished": False, "rows": []}
    for device in args.device:
        torch.set_num_threads(args.threads or (1 if device == "cuda" else own_threads))
        rounds = args.rounds or (21 if device == "cuda" else 6)
        modes = {"on": [True], "off": [False], "both": [False, True]}[args.compile] if device == "cuda" else [False]
        for case, compiled in itertools.product(args.cases, modes):
            setup = Setup(case, device, compiled, args.batch, args.tiny)
            rows = benchmark(setup, rounds, not args.no_memory, args.parts)
            plan, network, classes = setup.parts
            size, batch = (plans_of(setup)["configurations"]["any"][key] for key in ("patch_size", "batch_size"))
            facts = {"case": case, "plan": plan, "network": network, "classes": classes, "device": device}
            facts |= {"amp": device == "cuda", "compile": compiled, "patch_size": size, "batch_size": batch}
            facts |= {"threads": torch.get_num_threads(), "rounds": rounds}
            report["rows"] += [{**facts, **asdict(row)} for row in rows]
            write(args.o, report)  # an interrupted run keeps what it has
            print(*(f"{name} {value}" for name, value in facts.items()), sep=", ")
            print(*table(rows), "", sep="\n", flush=True)
    write(args.o, {**report, "finished": True})


if __name__ == "__main__":
    main()
