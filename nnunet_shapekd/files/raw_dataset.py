"""A dataset in nnU-Net's raw format: which files are which case's images and reference."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_shapekd.files.dataset_json import file_ending, read_dataset_json
from nnunet_shapekd.files.names import case_name


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


def read_raw_dataset(folder: Path) -> RawDataset:
    """A raw dataset by its folder.

    Raises:
        FileNotFoundError: if it has no dataset.json.
        ValueError: if that is odd, says no file ending, or lists its files itself.
    """
    path = folder / "dataset.json"
    content = read_dataset_json(path)
    if "dataset" in content:
        raise ValueError(
            f'{path}: lists its files under "dataset", which is not supported here: put them, or links to them, into '
            "imagesTr and labelsTr"
        )
    try:
        return RawDataset(folder, content, file_ending(content))
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix('dataset.json: ')}") from None


def find_images(folder: Path, file_ending: str) -> dict[str, list[Path]]:
    """Case -> its files CASE_0000, CASE_0001, ..., sorted.

    Raises:
        FileNotFoundError: if there is no such folder, or no such file in it.
        ValueError: if a file gives its case a name that none may have.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    pattern = re.compile(r"([^.].*)_\d{4}" + re.escape(file_ending), re.DOTALL)
    cases: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := pattern.fullmatch(path.name):
            cases.setdefault(case_name(match[1], path), []).append(path)
    if not cases:
        present = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise FileNotFoundError(f"{folder}: no images CASE_0000{file_ending}; found there: {present}")
    return cases
