"""Which patient a case belongs to, as files beside the images say."""

from __future__ import annotations

import re
from pathlib import Path


def read_info(path: Path) -> tuple[dict[str, str], list[str]]:
    """Info.cfg's `key: value` lines and what is wrong with them; no file gives no keys and no problem."""
    if not path.exists():
        return {}, []
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


def info_entries(folder: Path) -> list[tuple[str, str, str]]:
    """Case, patient and phase ("ED", "ES") of every frame that the Info.cfg files of ACDC's patients name.

    Args:
        folder: holds patient001, ..., or ACDC's training and testing, or its database with those.

    Raises:
        ValueError: naming all that is wrong with them, or that there is none.
    """
    entries: list[tuple[str, str, str]] = []
    problems: list[str] = []
    whose: dict[str, Path] = {}
    for place in ("", "training", "testing", "database/training", "database/testing"):
        for path in sorted((folder / place).glob("patient*/Info.cfg")):
            patient = path.parent.name
            info, wrong = read_info(path)
            problems += wrong
            if whose.setdefault(patient, path) != path:
                problems.append(f"{path.parent}: the same patient as {whose[patient].parent}; remove one of the two")
            if not wrong:
                entries += [(f"{patient}_frame{int(info[phase]):02d}", patient, phase) for phase in ("ED", "ES")]
    if not whose:
        problems.append(f"{folder}: holds no patient001/Info.cfg, nor training/patient001/Info.cfg or the like")
    if problems:
        raise ValueError("\n".join(problems))
    return entries
