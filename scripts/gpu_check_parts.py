"""The parts of the GPU check, each in a process of its own: trainings by nnU-Net's own commands, and timed steps.

A part is a function of where it runs; what it returns goes into the report. One that fails raises.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import benchmark
import torch
from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry, preprocess_entry
from nnunetv2.run.run_training import run_training_entry
from torch._inductor.cpp_builder import get_cpp_compiler

import nnunet_shapekd
from nnunet_shapekd.files.checkpoints import read_checkpoint
from nnunet_shapekd.phantom import write_phantom

SCRIPTS = Path(__file__).resolve().parent
PLANS = "gpuCheckPlans"
TEACHER, STUDENT = "nnUNetTrainerMeanImage_GPUCheck", "nnUNetTrainerShapeKD_GPUCheck"
#: what a step is timed of, in turns
CONTENDERS = (benchmark.STOCK, benchmark.TEACHER, *map(benchmark.student_name, (1.0, 0.5)), benchmark.MOVES)
CASES = ("2d-plain-4", "3d-plain-4", "3d-resenc-4")


class NotRunError(Exception):
    """A part that this machine has nothing for."""


@dataclass(frozen=True)
class Place:
    """Where parts run: "cuda" or "cpu" (at toy sizes), in a folder whose parts share the phantom, rounds of timings."""

    device: str
    folder: Path
    rounds: int

    @property
    def toy(self) -> bool:
        return self.device == "cpu"

    def environment(self, part: str, compiled: bool) -> dict[str, str]:
        """For nnU-Net: the phantom, with results of the part's own."""
        result = {name: value for name, value in os.environ.items() if not name.startswith("SHAPEKD_")}
        rooms = {"raw": "raw", "preprocessed": "preprocessed", "results": f"results/{part}"}
        result |= {f"nnUNet_{room}": str(self.folder / path) for room, path in rooms.items()}
        result["nnUNet_extTrainer"] = str(SCRIPTS / "gpu_check_trainers")
        result |= {"nnUNet_compile": "t" if compiled else "f", "nnUNet_wandb_enabled": "0", "OMP_NUM_THREADS": "1"}
        return result | {"nnUNet_n_proc_DA": "0" if self.toy else "3", "nnUNet_def_n_proc": "2"}

    def results(self, part: str, trainer: str) -> Path:
        return next((self.folder / "results" / part).glob("Dataset*")) / f"{trainer}__{PLANS}__2d" / "fold_0"


def command(entry_point: Callable[[], object], *arguments: str) -> list[str]:
    """One of nnU-Net's commands, which need not be on PATH."""
    module, name = entry_point.__module__, entry_point.__name__
    return [sys.executable, "-c", f"from {module} import {name} as main; main()", *arguments]


