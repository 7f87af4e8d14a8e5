"""What every dataset conversion shares: listing problems, checking cases, folds by patient, an atomic folder."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import platform
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

# Origin and direction of a label may differ from its image's by rounding only. The spacing is held to what
# `verify_dataset_integrity` refuses (np.allclose, nnU-Net 2.8.1), which only warns about origin and direction.
ORIGIN_TOLERANCE_MM = 1e-3
DIRECTION_TOLERANCE = 1e-3
# Starting a worker costs about as much as reading this many cases: small datasets are read in this process.
_CASES_PER_WORKER = 30


class ConversionError(ValueError):
    """A conversion that cannot be done as asked; its message lists all problems, one a line."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        lines = self.problems
        if len(lines) > 1:
            lines = [f"{len(lines)} problems found, nothing was written:", *(f"  - {line}" for line in lines)]
        super().__init__("\n".join(lines))


@dataclass(frozen=True)
class Case:
    """One image, and its label where there is one, on the way to `images<subset>/<name>_0000.nii.gz`."""

    name: str
    image: Path
    label: Path | None
    subset: str  # "Tr" or "Ts", as in nnU-Net's folder names


def environment_folder(variable: str, given: str | Path | None) -> Path | None:
    """The folder given, else what the environment variable names, else None."""
    value = given if given is not None else os.environ.get(variable)
    return Path(value) if value else None


def dataset_folder_name(dataset_id: int, name: str, raw: Path | None, others: Iterable[Path | None]) -> str:
    """The nnU-Net name of the new dataset, after making sure that its id is free in the raw folder.

    In nnU-Net's `others` (preprocessed, results) only another name of the same id is in the way.
    """
    if raw is None:
        raise ConversionError(
            "nnUNet_raw is not set: it names the folder that the dataset is written to. "
            "Type `export nnUNet_raw=/path/to/nnUNet_raw` and run this again."
        )
    if not 1 <= dataset_id <= 999:
        raise ConversionError(f"dataset id: expected 1 to 999, got {dataset_id}; choose another with -d")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConversionError(f"dataset name: expected letters, digits, '_' and '-' only, got {name!r}")
    prefix = f"Dataset{dataset_id:03d}"
    for existing in filter(Path.is_dir, sorted(raw.glob(f"{prefix}*"))):
        raise ConversionError(f"{existing} exists already and is left as it is: delete it or choose another id with -d")
    for folder in filter(None, others):
        for existing in sorted(folder.glob(f"{prefix}*")):
            if existing.name != f"{prefix}_{name}" and existing.is_dir():
                raise ConversionError(
                    f"{existing} has the same id: nnU-Net refuses an id with two names; choose another id with -d"
                )
    return f"{prefix}_{name}"


def read_values(path: Path) -> tuple[sitk.Image, np.ndarray]:
    """The scalar 3D image in a file and a view of its voxels; raises ValueError saying what is wrong with it."""
    try:
        # Naming the format saves a tenth of the time: SimpleITK would try every other one first.
        image = sitk.ReadImage(str(path), imageIO="NiftiImageIO")
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"{path}: cannot be read ({reason}); download it again") from None
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        shape = "x".join(map(str, image.GetSize()))
        channels = image.GetNumberOfComponentsPerPixel()
        raise ValueError(f"{path}: expected one 3D volume, got {shape} with {channels} channel(s)")
    if _needs_second_look(path, image):
        import nibabel  # only here: importing it costs as much as reading twenty cases

        try:
            finite = np.isfinite(np.asanyarray(nibabel.load(path).dataobj)).all()
        except Exception as error:  # nibabel, zlib and gzip have an exception class each for a broken file
            raise ValueError(f"{path}: cannot be read whole ({error}); download it again") from None
        if not finite:
            raise ValueError(f"{path}: has NaN or infinite values; replace them")
    return image, sitk.GetArrayViewFromImage(image)


