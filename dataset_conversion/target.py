"""What every conversion is asked, and the new dataset that it writes to."""

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from nnunet_shapekd.files.leftovers import being_made
from nnunet_shapekd.files.output import check_free
from nnunet_shapekd.files.parallel import default_processes


class ConversionError(ValueError):
    """A conversion that cannot be done as asked; its message lists all problems, one a line."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        lines = self.problems
        if len(lines) > 1:
            lines = [f"{len(lines)} problems found, nothing was written:", *(f"  - {line}" for line in lines)]
        super().__init__("\n".join(lines))


@contextmanager
def listed(problems: list[str]) -> Iterator[None]:
    """Adds what goes wrong to the problems, so that all are found before any is reported."""
    try:
        yield
    except ConversionError as error:
        problems += error.problems


def option(*flags: str, default: Any = None, **argument: Any) -> Any:
    """A field of an options class that a user types with these flags; its help is its documentation."""
    return field(default=default, metadata={"flags": flags, "argument": argument})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every conversion may be asked; converters add their own."""

    dataset_id: int | None = option("-d", "--dataset-id", type=int, help="nnU-Net dataset id, 1 to 999")
    name: str | None = option("--name", help="dataset name after the id")
    seed: int = option("--seed", type=int, default=12345, help="seed of the folds (default: %(default)s)")
    processes: int | None = option("--processes", type=int, help="cases read at once (default: the cores, at most 8)")
    #: instead of the environment variable nnUNet_raw
    raw_folder: str | Path | None = None
    #: instead of nnUNet_preprocessed, where an other splits_final.json would win; may be unset
    preprocessed_folder: str | Path | None = None

    def chosen(self, name: str) -> Any:
        """The value of an option that has choices; raises ConversionError for any other."""
        of = next(known for known in fields(self) if known.name == name)
        argument, value = of.metadata["argument"], getattr(self, name)
        if value not in argument["choices"] and (argument.get("required") or value != of.default):
            allowed = ", ".join(map(str, argument["choices"]))
            raise ConversionError(f"{of.metadata['flags'][0]}: expected {allowed}, got {value}")
        return value


@dataclass(frozen=True)
class Target:
    """Where a conversion writes to, and how; everything about it was checked."""

    folder: Path  # the new dataset's
    dataset_id: int
    name: str
    other_splits: Path | None  # where a split file of an earlier conversion would win
    seed: int
    processes: int


def check_target(options: Options, name: str, dataset_id: int) -> Target:
    """What the options say, with a converter's own name and id where they say none.

    In nnU-Net's raw folder the id must be free; in the preprocessed and results folders only another name of the same
    id is in the way.

    Raises:
        ConversionError: naming the argument that does not do.
    """
    name, dataset_id = options.name or name, dataset_id if options.dataset_id is None else options.dataset_id
    raw, preprocessed, results = (
        Path(folder) if folder else None
        for folder in (
            options.raw_folder or os.environ.get("nnUNet_raw"),
            options.preprocessed_folder or os.environ.get("nnUNet_preprocessed"),
            os.environ.get("nnUNet_results"),
        )
    )
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
    check_id(raw, dataset_id)
    for unfinished in being_made(raw / f".shapekd-partial-{prefix}"):
        raise ConversionError(
            f"{unfinished}: another conversion writes a dataset of the same id; choose another with -d, or remove that "
            "folder if the other is no more"
        )
    for folder in filter(None, (preprocessed, results)):
        for existing in filter(Path.is_dir, sorted(folder.glob(f"{prefix}*"))):
            if existing.name != f"{prefix}_{name}":
                raise ConversionError(
                    f"{existing} has the same id: nnU-Net refuses an id with two names; choose another id with -d"
                )
    processes = default_processes() if options.processes is None else options.processes
    if processes < 1:
        raise ConversionError(f"--processes: expected 1 or more, got {processes}")
    if not 0 <= options.seed < 2**32:
        raise ConversionError(f"--seed: expected 0 to {2**32 - 1}, got {options.seed}")
    dataset = f"{prefix}_{name}"
    try:
        check_free(raw / dataset, None)
    except ValueError as error:
        raise ConversionError(str(error)) from None
    splits = preprocessed / dataset / "splits_final.json" if preprocessed else None
    return Target(raw / dataset, dataset_id, name, splits, options.seed, processes)


def check_id(raw: Path, dataset_id: int) -> None:
    """Raises ConversionError where nnU-Net's raw folder has a dataset of this id: it refuses an id with two names."""
    for existing in filter(Path.is_dir, sorted(raw.glob(f"Dataset{dataset_id:03d}*"))):
        raise ConversionError(f"{existing} exists already and is left as it is: delete it or choose another id with -d")


class Command:
    """``shapekd convert`` of one set: what the user types becomes a root and the options of its converter.

    Args:
        convert: takes the root and the options, and writes.
        kind: of the options.
        root: what the root is, for the help.
        called: the root in the help.
        in_words: those defaults of options that are not the same for all sets.
    """

    def __init__(
        self, convert: Callable[[str, Any], Path], kind: type[Options], root: str, called: str = "ROOT", **in_words: Any
    ) -> None:
        self.convert, self.kind, self.root, self.called, self.in_words = convert, kind, root, called, in_words

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds ROOT and the options."""
        parser.add_argument("root", metavar=self.called, help=self.root)
        for known in fields(self.kind):
            if known.metadata:
                flags, argument = known.metadata["flags"], dict(known.metadata["argument"])
                if flags[0].startswith("-"):
                    argument["dest"] = known.name
                if known.name in self.in_words:
                    argument["help"] += f" (default: {self.in_words[known.name]})"
                parser.add_argument(*flags, default=known.default, **argument)

    def run(self, args: argparse.Namespace) -> int:
        """Converts; returns the exit status. Errors a user can do something about become a line on stderr."""
        given = vars(args)
        options = self.kind(**{known.name: given[known.name] for known in fields(self.kind) if known.metadata})
        try:
            self.convert(args.root, options)
        except (ValueError, OSError, RuntimeError) as error:  # SimpleITK's cannot-write is a RuntimeError
            message, full = f"Error: {error}", getattr(error, "errno", None) == errno.ENOSPC
            if full or (not isinstance(error, ValueError) and getattr(error, "filename", None) is None):
                # of writing, not of a file the user named; a progress bar has left its line open
                message = f"\n{message} (nnUNet_raw is {os.environ.get('nnUNet_raw')}; no dataset was written)"
            print(message, file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("Interrupted; no dataset was written.", file=sys.stderr)
            return 130
        return 0
