"""Finding images and pairing them with their masks."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_shapekd.dataset_conversion import pictures
from nnunet_shapekd.dataset_conversion.downloads import names_in
from nnunet_shapekd.dataset_conversion.patterns import case_pattern
from nnunet_shapekd.dataset_conversion.presets import Layout, Preset
from nnunet_shapekd.dataset_conversion.target import ConversionError
from nnunet_shapekd.files.names import same_letters
from nnunet_shapekd.files.walking import Walk, unused, walk

#: Any file, by its path below the folder without the ending.
ANY = r"(?P<case>.+)"


@dataclass(frozen=True)
class Checked:
    """What reading a case showed: its problems; Pillow's mode, width and height; whether the mask is empty or soft; a
    digest of the image's pixels and its thumbnail, (576,) of mean 0 and norm 1, where alikeness is asked for."""

    problems: tuple[str, ...] = ()
    mode: str = ""
    size: tuple[int, int] = (0, 0)
    empty: bool = False
    soft: bool = False
    pixels: str = ""
    thumbnail: np.ndarray | None = None


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
    unmasked: bool = False  # lacks a mask, and is to be left out for that
    seen: Checked = Checked()

    @property
    def label(self) -> Path | None:
        """Its first mask's file."""
        return self.masks[0][0] if self.masks else None


def image_files(found: Walk) -> dict[str, list[Path]]:
    """Files of a known ending, by their path below the folder without the ending, accents in one character each."""
    files: dict[str, list[Path]] = {}
    for path in found.files:
        if path.suffix.lower() in pictures.ENDINGS:
            below = path.relative_to(found.root).with_suffix("").as_posix()
            files.setdefault(same_letters(below), []).append(path)
    return files


def _walk(folder: Path, argument: str) -> Walk:
    if not folder.is_dir():
        raise ConversionError(f"{argument} {folder}: no such folder")
    return walk(folder)


@dataclass
class Images:
    """What was found: cases, what is wrong, and the folders, in which there may be files that are of no case."""

    cases: list[ImageCase] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    walks: list[Walk] = field(default_factory=list)

    def unused(self) -> list[str]:
        """Remarks on files that look like images or masks and are not used."""
        used = [path for case in self.cases for path in (case.image, *(mask for mask, _ in case.masks))]
        return [remark for found in self.walks for remark in unused(found, used, pictures.ENDINGS)]


