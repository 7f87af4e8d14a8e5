"""Which patient a case belongs to, as files beside the images say."""

from __future__ import annotations

import os
import re
from pathlib import Path

from nnunet_shapekd.files.walking import file_trouble, walk

#: ACDC's parts
_SUBSETS = {"training": "Tr", "testing": "Ts"}
_PATIENT = re.compile(r"patient(\d+)", re.IGNORECASE)


def read_info(folder: Path) -> tuple[dict[str, str], list[str]]:
    """The `key: value` lines of a folder's Info.cfg and what is wrong with them; no file gives no keys and no problem.

    Its name may be in upper or lower case.
    """
    found = [folder / name for name in sorted(os.listdir(folder)) if name.lower() == "info.cfg"]
    if not found:
        return {}, []
    path = found[0]
    if len(found) > 1:
        return {}, [f"{path}: stands beside {found[1].name}; remove one of the two"]
    if trouble := file_trouble(path):
        return {}, [trouble]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f"{path}: cannot be read ({error}); restore it from the download or remove it"]
    pairs = [line.partition(":") for line in lines if line.strip()]
    info = {key.strip(): value.strip() for key, colon, value in pairs if colon}
    wrong = [f"line {key.strip()!r} is no 'key: value'" for key, colon, _ in pairs if not colon]
    for key in ("ED", "ES", "NbFrame"):
        if key in info and not (info[key].isdecimal() and int(info[key]) >= 1):
            wrong.append(f"{key} is no frame number: {info[key]!r}")
    wrong += [f"{key} is missing" for key in ("ED", "ES") if key not in info]
    for key in ("Height", "Weight"):
        if key in info and not re.fullmatch(r"\d+(\.\d*)?", info[key]):
            wrong.append(f"{key} is no number: {info[key]!r}")
    if not wrong and int(info["ED"]) == int(info["ES"]):
        wrong.append(f"ED and ES are the same frame, {info['ED']}")
    if not wrong and "NbFrame" in info and int(info["NbFrame"]) < max(int(info["ED"]), int(info["ES"])):
        wrong.append(f"ED {info['ED']} or ES {info['ES']} lies beyond NbFrame {info['NbFrame']}")
    return info, [f"{path}: {problem}; correct it or restore it from the download" for problem in wrong]


def acdc_folders(root: Path) -> tuple[dict[int, tuple[Path, str]], list[str]]:
    """ACDC's patients by number, each with folder and subset ("Tr" or "Ts"), and what is wrong with the folders.

    They are taken from the first of ROOT and ROOT/database that has any: from training, testing, or the folder itself.
    Where training or testing has no patients and a folder of its own name inside, as one copy's archives unpack, they
    are taken from there; one that has no patients at all is a problem. All these names may be in upper or lower case.
    """
    problems: list[str] = []
    for base in filter(Path.is_dir, (root, root / "database")):
        found: dict[int, tuple[Path, str]] = {}
        top = walk(base, deep=False).folders
        parts = [(folder, _SUBSETS[part]) for part in _SUBSETS for folder in top if folder.name.lower() == part]
        for part, subset in (*parts, (base, "Tr")):
            parent = part if part == base else _inside(part)
            there = walk(parent, deep=False)
            if part != base and not any(_PATIENT.fullmatch(folder.name) for folder in there.folders):
                problems.append(f"{part}: has no patient folders (patient001, ...); restore them, or remove the folder")
            problems += there.problems
            for folder in there.folders:
                if match := _PATIENT.fullmatch(folder.name):
                    first, _ = found.setdefault(int(match[1]), (folder, subset))
                    if first != folder:
                        problems.append(f"{folder}: the same patient as {first}; remove one of the two")
        if found:
            return dict(sorted(found.items())), problems
    return {}, problems


def _inside(part: Path) -> Path:
    """Where a part's patients are: in it, or in the folder of its name that it holds instead."""
    there = walk(part, deep=False).folders
    same = [folder for folder in there if folder.name.lower() == part.name.lower()]
    return same[0] if same and not any(_PATIENT.fullmatch(folder.name) for folder in there) else part


def info_entries(root: Path) -> list[tuple[str, str, str]]:
    """Case, patient and phase ("ED", "ES") of every frame that the Info.cfg files of :func:`acdc_folders` name.

    Raises:
        ValueError: naming all that is wrong with them, or that there is none.
    """
    folders, problems = acdc_folders(root)
    entries: list[tuple[str, str, str]] = []
    for folder, _ in folders.values():
        info, wrong = read_info(folder)
        problems += wrong
        if info and not wrong:
            name = folder.name.lower()
            entries += [(f"{name}_frame{int(info[phase]):02d}", name, phase) for phase in ("ED", "ES")]
    if not folders:
        problems.append(f"{root}: holds no patient001/Info.cfg, nor training/patient001/Info.cfg or the like")
    if problems:
        raise ValueError("\n".join(problems))
    return entries
