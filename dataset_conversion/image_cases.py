"""Images and masks on the way to nnU-Net's raw format: finding, pairing, checking and writing them, one case a time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from nnunet_shapekd.dataset_conversion import pictures
from nnunet_shapekd.dataset_conversion.common import ConversionError
from nnunet_shapekd.dataset_conversion.pictures import Labels
from nnunet_shapekd.dataset_conversion.presets import Layout, Preset

#: Any file, by its path below the folder without the ending.
ANY = r"(?P<case>.+)"
#: images are alike where they are alike this small
THUMBNAIL = (24, 24)


@dataclass(frozen=True)
class ImageCase:
    """An image and its masks, each with the class it is of where every class has files of its own."""

    name: str
    key: str  # what pairs image and masks: the path without ending, or the pattern's group `case`
    image: Path
    masks: tuple[tuple[Path, str | None], ...]
    subset: str  # "Tr" or "Ts"
    group: str = ""
    stratum: str = ""
    stereo: bool = False


@dataclass(frozen=True)
class Reading:
    """How all files of a dataset are read."""

    labels: Labels
    threshold: int | None = None
    exif: str = "refuse"
    channels: str = "auto"
    empty: str = "refuse"
    alike: float | None = None


@dataclass(frozen=True)
class Checked:
    """What reading a case showed: its problems; Pillow's mode, width and height; whether the mask is empty or soft; a
    digest of the image's pixels and its thumbnail, (576,) of mean 0 and norm 1, where alikeness is asked for."""

    problems: tuple[str, ...]
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    empty: bool = False
    soft: bool = False
    pixels: str = ""
    thumbnail: np.ndarray | None = None


def image_files(folder: Path, argument: str) -> dict[str, list[Path]]:
    """Files of a known ending anywhere below a folder, by their path below it without the ending.

    Raises:
        ConversionError: if there is no such folder.
    """
    if not folder.is_dir():
        raise ConversionError(f"{argument} {folder}: no such folder")
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in below.parts)
        if path.suffix.lower() in pictures.ENDINGS and not hidden and path.is_file():
            files.setdefault(below.with_suffix("").as_posix(), []).append(path)
    return files


def find_cases(
    layouts: Sequence[Layout],
    images: dict[str, list[Path]],
    masks: dict[str, list[Path]],
    classes: Sequence[str],
    aliases: Mapping[str, str],
    masks_needed: bool = True,
) -> tuple[list[ImageCase], list[str]]:
    """Pairs images with their masks; returns cases and problems.

    Args:
        layouts: The patterns that paths must match wholly; images or masks that match none are other files.
        images: Paths below the images' folder, as of :func:`image_files`.
        masks: The same of the masks' folder.
        classes: Classes that each have a file of their own where the mask pattern has a group `label`.
        aliases: What mask files call a class, in lower case -> class.
        masks_needed: False where there may be no masks at all.
    """
    problems: list[str] = []
    by_label = {name.lower(): name for name in classes}
    by_label |= {alias: name for alias, name in aliases.items() if name in classes}
    found: dict[str, list[tuple[Path, str | None]]] = {}
    for _, match, path in _matches([(layout.masks, layout) for layout in layouts], masks):
        label = match.groupdict().get("label")
        if label is not None and label.lower() not in by_label:
            problems.append(f"{path}: is of {label}, which is no class of --labels ({', '.join(classes)})")
            continue
        found.setdefault(_key(match), []).append((path, by_label[label.lower()] if label is not None else None))
    cases: list[ImageCase] = []
    taken: dict[str, Path] = {}
    for layout, match, path in _matches([(layout.images, layout) for layout in layouts], images):
        key = _key(match)
        name = re.sub(r"[^\w.-]+", "_", key, flags=re.ASCII).strip("_.") or "image"
        if name.lower() in taken:
            problems.append(f"{path}: the same case as {taken[name.lower()]} ({name}); rename or remove one of the two")
            continue
        taken[name.lower()] = path
        own = tuple(found.pop(key, ()))
        stems = [str(mask.with_suffix("")).lower() for mask, _ in own]
        doubled = [mask for (mask, _), stem in zip(own, stems, strict=True) if stems.count(stem) > 1]
        if doubled:
            problems.append(f"{doubled[0]}: the same mask as {doubled[1].name}; remove one of the two")
        elif masks_needed and not own:
            problems.append(f"{path}: image without a mask; add it, or leave the case out with --exclude {name}")
        missing = [label for label in classes if own and own[0][1] is not None and label not in {n for _, n in own}]
        if missing:
            problems.append(f"{path}: no mask of {', '.join(missing)}; add it, all background where there is none")
        stratum = (match.groupdict().get("stratum") or "").lower()
        cases.append(ImageCase(name, key, path, own, layout.subset, stratum=stratum, stereo=layout.stereo))
    problems += [f"{path}: mask without an image; restore or remove it" for own in found.values() for path, _ in own]
    return cases, problems