def run(arguments: list[str], environment: dict[str, str]) -> str:
    """What a command prints.

    Raises:
        RuntimeError: with the end of it, if the command fails.
    """
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[3:])} ended with code {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def phantom(place: Place) -> dict:
    """Phantom patients, converted, planned and preprocessed by nnU-Net, with plans for a small network."""
    if find_spec("nnunet_shapekd.dataset_conversion") is None:  # a checkout on PYTHONPATH keeps it beside the package
        nnunet_shapekd.__path__.append(str(SCRIPTS.parent))
    environment = place.environment("phantom", compiled=False) | {"nnUNet_n_proc_DA": "1"}
    os.environ.update(environment)
    for room in ("raw", "preprocessed", "results"):
        Path(environment[f"nnUNet_{room}"]).mkdir(parents=True)
    patients = place.folder / "phantom"
    write_phantom(patients, patients=5, test_patients=1)
    import_module("nnunet_shapekd.dataset_conversion.acdc").convert_acdc(patients)
    processes = "1" if place.toy else "4"
    run(command(plan_and_preprocess_entry, "-d", "27", "--no_pp", "-npfp", processes), environment)
    size = (
        "--patch 32 32 --batch 4 --features 8 16 24 --spacing 4 4"
        if place.toy
        else "--patch 192 192 --batch 16 --features 32 64 128 256"
    )
    run([sys.executable, str(SCRIPTS / "small_plans.py"), "-d", "27", "--name", PLANS, *size.split()], environment)
    preprocessing = ("-d", "27", "-plans_name", PLANS, "-c", "2d", "-np", processes)
    run(command(preprocess_entry, *preprocessing), environment)
    return {"plans": size}


def training(place: Place, part: str, trainer: str, compiled: bool, *options: str) -> tuple[list[str], dict[str, str]]:
    arguments = ("27", "2d", "0", "-tr", trainer, "-p", PLANS, "-device", place.device, *options)
    return command(run_training_entry, *arguments), place.environment(part, compiled)


def trained(place: Place, part: str, trainer: str) -> dict:
    """What a finished training's checkpoint says of it.

    Raises:
        RuntimeError: if it says something that a good training's does not.
    """
    checkpoint = read_checkpoint(place.results(part, trainer) / "checkpoint_final.pth")
    log = {
        name: [float(value) for value in values] for name, values in checkpoint["logging"].items() if "dice" not in name
    }
    epochs = zip(log["epoch_start_timestamps"], log["epoch_end_timestamps"], strict=True)
    found = {
        "trainer": trainer,
        "losses": log["train_losses"],
        "distillation_losses": log.get("distillation_losses"),
        "validation_losses": log["val_losses"],
        "seconds_per_epoch": [end - start for start, end in epochs],
        "grad_scaler": (checkpoint["grad_scaler_state"] or {}).get("scale"),
    }
    wrong = [name for name in ("losses", "validation_losses") if not all(map(math.isfinite, found[name]))]
    wrong += ["epochs"] * (not checkpoint["current_epoch"] == len(found["losses"]) == 4)
    wrong += ["distillation_losses"] * (trainer == STUDENT and not all(x > 0 for x in found["distillation_losses"]))
    wrong += ["grad_scaler"] * ((found["grad_scaler"] is None) != place.toy)
    if wrong:
        raise RuntimeError(f"{', '.join(wrong)} of a training are wrong: {found}")
    return found


def check_compiler(compiled: bool, place: Place) -> None:
    """torch compiles for the CPU with a C++ compiler.

    Raises:
        NotRunError: if it finds none.
    """
    if not (compiled and place.toy):
        return
    try:
        compiler = get_cpp_compiler()
        found = shutil.which(compiler)
    except Exception:  # torch's own kinds, which differ between versions
        found = None
    if not found:
        raise NotRunError("torch.compile needs a C++ compiler, and there is none")


def train(place: Place, part: str, compiled: bool, *options: str) -> dict:
    """Teacher and student by nnUNetv2_train, with its validation."""
    check_compiler(compiled, place)
    result = {}
    for role, trainer in (("teacher", TEACHER), ("student", STUDENT)):
        began = time.monotonic()
        arguments, environment = training(place, part, trainer, compiled, *options)
        printed = run(arguments, environment)
        if compiled != ("Using torch.compile" in printed):
            raise RuntimeError(f"{trainer} was {'not ' if compiled else ''}compiled:\n{printed[-2000:]}")
        result[role] = trained(place, part, trainer) | {"seconds": time.monotonic() - began}
        if not (place.results(part, trainer) / "validation" / "summary.json").is_file():
            raise RuntimeError(f"{trainer} was not validated:\n{printed[-2000:]}")
    return result


def resume(place: Place, part: str) -> dict:
    """A student that is killed after its first checkpoint and goes on with --c."""
    run(*training(place, part, TEACHER, False))
    arguments, environment = training(place, part, STUDENT, False)
    log = place.folder / "killed.txt"
    with log.open("w") as output:
        running = subprocess.Popen(arguments, env=environment, stdout=output, stderr=subprocess.STDOUT)
        latest = None
        while running.poll() is None and not latest:
            time.sleep(0.02)
            with contextlib.suppress(StopIteration):
                latest = next(iter(place.results(part, STUDENT).glob("checkpoint_latest.pth")), None)
        running.send_signal(signal.SIGKILL)
        code = running.wait()
    if code != -signal.SIGKILL:
        raise RuntimeError(f"the training ended before it was killed, with code {code}:\n{log.read_text()[-3000:]}")
    epochs_before = read_checkpoint(latest)["current_epoch"]
    printed = run(*training(place, part, STUDENT, False, "--c"))
    first = next(line for line in printed.splitlines() if ": Epoch " in line).split("Epoch ")[1].split()[0]
    if int(first) != epochs_before:
        raise RuntimeError(f"killed after {epochs_before} epochs, but it went on with epoch {first}")
    return {"killed_after_epochs": epochs_before, "student": trained(place, part, STUDENT)}


def two_ranks(place: Place, part: str) -> dict:
    """Teacher and student on two cards."""
    if torch.cuda.device_count() < 2:
        raise NotRunError(f"needs two cards; torch sees {torch.cuda.device_count()}")
    return train(place, part, True, "-num_gpus", "2")


def setup_of(place: Place, case: str, compiled: bool) -> benchmark.Setup:
    return benchmark.Setup(case, place.device, compiled, tiny=place.toy)


def made_in_turn(setup: benchmark.Setup, warm_up: int) -> tuple[benchmark.Contenders, dict, dict]:
    """All contenders, and of each the seconds until it is warm and, on a GPU, the peak of its memory alone.

    One is made after the other: what the earlier ones hold is known before and taken off.
    """
    contenders, seconds, peaks = {}, {}, {}
    for name in CONTENDERS:
        held = torch.cuda.memory_allocated() if setup.device == "cuda" else 0
        began = time.monotonic()
        made = benchmark.STEPS[name](setup)
        for _ in range(warm_up):
            made[name]()
        seconds[name] = time.monotonic() - began
        if setup.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            made[name]()
            made[name]()
            peaks[name] = torch.cuda.max_memory_allocated() - held
        contenders |= made
    return contenders, seconds, peaks


def timings(place: Place, part: str, case: str, compiled: bool) -> dict:
    """Steps at nnU-Net's own sizes for ACDC, in turns."""
    setup = prepared_setup(place, case, compiled)
    with benchmark.nnunet_environment(setup):
        cost, forward_flops = benchmark.flop_counts(setup)
        contenders, warm_seconds, peaks = made_in_turn(setup, 2 if place.toy else 6)
        at_least = 0.0 if place.toy else 0.03
        seconds = benchmark.measure(contenders, place.device, place.rounds, 2, at_least)
    rows = benchmark.step_rows(seconds, cost, forward_flops)
    for row in rows:
        if row.what in peaks and row.against == benchmark.STOCK:
            row.memory_bytes = peaks[row.what]
            row.memory_ratio = peaks[row.what] / peaks[benchmark.STOCK]
    pairs = zip(*(seconds[name] for name in (benchmark.DISTILLED_LOSS, benchmark.LOSS, benchmark.STOCK)), strict=True)
    share = benchmark.median_and_interval([(with_it - without) / stock for with_it, without, stock in pairs])
    facts = {"case": case, "compile": compiled, "amp": place.device == "cuda", "rounds": place.rounds}
    sizes = {key: benchmark.plans_of(setup)["configurations"]["any"][key] for key in ("patch_size", "batch_size")}
    return {
        **facts,
        **sizes,
        "seconds_until_warm": warm_seconds,
        "distillation_share": dict(zip(("median", "low", "high"), share, strict=True)),
        "rows": [asdict(row) for row in rows],
        "seconds_of_rounds": seconds,
    }


def prepared_setup(place: Place, case: str, compiled: bool) -> benchmark.Setup:
    check_compiler(compiled, place)
    torch.backends.cudnn.benchmark = True  # as nnU-Net's training
    torch._dynamo.config.cache_size_limit = 64  # else some of so many networks would not be compiled
    torch.set_num_threads(1)
    setup = setup_of(place, case, compiled)
    if compiled and place.toy:  # nnU-Net never compiles on a CPU
        for trainer in (*benchmark.TEACHERS.values(), benchmark.STUDENT, benchmark.MEAN_JITTER):
            trainer._do_i_compile = lambda self: True
        benchmark.nnUNetTrainer._do_i_compile = lambda self: True
    return setup


def compile_ahead(place: Place, part: str, case: str) -> dict:
    """Compiles what the timings want, into torch's cache, beside other parts."""
    setup = prepared_setup(place, case, True)
    with benchmark.nnunet_environment(setup):
        return {"seconds_until_warm": made_in_turn(setup, 1)[1]}


#: in the order in which they are run
PARTS: dict[str, Callable[[Place], dict]] = {
    "phantom": phantom,
    "train-eager": partial(train, part="train-eager", compiled=False),
    "train-compiled": partial(train, part="train-compiled", compiled=True),
    "kill-and-resume": partial(resume, part="kill-and-resume"),
    **{f"compile-{case}": partial(compile_ahead, part=f"compile-{case}", case=case) for case in CASES},
    "two-ranks": partial(two_ranks, part="two-ranks"),
    **{
        f"time-{case}-{mode}": partial(timings, part=f"time-{case}-{mode}", case=case, compiled=mode == "compiled")
        for mode in ("eager", "compiled")
        for case in CASES
    },
}
#: worth it only beside other parts
COMPILE_AHEAD = [name for name in PARTS if name.startswith("compile-")]
#: that nothing is timed in: they run side by side where the card has the memory
SIDE_BY_SIDE = ["phantom", *COMPILE_AHEAD, *(name for name in PARTS if name.startswith(("train-", "kill-")))]
#: that want the phantom
ON_PHANTOM = [name for name in PARTS if name.startswith(("train-", "kill-", "two-"))]
