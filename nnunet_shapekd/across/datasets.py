"""A dataset in nnU-Net's raw format, and its references as a model that was trained on another one has them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from nnunet_shapekd.across.model import Model
from nnunet_shapekd.across.tasks import Task
from nnunet_shapekd.files.case_table import TABLE
from nnunet_shapekd.files.images import write_image
from nnunet_shapekd.files.label_maps import read_label_map, relabel
from nnunet_shapekd.files.parallel import map_in_processes
from nnunet_shapekd.files.raw_dataset import RawDataset, read_raw_dataset

#: label maps worth a worker process
_PER_WORKER = 20


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
    return read_raw_dataset(Path(os.path.abspath(folder)))


def write_references(task: Task, model: Model, out: Path, processes: int | None) -> None:
    """Copies of a dataset's references in the model's values and of its file ending, in a folder like a raw dataset's.

    Args:
        task: says which, of which dataset.
        model: whose values, file ending and reader they are to have.
        out: folder that exists; gets dataset.json, labelsTr or labelsTs, and patients.csv where the dataset has one.
        processes: at most.
    """
    dataset, values = task.dataset, task.matching.values
    folder = out / f"labels{task.part}"
    folder.mkdir()
    paths = [path for case, path in dataset.references(task.part).items() if case in task.images]
    endings = dataset.file_ending, model.file_ending
    work = partial(_copy, values=values, endings=endings, out=folder, reader=model.reader)
    map_in_processes(work, paths, processes, "Mapping references", _PER_WORKER)
    content = {"labels": task.matching.labels, "file_ending": model.file_ending}
    (out / "dataset.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    if (dataset.folder / TABLE).is_file():
        shutil.copy(dataset.folder / TABLE, out)


def _copy(path: Path, values: Mapping[int, int], endings: tuple[str, str], out: Path, reader: str) -> None:
    """Write a label map in other values, and with another ending."""
    label_map = read_label_map(path, reader)
    target = out / f"{path.name.removesuffix(endings[0])}{endings[1]}"
    write_image(relabel(label_map.values, values), label_map, target)
