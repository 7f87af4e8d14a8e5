"""What the tests of all conversions share: tiny volumes, folders, and what a refused conversion says."""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_shapekd.dataset_conversion.target import ConversionError


def write_volume(
    path: Path,
    values: np.ndarray,
    origin: tuple[float, ...] = (3.0, -2.0, 5.0),
    spacing: tuple[float, ...] = (1.5, 1.25, 10.0),
    direction: tuple[float, ...] = (0, 1, 0, 1, 0, 0, 0, 0, -1),  # as unusual as ACDC's headers may be
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    sitk.WriteImage(image, str(path))


def write_case(image: Path, label: Path | None, values: np.ndarray) -> None:
    """An image, and a label that has each of the values, in a spread that depends on the name and its folder's."""
    random = np.random.RandomState(zlib.crc32("/".join(image.parts[-2:]).encode()))
    write_volume(image, random.randint(0, 900, (3, 8, 6)).astype(np.int16))
    if label is not None:
        classes = random.randint(0, len(values), (3, 8, 6))
        classes[0, 0, : len(values) - 2] = np.arange(len(values) - 2)
        classes[0, 1, :2] = len(values) - 2, len(values) - 1
        write_volume(label, values[classes].astype(np.int16))


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def contents(folder: Path) -> dict[str, bytes]:
    """File -> its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def dataset_in(folder: Path) -> dict:
    return json.loads((folder / "dataset.json").read_text())


def splits_in(folder: Path) -> list[dict[str, list[str]]]:
    return json.loads((folder / "splits_final.json").read_text())


def rows_in(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "patients.csv").open(encoding="utf-8")))


def write_lists(folder: Path, **numbers: list) -> dict[str, Path]:
    """Role -> a file that lists its numbers."""
    for role, listed in numbers.items():
        (folder / f"{role}.json").write_text(json.dumps(listed))
    return {role: folder / f"{role}.json" for role in numbers}


def refused(raw: Path, convert: Callable, *args, **options) -> list[str]:
    """Converts what cannot be converted, makes sure that nothing was written, and returns the problems listed."""
    with pytest.raises(ConversionError) as caught:
        convert(*args, **options)
    assert not raw.exists() or not any(raw.iterdir())
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def assert_listed(problems: Sequence[str], expected: Sequence[str]) -> None:
    """Each of the expected words is in one problem, and there are no other problems."""
    assert {words: sum(words in problem for problem in problems) for words in expected} == dict.fromkeys(expected, 1)
    assert len(problems) == len(expected), problems


def disk_full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def shapekd_convert(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, which must not import torch."""
    code = (
        "import sys\nfrom nnunet_shapekd.commands.cli import main\nstatus = main(['convert', *sys.argv[1:]])\n"
        "assert 'torch' not in sys.modules and 'nnunetv2' not in sys.modules\nsys.exit(status)"
    )
    # Away from the checkout, whose nnunet_shapekd/ would hide the installed package.
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=cwd)


def parser_around() -> argparse.ArgumentParser | None:
    """The parser of the conversion that is running, None if it is none."""
    frame, found = sys._getframe(), None
    while frame := frame.f_back:
        if frame.f_code.co_name.startswith("convert_") and "_COMMAND" in frame.f_globals:
            found = argparse.ArgumentParser()
            frame.f_globals["add_arguments"](found)
    return found


def options_in(text: str) -> set[str]:
    """What a text names as options: --such-as-this."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))


@pytest.fixture(name="raw")
def raw_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """nnU-Net's raw folder; what a conversion refuses with names options that its command has, or the test fails."""
    raised = ConversionError.__init__

    def checked(self: ConversionError, problems: str | Sequence[str]) -> None:
        raised(self, problems)
        if parser := parser_around():
            assert options_in(str(self)) <= {*parser._option_string_actions}, f"no option of this command: {self}"

    monkeypatch.setattr(ConversionError, "__init__", checked)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.delenv("nnUNet_results", raising=False)
    return tmp_path / "raw"


@pytest.fixture(name="download")
def copied_download(pristine: Path, tmp_path: Path) -> Path:
    """A copy of the pristine download that a test may spoil."""
    return Path(shutil.copytree(pristine, tmp_path / "download"))
