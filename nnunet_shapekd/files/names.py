"""Names and texts from files are data: what may be a case's name, what a table's cell holds, how a path is shown."""

import os
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_LONGEST = 200  # bytes: file systems take 255, and nnU-Net adds _0000.nii.gz, this package a process's number
# What a spreadsheet takes for a formula (OWASP, CSV injection), after blanks and in the wide forms, too.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r\n]")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*|-?inf|nan")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]+")


def shown(path: str | os.PathLike[str]) -> str:
    """A path as it can be printed anywhere: bytes that are not UTF-8, and what controls a terminal, as ``\\xe9``."""
    try:
        text = os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character, as JSON may hold
        text = str(path).encode("utf-8", "backslashreplace").decode()
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def some(names: Sequence[str]) -> str:
    """The first five names, and how many more."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def same_letters(name: str) -> str:
    """A name as it is compared: the same letters, however they are composed (macOS and Linux differ in that)."""
    return unicodedata.normalize("NFC", name)


def name_problem(name: Any) -> str | None:
    """Why something read from a file may not be a case's name, or ``None``: a name is a part of paths.

    It is a text that can be printed, in UTF-8, without separators of paths, of 1 to 200 bytes, and not hidden.
    """
    if not isinstance(name, str):
        return f"{name!r} is no text"
    quoted = repr(name) if len(name) <= _LONGEST else f"{name[:20]!r}..."
    if not name.strip():
        return f"{quoted} is empty"
    if not name.isprintable():  # surrogates of names that are not UTF-8 are not, either
        return f"{quoted} has characters that cannot be printed, or are not UTF-8"
    if "/" in name or "\\" in name or name.startswith("."):
        return f"{quoted} has separators of paths, or starts with a dot"
    if len(name.encode()) > _LONGEST:
        return f"{quoted} is longer than {_LONGEST} bytes"
    return None


def case_name(name: Any, where: str | os.PathLike[str]) -> str:
    """The name itself, if a case may be called so.

    Raises:
        ValueError: saying where it stands, why it may not, and what to do; see :func:`name_problem`.
    """
    if problem := name_problem(name):
        raise ValueError(f"{shown(where)}: expected a case's name, but {problem}; rename it")
    return name


def cell(value: Any) -> str:
    """A value as a cell of a CSV file, which no spreadsheet runs and every editor shows.

    An apostrophe goes before what a spreadsheet would take for a formula, which :func:`of_cell` takes away; numbers
    stay. Characters that control a terminal become blanks, and bytes that are not UTF-8 are shown.
    """
    if value is None:
        return ""
    text = str(value)
    if not text.isprintable():
        text = shown(_CONTROL.sub(" ", text))
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def of_cell(text: str) -> str:
    """The text that :func:`cell` made this cell of."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text[1:]) else text
