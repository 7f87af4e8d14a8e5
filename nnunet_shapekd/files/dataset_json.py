"""What a dataset.json of nnU-Net's says, checked as a whole: labels, file ending, channels, reader."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: the largest value of a label map, which nnU-Net writes in 16 bits at most
LARGEST = 65535


@dataclass(frozen=True)
class Labels:
    """What the values in a label map mean.

    Attributes:
        classes: foreground class or region -> its values.
        ignore: the value of voxels that are not evaluated.
        left_out: known values that are not evaluated: background for every class.
    """

    classes: dict[str, tuple[int, ...]]
    ignore: int | None = None
    left_out: tuple[int, ...] = ()

    @property
    def values(self) -> set[int]:
        """All values a label map may hold."""
        known = {0, *self.left_out, *(value for values in self.classes.values() for value in values)}
        return known if self.ignore is None else known | {self.ignore}

    def without(self, names: Iterable[str]) -> "Labels":
        """These labels, of which the classes named (or given by a value) are not evaluated.

        Raises:
            ValueError: if there is no such class, or none remains.
        """
        classes, left_out = dict(self.classes), set(self.left_out)
        for name in names:
            found = [
                c for c, values in self.classes.items() if name in (c, *(map(str, values) if len(values) == 1 else ()))
            ]
            if not found:
                raise ValueError(f"--leave-out {name}: no such class; there are {', '.join(self.classes)}")
            left_out.update(classes.pop(found[0], ()))
        if not classes:
            raise ValueError("--leave-out names all classes: nothing is left to evaluate")
        return Labels(classes, self.ignore, tuple(sorted(left_out)))


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file of nnU-Net's.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no JSON, no object, or says something twice.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file; give the dataset.json that names the labels") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected an object of nnU-Net's, got a {type(content).__name__}")
    return content


def read_dataset_json(path: Path) -> dict[str, Any]:
    """The content of a dataset.json, of whose labels, file ending and channels sense can be made.

    Raises:
        FileNotFoundError, ValueError: naming the file, and what is expected.
    """
    content = read_object(path)
    try:
        labels_of_dataset(content)
        if content.get("file_ending") is not None:
            file_ending(content)
        if content.get("channel_names") or content.get("modality"):
            channel_names(content)
    except ValueError as error:
        raise ValueError(f"{path}: {str(error).removeprefix('dataset.json: ')}") from None
    return content


def labels_of_dataset(dataset_json: Mapping[str, Any]) -> Labels:
    """Classes or regions of a dataset.json, as nnU-Net's label manager has them.

    Classes under "not_annotated" have a value and are in no label map, as nnU-Net wants values without gaps and EMIDEC
    has no right ventricle: they are not evaluated.

    Raises:
        ValueError: if the entry "labels" is missing or not as nnU-Net wants it.
    """
    entries = dataset_json.get("labels")
    if not isinstance(entries, Mapping):
        raise ValueError('dataset.json: expected "labels": {"background": 0, NAME: VALUE or [VALUES], ...}')
    values = {name: _values(name, value) for name, value in entries.items() if (name, value) != ("ignore", None)}
    if bad := [name for name in values if not (name.strip() and name.isprintable())]:
        raise ValueError(f"dataset.json: labels: {bad[0]!r} is no name for a class; give it one")
    ignore = values.pop("ignore", None)
    left_out = tuple(v for name in dataset_json.get("not_annotated") or () for v in values.pop(name, ()))
    classes = {name: value for name, value in values.items() if set(value) != {0}}
    if not classes or "mean" in classes:
        raise ValueError(
            f"dataset.json: expected classes besides background, none of them called mean, got {', '.join(classes)}"
        )
    if ignore is None:
        return Labels(classes, left_out=left_out)
    known = {0, *(value for of in classes.values() for value in of)}
    if isinstance(entries["ignore"], (list, tuple)) or ignore[0] in known:
        raise ValueError(
            'dataset.json: labels: expected one value of its own for "ignore", which is in no class, got '
            f"{entries['ignore']!r}"
        )
    return Labels(classes, ignore[0], left_out)


def labels_by_value(values: Sequence[int], ignore: int | None = None) -> Labels:
    """Classes that are named by their values."""
    if not values or min(values) < 1 or max(values) > LARGEST:
        raise ValueError(f"-l: expected label values of 1 to {LARGEST}, got {' '.join(map(str, values)) or 'none'}")
    if ignore is not None and (ignore < 1 or ignore > LARGEST or ignore in values):
        raise ValueError(f"-il: expected a label value of 1 to {LARGEST} that is not among those of -l, got {ignore}")
    return Labels({str(value): (value,) for value in values}, ignore)


def file_ending(dataset_json: Mapping[str, Any]) -> str:
    """The ending of the dataset's files; raises ValueError if it says none that can be one."""
    ending = dataset_json.get("file_ending")
    if not isinstance(ending, str) or not ending.isprintable() or len(ending) < 2 or ending[0] != "." or "/" in ending:
        raise ValueError(f'dataset.json: expected "file_ending", such as ".nii.gz", got {ending!r}')
    return ending


def channel_names(dataset_json: Mapping[str, Any]) -> list[str]:
    """Names of the image channels, in their order.

    Raises:
        ValueError: if dataset.json has none.
    """
    names = dataset_json.get("channel_names") or dataset_json.get("modality")
    if not isinstance(names, Mapping) or not names:
        raise ValueError('dataset.json: expected "channel_names": {"0": NAME, ...}')
    try:
        of_number = {int(key): str(name) for key, name in names.items()}
    except ValueError:
        of_number = {}
    if len(of_number) != len(names):
        raise ValueError(f'dataset.json: expected "channel_names" numbered from 0, got {", ".join(names)}')
    return [name for _, name in sorted(of_number.items())]


def reader_of(dataset_json: Path) -> str | None:
    """The name of the reader that nnU-Net took: by plans.json beside a dataset.json, or by that file itself.

    ``None`` where neither says so, or is there: nnU-Net chooses by the files.
    """
    plans = dataset_json.with_name("plans.json")
    for path, key in ((plans, "image_reader_writer"), (dataset_json, "overwrite_image_reader_writer")):
        try:
            name = read_object(path).get(key)
        except (OSError, ValueError):
            continue
        if isinstance(name, str) and name != "None":
            return name
    return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{twice[0]!r} is there twice")
    return dict(pairs)


def _values(name: str, value: Any) -> tuple[int, ...]:
    """A class's values; a number may be a string, as nnU-Net's ``int`` takes it."""
    found = []
    for one in value if isinstance(value, (list, tuple)) else [value]:
        number = int(one) if isinstance(one, str) and one.isdecimal() and len(one) < 9 else one
        if isinstance(number, bool) or not isinstance(number, (int, float)) or number not in range(LARGEST + 1):
            found.clear()
            break
        found.append(int(number))
    if not found:
        raise ValueError(f"dataset.json: labels: expected values of 0 to {LARGEST} for {name!r}, got {str(value)[:99]}")
    return tuple(found)
