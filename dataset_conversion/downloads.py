"""Files in an extracted download."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from nnunet_shapekd.dataset_conversion.target import ConversionError
from nnunet_shapekd.files.names import shown, some
from nnunet_shapekd.files.walking import walk

#: what volumes are read from
NIFTI_ENDINGS = (".nii", ".nii.gz")
ENDING = re.compile(r"\.nii(?:\.gz)?$", re.IGNORECASE)


def nifti_files(root: Path, layout: str) -> list[Path]:
    """All NIfTI files below a folder, as :func:`nifti_below`.

    Raises:
        ConversionError: if there are none; `layout` says what was expected. Or if one's ending is of mixed case.
    """
    if not root.is_dir():
        raise ConversionError(f"{root}: no such folder; ROOT is the extracted download: {layout}")
    found = walk(root)
    files = nifti_of(found.files)
    problems = ending_problems(files)
    if not files:
        problems.append(f"{root}: no NIfTI files found. Expected {layout}. Found there: {names_in(root)}")
    if problems:
        raise ConversionError(found.problems + problems)
    return files


def nifti_below(folder: Path) -> list[Path]:
    """All NIfTI files below a folder, endings in either case; none where there is no such folder."""
    return nifti_of(walk(folder).files) if folder.is_dir() else []


def nifti_of(files: Iterable[Path]) -> list[Path]:
    """Those that are NIfTI files by their ending, in either case."""
    return [path for path in files if ENDING.search(path.name)]


def ending_problems(paths: Iterable[Path]) -> list[str]:
    """Endings that SimpleITK refuses to read (2.5): it knows .nii.gz and .NII.GZ, but none of mixed case."""
    endings = {path: ENDING.search(path.name)[0] for path in paths}
    return [
        f"{path}: cannot be read for its ending {ending}; rename it to end in {ending.lower()}"
        for path, ending in endings.items()
        if ending not in (ending.lower(), ending.upper())
    ]


def names_in(folder: Path) -> str:
    """What lies in a folder, for a message."""
    if not folder.is_dir():
        return "no such folder"
    return ", ".join(sorted(shown(path.name) for path in folder.iterdir())[:10]) or "nothing"


def few(paths: Sequence[Path | str], root: Path | None = None) -> str:
    """The first five, relative to a folder where one is given, and how many more."""
    return some([path.relative_to(root).as_posix() if root and isinstance(path, Path) else str(path) for path in paths])