def _matches(
    patterns: Sequence[tuple[str, Layout]], files: dict[str, list[Path]]
) -> Iterator[tuple[Layout, re.Match[str], Path]]:
    """Every file that matches a pattern, once, with the first of them."""
    compiled = [(re.compile(pattern, re.IGNORECASE), layout) for pattern, layout in patterns]
    for below, paths in files.items():
        for pattern, layout in compiled:
            if match := pattern.fullmatch(below):
                yield from ((layout, match, path) for path in paths)
                break


def _key(match: re.Match[str]) -> str:
    groups = match.groupdict()
    return f"{groups['set']}/{groups['case']}" if groups.get("set") else groups["case"]


def find_preset_cases(root: Path, preset: Preset, classes: Sequence[str]) -> tuple[list[ImageCase], list[str]]:
    """Cases of a public set in the first of its layouts that has any, and problems."""
    files = image_files(root, "ROOT")
    for layouts in preset.layouts:
        around = [replace(lay, images=f"(?:.*/)?{lay.images}", masks=f"(?:.*/)?{lay.masks}") for lay in layouts]
        cases, problems = find_cases(around, files, files, classes, preset.aliases)
        if cases:
            return _in_official_parts(cases, preset, problems), problems
    there = ", ".join(sorted(path.name for path in root.iterdir())[:10]) or "nothing"
    raise ConversionError(f"{root}: expected {preset.title} as {preset.expected}, found {there}")


def _in_official_parts(cases: Sequence[ImageCase], preset: Preset, problems: list[str]) -> list[ImageCase]:
    """The cases in the subset that an official split says; appends to the problems."""
    if preset.part is None:
        return list(cases)
    placed = []
    for case in cases:
        try:
            placed.append(replace(case, subset="Ts" if preset.part(case.key) == "test" else "Tr"))
        except ValueError as error:
            problems.append(f"{case.image}: {error}")
    return placed


def read_case(case: ImageCase, reading: Reading) -> tuple[Image.Image, np.ndarray | None, bool]:
    """Image, mask (class indices, uint8 (height, width), or None) and whether the threshold decided anything.

    Raises:
        ConversionError: listing what is wrong with the case's files.
    """
    problems, parts, soft = [], [], False
    image = None
    try:
        image = pictures.read_image(case.image, reading.channels, reading.exif)
    except ValueError as error:
        problems.append(str(error))
    if image is not None and case.stereo:
        width = image.width // 2
        image = image.crop((0, 0, width, image.height))
    for path, label in case.masks:
        try:
            part, is_soft = pictures.read_mask(path, reading.labels, label, reading.threshold, reading.exif)
        except ValueError as error:
            problems.append(str(error))
            continue
        if image is not None and case.stereo and part.shape[1] == 2 * image.width:
            part = part[:, : image.width]
        if image is not None and part.shape != (image.height, image.width):
            sizes = f"{part.shape[1]}x{part.shape[0]} pixels, its image {image.width}x{image.height}"
            problems.append(
                f"{path}: has {sizes}; correct one of them, or leave the case out with --exclude {case.name}"
            )
            continue
        parts.append(part)
        soft |= is_soft
    if problems:
        raise ConversionError(problems)
    try:
        mask = pictures.merge_masks(parts, reading.labels) if parts else None
    except ValueError as error:
        raise ConversionError(f"{case.masks[0][0]}: {error}") from None
    return image, mask, soft


