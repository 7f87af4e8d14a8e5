"""Checks training on this machine's GPU, and what it costs, on the phantom: nothing is downloaded.

    bash scripts/gpu_check.sh                             # sets up an environment first
    python scripts/gpu_check.py --minutes 4 -o results    # where nnunet_shapekd can be imported

Teacher and student are trained by nnUNetv2_train with mixed precision, eager and compiled; one training is killed and
resumed; two cards, where there are two, train one network. Then stock nnU-Net, teacher, student, a half-width teacher's
student and the moves of intensities are timed in turns, at nnU-Net's own sizes for ACDC. Every part runs in a process
of its own: one that fails is recorded and the others go on. What --minutes leave no time for is recorded as not run.

gpu_check.json and gpu_check.md name versions and hardware, but no host, user or folder; attach both to a report. They
are rewritten after every part. Without a GPU the same runs on the CPU with toy networks, whose times mean nothing.
Exit code 1: a part failed.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import benchmark
import torch
from gpu_check_page import page
from gpu_check_parts import COMPILE_AHEAD, ON_PHANTOM, PARTS, SIDE_BY_SIDE, NotRunError, Place

from nnunet_shapekd.files.output import new_file

ROOT = Path(__file__).resolve().parents[1]
#: of the card, that all parts without timings fit side by side
ROOMY_BYTES = 60 * 2**30


def anonymous(text: str) -> str:
    """``text`` without the names of folders, host and user."""
    text = re.sub(r"/[^\s\"':]*/(?=(?:site-packages|python3\.\d+|scripts|nnunet_shapekd)/)", ".../", text)
    text = re.sub(r"(?<![\w.<])(?:~|/[\w.@+-]+)(?:/[\w.@+-]+)*/(?=[\w.@+<-])", ".../", text)
    names = {socket.gethostname()}
    with contextlib.suppress(OSError, KeyError):  # a user without a name
        names.add(getpass.getuser())
    for name in names:
        text = re.sub(rf"\b{re.escape(name)}\b", "(name)", text)
    return text


class Report:
    """The results so far, on disk after every part."""

    def __init__(self, folder: Path, facts: dict) -> None:
        self.folder, self.lock = folder, Lock()
        self.content = {**facts, "finished": False, "parts": {}}
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, result: dict) -> None:
        with self.lock:
            self.content["parts"][name] = result
            self._write()
            reason = result.get("reason", "").strip().splitlines()
            print(
                f"{name}: {result['status']}, {result.get('seconds', 0):.0f} s {reason[-1] if reason else ''}",
                flush=True,
            )

    def finish(self, seconds: float) -> None:
        self.content |= {"finished": True, "seconds": seconds}
        self._write()

    def _write(self) -> None:
        benchmark.write(self.folder / "gpu_check.json", self.content)
        with new_file(self.folder / "gpu_check.md") as unfinished:
            unfinished.write_text(page(self.content))


def run_part(name: str, place: Place, deadline: float) -> dict:
    """A part in a process of its own, which is ended at the deadline with all that it started."""
    began, left = time.monotonic(), deadline - time.monotonic()
    if left < 1:
        return {"status": "not run", "reason": "out of time"}
    found, log = place.folder / f"{name}.json", place.folder / f"{name}.log"
    own = ["--part", name, "--work", str(place.folder), "--device", place.device, "--rounds", str(place.rounds)]
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(place.folder / "inductor")}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, __file__, *own],
            env=os.environ | caches,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(left)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds = {"seconds": time.monotonic() - began}
    if code is None:
        return {"status": "not run", "reason": "out of time: ended before it was ready", **seconds}
    if found.exists():
        return {**json.loads(found.read_text()), **seconds}
    return {"status": "failed", "reason": anonymous(log.read_text(errors="replace")[-4000:]), "code": code, **seconds}


def run_here(name: str, place: Place) -> None:
    """The part itself, in its process; an exception leaves a traceback and no result."""
    try:
        result = {"status": "passed", **PARTS[name](place)}
    except NotRunError as error:
        result = {"status": "not run", "reason": str(error)}
    benchmark.write(place.folder / f"{name}.json", result)


def run_all(names: Iterable[str], place: Place, side_by_side: bool, report: Report, deadline: float) -> None:
    together = [name for name in SIDE_BY_SIDE if name in names]

    def one(name: str) -> None:
        if name in ON_PHANTOM:
            runs["phantom"].result()
            if report.content["parts"]["phantom"]["status"] != "passed":
                report.add(name, {"status": "not run", "reason": "there is no phantom"})
                return
        report.add(name, run_part(name, place, deadline))

    runs: dict[str, Future] = {}
    with ThreadPoolExecutor(len(SIDE_BY_SIDE) if side_by_side else 1) as pool:
        for name in together:
            runs[name] = pool.submit(one, name)
    for run in runs.values():
        run.result()
    for name in PARTS:
        if name in names and name not in together:
            one(name)


def gpu() -> dict:
    """The card and what drives it."""
    card = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    except (OSError, subprocess.CalledProcessError):
        driver = None
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    facts = {"gpus": torch.cuda.device_count(), "gpu_memory_bytes": card.total_memory, "driver": driver}
    return {**facts, "compute_capability": capability, "cuda": torch.version.cuda}


def main(argv: Sequence[str] | None = None) -> int:
    began = time.monotonic()
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", type=Path, default=ROOT / "gpu_check", help="folder of the results (default: gpu_check)")
    parser.add_argument("--minutes", type=float, default=10, help="for everything (default: %(default)s)")
    parser.add_argument("--parts", nargs="+", metavar="PART", help=f"default: all; of {', '.join(PARTS)}")
    parser.add_argument("--skip", nargs="+", metavar="PART", default=[], help="parts to leave out")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if cuda else "cpu")
    parser.add_argument("--rounds", type=int, help="of timings (default: 12; 2 on the CPU)")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    unknown = [name for name in (*(args.parts or ()), *args.skip) if name not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}. There are {', '.join(PARTS)}")
    if not args.minutes > 0:
        parser.error(f"--minutes must be above 0; got {args.minutes}")
    if args.rounds is not None and args.rounds < 1:
        parser.error(f"--rounds must be at least 1; got {args.rounds}")
    if args.device == "cuda" and not cuda:
        parser.error("--device cuda: torch sees no GPU")
    rounds = args.rounds or (2 if args.device == "cpu" else 12)
    if args.part:
        run_here(args.part, Place(args.device, args.work, rounds))
        return 0
    roomy = args.device == "cuda" and torch.cuda.mem_get_info()[0] > ROOMY_BYTES
    names = set(args.parts or PARTS) - set(args.skip) - (set() if args.parts or roomy else set(COMPILE_AHEAD))
    if names & set(ON_PHANTOM):
        names.add("phantom")
    if args.device == "cpu":
        print("torch sees no GPU: " * (not cuda) + "toy networks on the CPU, whose times mean nothing.", flush=True)
    facts = {**benchmark.surroundings(), "device": args.device, "toy": args.device == "cpu", "minutes": args.minutes}
    report = Report(args.o, facts | (gpu() if args.device == "cuda" else {}))
    with tempfile.TemporaryDirectory(prefix="gpu_check_", ignore_cleanup_errors=True) as folder:
        run_all(names, Place(args.device, Path(folder), rounds), roomy, report, began + 60 * args.minutes)
    report.finish(time.monotonic() - began)
    print(f"Written: {args.o / 'gpu_check.json'} and {args.o / 'gpu_check.md'}")
    return int(any(part["status"] == "failed" for part in report.content["parts"].values()))


if __name__ == "__main__":
    sys.exit(main())