def find_cases(
    layouts: Sequence[Layout],
    images: dict[str, list[Path]],
    masks: dict[str, list[Path]],
    classes: Sequence[str],
    aliases: Mapping[str, str],
    masks_needed: bool = True,
    unmasked: str = "refuse",
) -> tuple[list[ImageCase], list[str]]:
    """Pairs images with their masks; returns cases and problems.

    Args:
        layouts: The patterns that paths must match wholly; images or masks that match none are other files.
        images: Paths below the images' folder, as of :func:`image_files`.
        masks: The same of the masks' folder.
        classes: Classes that each have a file of their own where the mask pattern has a group `label`.
        aliases: What mask files call a class, in lower case -> class.
        masks_needed: False where there may be no masks at all.
        unmasked: "refuse" images that lack a mask, or "leave-out": then the case says so.
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
        missing = [label for label in classes if own and own[0][1] is not None and label not in {n for _, n in own}]
        lacking = unmasked == "leave-out" and masks_needed and bool(missing or not own)
        doubled = [mask for (mask, _), stem in zip(own, stems, strict=True) if stems.count(stem) > 1]
        if doubled:
            problems.append(f"{doubled[0]}: the same mask as {doubled[1].name}; remove one of the two")
        elif masks_needed and not own and not lacking:
            out = f"--exclude {name}, or all such images with --unmasked leave-out"
            problems.append(f"{path}: image without a mask; add it, or leave the case out with {out}")
        if missing and not lacking:
            problems.append(f"{path}: no mask of {', '.join(missing)}; add it, all background where there is none")
        stratum = (match.groupdict().get("stratum") or "").lower()
        how = {"stratum": stratum, "stereo": layout.stereo, "unmasked": lacking}
        cases.append(ImageCase(name, key, path, own, layout.subset, **how))
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


def find_preset_cases(root: Path, preset: Preset, classes: Sequence[str], unmasked: str = "refuse") -> Images:
    """What there is of a public set, in the first of its layouts of which there is anything.

    Raises:
        ConversionError: if no layout has any, or one's images lie in several places, as where several sets are below
            ROOT, each in the same layout.
    """
    found = _walk(root, "ROOT")
    files = image_files(found)
    for layouts in preset.layouts:
        around = [replace(lay, images=f"(?P<around>.*/)?{lay.images}", masks=f"(?:.*/)?{lay.masks}") for lay in layouts]
        places: dict[str, set[str]] = {}
        for layout, match, _ in _matches([(layout.images, layout) for layout in around], files):
            places.setdefault(layout.images, set()).add(match["around"] or "")
        for several in (sorted(own) for own in places.values() if len(own) > 1):
            shown = ", ".join(str(root / place) for place in several)
            raise ConversionError(
                f"{root}: holds images of this layout in {len(several)} places, which may be as many sets: give one of "
                f"{shown} as ROOT, or remove what is there twice; the bundle TrainDataset, TestDataset has the preset "
                "polyp-bundle"
            )
        cases, problems = find_cases(around, files, files, classes, preset.aliases, unmasked=unmasked)
        if cases:
            return Images(cases, found.problems + problems, [found])
    expected = f"{root}: expected {preset.title} as {preset.expected}, found {names_in(root)}"
    raise ConversionError([*found.problems, expected])


def find_plain_cases(images: str | Path, options: Any, classes: Sequence[str], unmasked: str = "refuse") -> Images:
    """What there is in the user's own folders; the options are those of `convert_images`.

    Raises:
        ConversionError: for arguments that do not fit together, a folder that is missing, or one without images.
    """
    pattern, of_images = options.mask_pattern or ANY, options.image_pattern or ANY
    compiled = case_pattern(pattern, "--mask-pattern", re.IGNORECASE)
    case_pattern(of_images, "--image-pattern", re.IGNORECASE)
    if options.test_masks is not None and options.test_images is None:
        raise ConversionError("--test-masks: needs --test-images")
    every = Images()
    test = ("Ts", options.test_images, options.test_masks)
    for subset, picture_folder, mask_folder in (("Tr", images, options.masks), test):
        if picture_folder is None:
            continue
        walks = [_walk(Path(picture_folder), "IMAGES" if subset == "Tr" else "--test-images")]
        same = mask_folder and Path(picture_folder).resolve() == Path(mask_folder).resolve()
        if mask_folder and not same:
            walks.append(_walk(Path(mask_folder), "MASKS" if subset == "Tr" else "--test-masks"))
        found, of_masks = image_files(walks[0]), image_files(walks[-1]) if mask_folder else {}
        if same:  # masks beside their images, told apart by the pattern
            found = {below: paths for below, paths in found.items() if not compiled.fullmatch(below)}
        unreached = [problem for one in walks for problem in one.problems]
        if not found:
            raise ConversionError([*unreached, f"{picture_folder}: no images ({', '.join(pictures.ENDINGS)}) in there"])
        layout = Layout(of_images, pattern, subset)
        of_subset, wrong = find_cases([layout], found, of_masks, classes, {}, mask_folder is not None, unmasked)
        if not of_subset:
            raise ConversionError(f"--image-pattern {of_images}: matches none of the {len(found)} images' paths")
        twins = {case.name.lower() for case in every.cases} & {case.name.lower() for case in of_subset}
        every.problems += unreached + wrong
        every.problems += [
            f"{case.image}: a training image has the same name; rename one of the two"
            for case in of_subset
            if case.name.lower() in twins
        ]
        every.cases += of_subset
        every.walks += walks
    return every


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
