"""What lies in a folder of somebody else's: links followed, loops noticed, and what cannot be reached is named."""

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_shapekd.files.names import shown, some

#: endings, and names without one, of what is no image; any other file may be one
DOCUMENTS = re.compile(
    r"\.(bib|cfg|conf|css|csv|db|docx?|html?|ini|ipynb|js|json|log|m|md|md5|odt|pdf|pptx?|py|rst|rtf|sh|sha\d+|tex|toml|tsv"
    r"|txt|url|xlsx?|xml|ya?ml)|(authors|changes|citation|licen[cs]e|makefile|readme)"
)
#: beside names that start with a dot: what operating systems and storage devices put into folders
_HIDDEN = frozenset({"__macosx", "@eadir", "$recycle.bin", "#recycle", "lost+found", "system volume information"})
_POINTERS = {b"/annex/objects/": "git annex get", b"version https://git-lfs": "git lfs pull"}
_LONGEST_POINTER = 1024


@dataclass
class Walk:
    """A folder that was walked.

    Attributes:
        root: the folder.
        files: all that can be read, or looks so, sorted, by the path they are reached on.
        folders: below it, likewise.
        problems: what may be data and cannot be reached, and why.
        remarks: links that were not followed, as what they lead to is walked anyway.
    """

    root: Path
    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def below(self, folder: Path) -> list[Path]:
        """The files below one of the folders."""
        return [path for path in self.files if folder in path.parents]


def walk(root: Path, deep: bool = True) -> Walk:
    """All files below a folder, or directly in it, without what operating systems leave beside them.

    Links are followed. One that leads back to where it was come from is not, nor is a second one to the same folder.
    """
    found = Walk(root)
    if problem := _name_trouble(root):
        found.problems.append(problem)
    else:
        _walk(root, (os.path.realpath(root),), set(), deep, found)
    found.files.sort()
    found.folders.sort()
    return found


def _walk(folder: Path, around: tuple[str, ...], linked: set[str], deep: bool, found: Walk) -> None:
    """Args: around: the real path of the folder and of those it was reached through; linked: folders links led to."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        found.problems.append(
            f"{shown(folder)}: may not be looked into ({error.strerror}); give yourself the permission: chmod u+rx"
        )
        return
    for entry in entries:
        path = folder / entry.name
        if is_hidden_name(entry.name):
            continue
        if not _is_folder(entry):
            if (trouble := _entry_trouble(path)) is None:
                found.files.append(path)
            elif looks_like_data(path):
                found.problems.append(trouble)
        elif problem := _name_trouble(path):
            found.problems.append(problem)
        else:
            real = os.path.realpath(path)
            if entry.is_symlink():
                if any(Path(one).is_relative_to(real) for one in around):
                    found.remarks.append(f"{shown(path)} is a link back to {real}, and was not followed.")
                    continue
                if real in linked:
                    found.remarks.append(f"{shown(path)} is a second link to {real}, and was not followed.")
                    continue
                linked.add(real)
            found.folders.append(path)
            if deep:
                _walk(path, (*around, real), linked, deep, found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _name_trouble(path: Path) -> str | None:
    try:
        str(path).encode()
        return None
    except UnicodeEncodeError:
        return (
            f"{shown(path)}: the name is not UTF-8, as in archives of other systems, and readers end at it; rename it"
        )


def _entry_trouble(path: Path) -> str | None:
    """What is wrong with a file's name or kind, its content unseen."""
    if problem := _name_trouble(path):
        return problem
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"{shown(path)}: {_why_not_there(path, error)}"
    if stat.S_ISDIR(mode):
        return f"{shown(path)}: is a folder, not a file; put the file that may be inside in its place"
    if not stat.S_ISREG(mode):
        kind = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}.get(stat.S_IFMT(mode), "a device")
        return f"{shown(path)}: is no regular file but {kind}; put the file there or remove it"
    return None


def _why_not_there(path: Path, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a link to itself, which cannot be followed; put the file or folder there or remove it"
    if path.is_symlink() and isinstance(error, FileNotFoundError):
        target = shown(os.readlink(path))
        how = " (`git annex get` or `datalad get` fetches it)" if ".git/annex" in target else ""
        return f"is a link to {target}, which cannot be followed: nothing is there; fetch it{how} or remove the link"
    if isinstance(error, FileNotFoundError):
        return "is not there any more"
    return f"cannot be reached ({error.strerror}); give yourself the permission"


def file_trouble(path: Path) -> str | None:
    """What keeps a file from being read, with its name and what to do; ``None`` for one that has content to read.

    Named are what is not there, leads nowhere, is no file, may not be read, is empty, or stands for a file that was not
    fetched; and names that are not UTF-8, at which readers of images end the process.
    """
    if problem := _entry_trouble(path):
        return problem
    try:
        with path.open("rb") as file:
            start = file.read(max(map(len, _POINTERS)))
    except OSError as error:
        return f"{shown(path)}: may not be read ({error.strerror}); give yourself the permission: chmod u+r"
    if not start:
        return f"{shown(path)}: is empty (0 bytes); restore it"
    if path.stat().st_size <= _LONGEST_POINTER:
        for sign, command in _POINTERS.items():
            if start.startswith(sign):
                return f"{shown(path)}: stands for a file that was not fetched; `{command}` fetches it"
    return None


def is_hidden_name(name: str) -> bool:
    """Whether operating systems give this name."""
    return name.startswith(".") or name.lower() in _HIDDEN


def ending(path: Path) -> str:
    """A file's ending in lower case; ".nii.gz" and the like as a whole."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    return "".join(suffixes if suffixes[-1:] == [".gz"] else suffixes[-1:])


def looks_like_data(path: Path) -> bool:
    """Whether a file may be an image by its name: it is no document."""
    return not DOCUMENTS.fullmatch(ending(path) or path.name.lower())


def unused(found: Walk, used: Iterable[Path], readable: Iterable[str]) -> Iterator[str]:
    """A remark for each ending of files that look like data and were not used.

    Args:
        found: all that is there.
        used: what is taken, or spoken of elsewhere; one that several links lead to counts on each of its paths.
        readable: the endings that could have been used.
    """
    yield from found.remarks
    taken, endings = {os.path.realpath(path) for path in used}, tuple(readable)
    rest: dict[str, list[str]] = {}
    for path in found.files:
        if looks_like_data(path) and os.path.realpath(path) not in taken:
            rest.setdefault(ending(path), []).append(shown(path.relative_to(found.root)))
    for kind, names in sorted(rest.items()):
        why = "named or placed otherwise than it is read" if kind in endings else f"read are {', '.join(endings)}"
        files = f"{len(names)} file{'s' * (len(names) > 1)} {f'ending in {kind}' if kind else 'without an ending'}"
        yield f"Not used: {files} ({why}): {some(names)}"