def check_case(case: ImageCase, reading: Reading) -> Checked:
    """Reads a case once and says what is wrong with it."""
    try:
        image, mask, soft = read_case(case, reading)
    except ConversionError as error:
        return Checked(tuple(error.problems))
    empty = mask is not None and not mask.any()
    problems: tuple[str, ...] = ()
    if empty and reading.empty == "refuse":
        reason = f" (nothing reaches the threshold {reading.threshold})" if reading.threshold is not None else ""
        problems = (f"{case.masks[0][0]}: mask is empty{reason}; correct it, or give --empty keep or leave-out",)
    pixels = hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()
    return Checked(problems, image.mode, image.size, empty, soft, pixels, _thumbnail(image) if reading.alike else None)


def _thumbnail(image: Image.Image) -> np.ndarray:
    values = np.asarray(image.convert("L").resize(THUMBNAIL, Image.Resampling.BILINEAR), np.float32).ravel()
    values -= values.mean()
    return values / max(float(np.linalg.norm(values)), 1e-6)


def write_case(case: ImageCase, folder: Path, reading: Reading) -> None:
    """Writes a checked case below a dataset folder."""
    image, mask, _ = read_case(case, reading)
    target = folder / f"images{case.subset}" / f"{case.name}_0000.png"
    if not case.stereo and pictures.is_ready(case.image, image):
        target.write_bytes(case.image.read_bytes())
    else:
        _bare(image).save(target)
    if mask is not None:
        Image.fromarray(mask).save(folder / f"labels{case.subset}" / f"{case.name}.png")


def _bare(image: Image.Image) -> Image.Image:
    """The pixels alone: EXIF, transparency and colour profiles of the source would be written into the PNG."""
    return Image.frombytes(image.mode, image.size, image.tobytes())


def find_plain_cases(
    images: str | Path,
    masks: str | Path,
    test_images: str | Path | None,
    test_masks: str | Path | None,
    mask_pattern: str | None,
    classes: Sequence[str],
) -> tuple[list[ImageCase], list[str]]:
    """Cases of the user's own folders, and problems; the arguments are those of `convert_images`.

    Raises:
        ConversionError: for arguments that do not fit together, a folder that is missing, or one without images.
    """
    pattern = mask_pattern or ANY
    try:
        compiled = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise ConversionError(f"--mask-pattern {pattern}: is no regular expression ({error})") from None
    if "case" not in compiled.groupindex:
        raise ConversionError(f"--mask-pattern {pattern}: has no group (?P<case>...), which must say whose mask it is")
    if test_masks is not None and test_images is None:
        raise ConversionError("--test-masks: needs --test-images")
    cases, problems = [], []
    for subset, picture_folder, mask_folder in (("Tr", images, masks), ("Ts", test_images, test_masks)):
        if picture_folder is None:
            continue
        found = image_files(Path(picture_folder), "IMAGES" if subset == "Tr" else "--test-images")
        of_masks = image_files(Path(mask_folder), "MASKS" if subset == "Tr" else "--test-masks") if mask_folder else {}
        if Path(picture_folder).resolve() == Path(mask_folder or "").resolve() and mask_folder:
            # masks beside their images, told apart by the pattern
            found = {below: paths for below, paths in found.items() if not compiled.fullmatch(below)}
        if not found:
            raise ConversionError(f"{picture_folder}: no images ({', '.join(pictures.ENDINGS)}) in there")
        layout = Layout(ANY, pattern, subset)
        of_subset, wrong = find_cases([layout], found, of_masks, classes, {}, mask_folder is not None)
        twins = {case.name.lower() for case in cases} & {case.name.lower() for case in of_subset}
        problems += wrong + [
            f"{case.image}: a training image has the same name; rename one of the two"
            for case in of_subset
            if case.name.lower() in twins
        ]
        cases += of_subset
    return cases, problems