def _needs_second_look(path: Path, image: sitk.Image) -> bool:
    """Whether SimpleITK may have hidden a fault: ITK 5.4 fills up a file cut short, and reads NaN and infinity as 0.

    True for floating-point files, and where the length that a gzip file ends with (or the file has) is not what the
    header asks for; so the ordinary file is read once.
    """
    keys = ("vox_offset", "bitpix", "datatype")
    header = {key: float(image.GetMetaData(key)) for key in keys if image.HasMetaDataKey(key)}
    if len(header) < len(keys) or header["datatype"] in (16, 64):  # NIfTI's codes of float32 and float64
        return True
    expected = int(header["vox_offset"]) + image.GetNumberOfPixels() * int(header["bitpix"]) // 8
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path.stat().st_size != expected
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(), "little") != expected % 2**32


def check_case(case: Case, max_label: int) -> list[str]:
    """Reads image and label of a case once and says what is wrong with them; an empty list is a good case."""
    problems: list[str] = []
    images = []
    for path in filter(None, (case.image, case.label)):
        try:
            image, values = read_values(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        images.append(image)
        if path == case.label:
            problems += _label_problems(path, values, max_label)
    if len(images) == 2:
        problems += _geometry_problems(case, *images)
    return problems


def _label_problems(path: Path, values: np.ndarray, max_label: int) -> list[str]:
    # Minimum and maximum, not np.unique, whose sorting costs as much as reading the file.
    whole = values.dtype.kind != "f" or bool((values == np.rint(values)).all())
    if values.min() < 0 or values.max() > max_label or not whole:
        found = np.unique(values)
        shown = ", ".join(f"{value:g}" for value in found[:10]) + (", ..." if len(found) > 10 else "")
        return [f"{path}: expected integer labels 0 to {max_label}, got {shown}; correct or remove the case"]
    return [] if values.any() else [f"{path}: label is empty (background only); correct or remove the case"]


def _geometry_problems(case: Case, image: sitk.Image, label: sitk.Image) -> list[str]:
    if image.GetSize() != label.GetSize():
        return [f"{case.label}: size {label.GetSize()} differs from its image's {image.GetSize()}; correct one of them"]
    same = {
        "spacing": np.allclose(label.GetSpacing(), image.GetSpacing()),
        "origin": np.allclose(label.GetOrigin(), image.GetOrigin(), rtol=0, atol=ORIGIN_TOLERANCE_MM),
        "direction": np.allclose(label.GetDirection(), image.GetDirection(), rtol=0, atol=DIRECTION_TOLERANCE),
    }
    return [
        f"{case.label}: {what} {getattr(label, f'Get{what.title()}')()} differs from its image's "
        f"{getattr(image, f'Get{what.title()}')()}; correct one of the two headers"
        for what, is_same in same.items()
        if not is_same
    ]


def check_cases(cases: Sequence[Case], max_label: int, processes: int) -> list[str]:
    """All problems of all cases, in their order."""
    check = partial(check_case, max_label=max_label)
    return [problem for found in map_in_processes(check, cases, processes, "Checking cases") for problem in found]


def write_cases(folder: Path, cases: Sequence[Case], processes: int) -> None:
    """Writes the cases below a dataset folder; `.nii.gz` byte for byte, `.nii` compressed, test labels where given."""
    jobs = []
    for case in cases:
        jobs.append((case.image, folder / f"images{case.subset}" / f"{case.name}_0000.nii.gz"))
        if case.label is not None:
            jobs.append((case.label, folder / f"labels{case.subset}" / f"{case.name}.nii.gz"))
    for parent in {target.parent for _, target in jobs}:
        parent.mkdir(exist_ok=True)
    # Threads are enough here: copying and zlib both release the interpreter's lock.
    _collect(ThreadPoolExecutor(processes), _write_nifti, jobs, "Writing files")


def _write_nifti(job: tuple[Path, Path]) -> None:
    source, target = job
    if source.suffix == ".gz":
        shutil.copyfile(source, target)  # not copy: a read-only download must not make a read-only dataset
        return
    # No name and time in the gzip header, so that the same input always makes the same bytes.
    with (
        source.open("rb") as reader,
        target.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as writer,
    ):
        shutil.copyfileobj(reader, writer, 1 << 20)


def default_processes() -> int:
    """The cores this process may use, eight at most."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, available)


def map_in_processes(function: Callable, items: Sequence, processes: int, description: str) -> list:
    """`[function(item) for item in items]` with a progress bar, in spawned processes where that pays.

    With more than one process a script that calls this needs the usual `if __name__ == "__main__":`.
    """
    workers = min(processes, len(items) // _CASES_PER_WORKER)
    if workers <= 1:
        return [function(item) for item in tqdm(items, desc=description, file=sys.stderr)]
    # Spawn, because forking a process in which torch runs threads can deadlock.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        return _collect(executor, function, items, description)
    except BrokenProcessPool:
        raise ConversionError(
            f"a worker process died while {description.lower()} (out of memory?), nothing was written; "
            "try again with --processes 1"
        ) from None


def _collect(executor: Executor, function: Callable, items: Iterable, description: str) -> list:
    try:
        futures: list[Future] = [executor.submit(function, item) for item in items]
        for future in tqdm(as_completed(futures), total=len(futures), desc=description, file=sys.stderr):
            future.result()
        return [future.result() for future in futures]
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Ctrl-C is the parent's business, and a worker whose parent was killed ends, which the executor leaves open."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()


def folds_by_patient(stratum_of: Mapping[str, str], seed: int, n_folds: int = 5) -> list[list[str]]:
    """Deals patients to folds; fold sizes, and the counts of each stratum, differ by at most one between folds.

    Raises:
        ConversionError: for fewer patients than folds.
    """
    if len(stratum_of) < n_folds:
        raise ConversionError(
            f"{n_folds} folds by patient need at least {n_folds} training patients, got {len(stratum_of)}; "
            "give your own split with --train and --val"
        )
    random = np.random.RandomState(seed)  # its stream is frozen; default_rng's may change with NumPy's version
    dealt: list[str] = []
    for stratum in sorted(set(stratum_of.values())):
        members = sorted(patient for patient in stratum_of if stratum_of[patient] == stratum)
        random.shuffle(members)
        dealt += members
    return [sorted(dealt[fold::n_folds]) for fold in range(n_folds)]


def splits_problems(splits: list[dict[str, list[str]]], existing: Path) -> list[str]:
    """What is wrong with a split file that already lies where planning copies the new one; its absence is fine."""
    if not existing.is_file():
        return []
    try:
        same = _as_sets(json.loads(existing.read_text())) == _as_sets(splits)
    except (ValueError, TypeError, KeyError):
        same = False
    if same:
        return []
    # Planning would keep the old file and stop in a bare assert (nnU-Net 2.8.1), hence a refusal here.
    return [
        f"{existing}: differs from the splits_final.json that this conversion would write into the raw dataset; "
        "delete or rename it, give the split it was made from, or choose another id with -d"
    ]


def _as_sets(splits: Any) -> list[tuple[set, set]]:
    return [(set(split["train"]), set(split["val"])) for split in splits]


def write_json(path: Path, content: Any) -> None:
    """Writes JSON as nnU-Net does: indented by four, keys in the given order."""
    path.write_text(json.dumps(content, indent=4) + "\n")


@contextmanager
def new_dataset_folder(raw: Path, name: str) -> Iterator[Path]:
    """A folder to build a dataset in, which becomes `raw/name` at the end, or vanishes when anything goes wrong.

    It lies beside its target (renaming is atomic there) under a name that nnU-Net takes for no dataset. SIGTERM and
    SIGHUP clean up, too; after SIGKILL the next run on the same machine removes what was left.
    """
    marker = f".shapekd-partial-{name}-{platform.node()}-"
    for leftover in raw.glob(f"{marker}*") if raw.is_dir() else []:
        if not _is_running(leftover.name.removeprefix(marker)):
            shutil.rmtree(leftover, ignore_errors=True)
    building = raw / f"{marker}{os.getpid()}"
    target = raw / name
    with _signals_as_exit():
        try:
            building.mkdir(parents=True)
            yield building
            if target.exists():
                raise ConversionError(f"{target} was made by another process meanwhile and is left as it is")
            building.rename(target)
        finally:
            shutil.rmtree(building, ignore_errors=True)


def _is_running(pid: str) -> bool:
    if os.name != "posix" or not pid.isdigit():
        return True  # cannot tell: os.kill(pid, 0) would send Ctrl-C on Windows
    if int(pid) == os.getpid():
        return False  # made by an earlier process of the same number
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def _signals_as_exit() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {getattr(signal, name): signal.getsignal(getattr(signal, name)) for name in names}
    # nohup's ignored SIGHUP stays ignored.
    replaced = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    for number in replaced:
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, before[number])
