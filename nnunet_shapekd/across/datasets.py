"""A dataset in nnU-Net's raw format, and its references as a model that was trained on another one has them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_shapekd.across.matching import Matching
from nnunet_shapekd.evaluation.cases import read_dataset_json
from nnunet_shapekd.files.images import write_image
from nnunet_shapekd.files.label_maps import read_label_map, relabel, unknown_labels, values_in
from nnunet_shapekd.files.parallel import map_in_processes

#: label maps worth a worker process
_PER_WORKER = 20


@dataclass(frozen=True)
class RawDataset:
    """A folder with dataset.json, imagesTr, labelsTr and, where there are test cases, imagesTs and labelsTs."""

    folder: Path
    dataset_json: dict[str, Any]
    file_ending: str

    @property
    def name(self) -> str:
        return self.folder.name

    def images(self, part: str) -> Path:
        return self.folder / f"images{part}"

    def labels(self, part: str) -> Path:
        return self.folder / f"labels{part}"

    def references(self, part: str) -> dict[str, Path]:
        """Case -> its label map, empty if there are none."""
        if not self.labels(part).is_dir():
            return {}
        found = sorted(p for p in self.labels(part).iterdir() if p.name.endswith(self.file_ending) and p.is_file())
        return {path.name.removesuffix(self.file_ending): path for path in found if not path.name.startswith(".")}


def find_dataset(dataset: str | Path) -> RawDataset:
    """A raw dataset by its folder, or by its name or id in ``nnUNet_raw``.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if its dataset.json says no file ending, or lists its files itself.
    """
    folder = Path(dataset)
    if not (folder / "dataset.json").is_file():
        if not os.environ.get("nnUNet_raw"):
            raise ValueError(f"{dataset} is no folder with a dataset.json, and nnUNet_raw, to look there, is not set")
        from nnunet_shapekd.training.lookup import dataset_name

        folder = Path(os.environ["nnUNet_raw"], dataset_name(str(dataset)))
    content = read_dataset_json(folder / "dataset.json")
    if "dataset" in content:
        raise ValueError(
            f'{folder / "dataset.json"}: lists its files under "dataset", which is not supported here: put them, or '
            "links to them, into imagesTr and labelsTr"
        )
    if not content.get("file_ending"):
        raise ValueError(f'{folder / "dataset.json"}: expected "file_ending", such as ".nii.gz"')
    return RawDataset(Path(os.path.abspath(folder)), content, str(content["file_ending"]))


def check_references(references: Sequence[Path], matching: Matching, processes: int | None) -> list[str]:
    """What is wrong with label maps: unreadable files, and values that dataset.json does not name.

    Prediction takes long, and should not be in vain.
    """
    return _each(
        references, partial(_map, values=matching.values, ending="", out=None), processes, "Checking references"
    )


def write_references(
    dataset: RawDataset,
    part: str,
    cases: Sequence[str],
    matching: Matching,
    ending: str,
    out: Path,
    processes: int | None,
) -> Path:
    """Copies of a dataset's references in the model's values and of its file ending, in a folder like a raw dataset's.

    Args:
        dataset: whose references they are.
        part: "Tr" or "Ts".
        cases: to copy.
        matching: with the model's classes.
        ending: of the files to write.
        out: folder that exists; gets dataset.json, labelsTr or labelsTs, and patients.csv where the dataset has one.

    Returns:
        The folder of the copies.
    """
    folder = out / f"labels{part}"
    folder.mkdir()
    paths = [path for case, path in dataset.references(part).items() if case in set(cases)]
    work = partial(_map, values=matching.values, ending=dataset.file_ending, out=folder, new_ending=ending)
    if problems := _each(paths, work, processes, "Mapping references"):
        raise ValueError("\n".join(problems))
    (out / "dataset.json").write_text(
        json.dumps({"labels": matching.labels, "file_ending": ending}, indent=1) + "\n", encoding="utf-8"
    )
    if (dataset.folder / "patients.csv").is_file():
        shutil.copy(dataset.folder / "patients.csv", out)
    return folder


def _each(paths: Sequence[Path], work: partial, processes: int | None, description: str) -> list[str]:
    found = map_in_processes(work, paths, processes, description, _PER_WORKER)
    return [problem for problem in found if problem]


def _map(path: Path, values: Mapping[int, int], ending: str, out: Path | None, new_ending: str = "") -> str | None:
    """Write a label map in other values into ``out``, if given; returns what is wrong with it."""
    try:
        label_map = read_label_map(path)
    except ValueError as error:
        return str(error)
    advice = "correct the file, or name the value in its dataset.json"
    problems = unknown_labels(path, values_in(label_map.values), values, advice)
    if out is not None and not problems:
        target = out / f"{path.name.removesuffix(ending)}{new_ending}"
        write_image(relabel(label_map.values, values), label_map, target)
    return problems[0] if problems else None