def without(
    cases: Sequence[ImageCase], problems: Sequence[str], exclude: Sequence[str]
) -> tuple[list[ImageCase], list[str]]:
    """Cases and problems less those of the excluded cases."""
    unknown = sorted(set(exclude) - {case.name for case in cases})
    excluded = [case for case in cases if case.name in exclude]
    gone = tuple(f"{path}: " for case in excluded for path in (case.image, *(mask for mask, _ in case.masks)))
    remaining = [problem for problem in problems if not problem.startswith(gone or "\0")]
    remaining += [f"--exclude {name}: no such case" for name in unknown]
    return [case for case in cases if case.name not in exclude], remaining


def with_groups(
    cases: Sequence[ImageCase], group: Callable[[str], str] | None, stratum: Callable[[str], str] | None
) -> tuple[list[ImageCase], list[str]]:
    """The cases with group (by default each its own) and stratum, and problems; a group lies in one subset."""
    grouped: list[ImageCase] = []
    problems: list[str] = []
    for case in cases:
        own = case.name
        try:
            own = group(case.key) if group else own
            case = replace(case, stratum=stratum(case.key) if stratum else case.stratum)
        except ValueError as error:
            problems.append(f"{case.image}: {error}")
        grouped.append(replace(case, group=own))
    subset_of: dict[str, str] = {}
    for case in grouped:
        if subset_of.setdefault(case.group, case.subset) != case.subset:
            problems.append(f"{case.image}: its group {case.group} has training and test images; move it to one side")
    return grouped, problems


def find_twins(checked: Sequence[Checked], alike: float | None) -> list[tuple[int, int]]:
    """Pairs of images of the same pixels, or whose thumbnails correlate by ``alike`` or more; the first one first."""
    first: dict[str, int] = {}
    pairs = set()
    for i, seen in enumerate(checked):
        if seen.pixels and first.setdefault(seen.pixels, i) != i:
            pairs.add((first[seen.pixels], i))
    readable = [i for i, seen in enumerate(checked) if seen.thumbnail is not None]
    if alike is not None and readable:
        thumbnails = np.stack([checked[i].thumbnail for i in readable])
        for row, i in enumerate(readable):
            found = np.flatnonzero(thumbnails[row + 1 :] @ thumbnails[row] >= alike) + row + 1
            pairs |= {(i, readable[column]) for column in found}
    return sorted(pairs)


def with_twins_together(
    cases: Sequence[ImageCase], twins: Sequence[tuple[int, int]], side: Callable[[ImageCase], str]
) -> tuple[list[ImageCase], list[str]]:
    """Cases whose twins are of one group, and problems.

    Args:
        cases: with their groups.
        twins: as of :func:`find_twins`.
        side: what a case is for, where that is settled ("Tr" or "Ts"; "train" or "val" of an official split): twins on
            two sides are a problem.
    """
    joined: dict[str, str] = {}  # group -> the group it has become part of
    problems = []

    def final(group: str) -> str:
        while group in joined:
            group = joined[group]
        return group

    for one, other in ((cases[i], cases[j]) for i, j in twins):
        if side(one) != side(other):
            problems.append(
                f"{other.image}: is {one.image} again, and one is to judge what is trained on the other; "
                f"leave one out with --exclude {other.name} or {one.name}"
            )
        elif final(one.group) != final(other.group):
            joined[final(other.group)] = final(one.group)
    return [replace(case, group=final(case.group)) for case in cases], problems


def by_regex(pattern: str, argument: str) -> Callable[[str], str]:
    """A function from a case's key to the group `group`, else the first one, else the whole match.

    Raises:
        ConversionError: if it is no regular expression; the function raises ValueError for a key without a match.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConversionError(f"{argument} {pattern}: is no regular expression ({error})") from None
    which = "group" if "group" in compiled.groupindex else min(compiled.groups, 1)

    def find(key: str) -> str:
        match = compiled.search(key)
        found = match[which] if match else None
        if not found:
            raise ValueError(f"{argument} {pattern} matches nothing in {key}")
        return found

    return find
