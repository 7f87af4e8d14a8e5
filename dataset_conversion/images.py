"""Folders of 2D images and masks (PNG, JPG, TIF, BMP) into nnU-Net's raw format, and presets of public sets.

An image becomes one PNG as nnU-Net's NaturalImage2DIO (nnunetv2 2.8.1) wants it: RGB in one file with the channels R,
G, B, or grey with one channel; what is such a PNG already is copied byte for byte. Masks become 8-bit PNGs of class
indices. What is done about the usual trouble: alpha channels are dropped; several masks of an image are merged;
lossy and antialiased masks of one class count from --threshold on, those of several classes are refused; images of
the same pixels are kept in one fold; images of more than 8 bits a channel, images turned by EXIF (see --exif), pairs
of different size, images without mask, masks without image, empty masks (see --empty), several files of one name and
files cut short are refused, all at once.
"""

from __future__ import annotations

import argparse
import csv
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from nnunet_shapekd.dataset_conversion import common, pictures
from nnunet_shapekd.dataset_conversion.common import ConversionError
from nnunet_shapekd.dataset_conversion.image_cases import (
    Checked,
    ImageCase,
    Reading,
    by_regex,
    check_case,
    find_plain_cases,
    find_preset_cases,
    find_twins,
    with_groups,
    with_twins_together,
    without,
    write_case,
)
from nnunet_shapekd.dataset_conversion.presets import PRESETS, Preset
from nnunet_shapekd.files.output import new_folder
from nnunet_shapekd.files.parallel import default_processes, map_in_processes

EMPTY = ("refuse", "keep", "leave-out")
COLUMNS = ["case", "patient", "stratum", "subset", "width", "height", "image", "masks"]
# Starting a worker costs about as much as reading this many pictures of a megapixel.
_CASES_PER_WORKER = 30


def make_splits(cases: Sequence[ImageCase], part: Callable[[str], str] | None, seed: int, folds: int) -> list[dict]:
    """The content of splits_final.json: folds by group, stratified, or the one fold of an official split.

    Raises:
        ConversionError: for fewer groups than folds.
    """
    training = [case for case in cases if case.subset == "Tr"]
    if part is not None:
        sides = {side: sorted(case.name for case in training if part(case.key) == side) for side in ("train", "val")}
        if not all(sides.values()):
            raise ConversionError("the official split has nothing to train on or to validate on; is the set complete?")
        return [sides]
    strata: dict[str, set[str]] = {}
    for case in training:
        strata.setdefault(case.group, set()).add(case.stratum)
    if not 2 <= folds <= len(strata):
        raise ConversionError(
            f"--folds {folds}: the {len(training)} training images are of {len(strata)} groups (patients, sequences, "
            "copies of one image); give at least two folds, and at most one a group"
        )
    stratum_of = {group: "+".join(sorted(found)) for group, found in strata.items()}
    splits = []
    for fold in common.folds_by_patient(stratum_of, seed, folds):
        val = set(fold)
        splits.append(
            {
                "train": sorted(case.name for case in training if case.group not in val),
                "val": sorted(case.name for case in training if case.group in val),
            }
        )
    return splits


def _channel_problems(cases: Sequence[ImageCase], checked: Sequence[Checked]) -> list[str]:
    by_mode = {
        mode: [c.image for c, seen in zip(cases, checked, strict=True) if seen.mode == mode] for mode in ("L", "RGB")
    }
    if not all(by_mode.values()):
        return []
    few, many = sorted(by_mode, key=lambda mode: len(by_mode[mode]))
    names = {"L": "grey", "RGB": "RGB"}
    some = ", ".join(map(str, by_mode[few][:3])) + ", ..." * (len(by_mode[few]) > 3)
    return [
        f"{len(by_mode[few])} images are {names[few]} and {len(by_mode[many])} {names[many]} ({names[few]}: {some}): "
        "give --channels grey or --channels rgb"
    ]


def convert_images(
    images: str | Path,
    masks: str | Path | None = None,
    dataset_id: int | None = None,
    name: str | None = None,
    labels: Sequence[str] = (),
    *,
    preset: str | None = None,
    test_images: str | Path | None = None,
    test_masks: str | Path | None = None,
    mask_pattern: str | None = None,
    background: str | None = None,
    nested: bool = False,
    threshold: int | None = None,
    channels: str | None = None,
    exif: str = "refuse",
    empty: str | None = None,
    exclude: Sequence[str] = (),
    group: str | None = None,
    alike: float | None = None,
    stratum: str | None = None,
    folds: int = 5,
    seed: int = 12345,
    processes: int | None = None,
    raw_folder: str | Path | None = None,
    preprocessed_folder: str | Path | None = None,
) -> Path:
    """Converts folders of images and masks, after checking every file; writes a whole dataset or nothing.

    Args:
        images: Folder of images, or the root of a preset's download.
        masks: Folder of masks; not with a preset.
        dataset_id: nnU-Net's dataset id, 1 to 999.
        name: What follows the id in the dataset's name; a preset has one.
        labels: As :func:`pictures.parse_labels` takes them; a preset has its own.
        preset: Name of a public set, see `presets.PRESETS`; what is given otherwise overrides it.
        test_images: Folder for imagesTs.
        test_masks: Folder for labelsTs.
        mask_pattern: Regular expression that a mask's path below its folder, without ending, must match wholly, with
            groups `case` (the image's path without ending) and, if each class has its own files, `label`. Several
            masks of a case are merged.
        background: Value of no class in the masks, 0 by default.
        nested: Each class lies inside the one listed before it.
        threshold: Grey values from this on are the class, in masks of one class.
        channels: "auto", "grey" or "rgb".
        exif: What to do with files that viewers turn: "refuse", "apply" or "ignore".
        empty: What to do with masks without any class: "refuse", "keep" or "leave-out".
        exclude: Names of cases to leave out.
        group: Regular expression that finds the patient or sequence in an image's path; the folds keep groups together.
        alike: Images whose thumbnails correlate by this much or more are kept together, too, 0 to 1; of those of the
            same pixels that is always so. Only the `busi` preset has a default.
        stratum: Regular expression that finds what the folds are balanced by.
        folds: Number of folds.
        seed: Shuffles the groups before they are dealt to folds.
        processes: Cases read at once; by default the available cores, eight at most.
        raw_folder: Instead of the environment variable nnUNet_raw.
        preprocessed_folder: Instead of nnUNet_preprocessed, where an other splits_final.json would win; may be unset.

    Returns:
        The new dataset's folder.

    Raises:
        ConversionError: listing all problems found; nothing was written.
    """
    known = _preset(preset, masks, test_images, test_masks, mask_pattern)
    if known is None and (masks is None or not labels):
        raise ConversionError("expected IMAGES MASKS and --labels, like --labels polyp:255, or --preset NAME and ROOT")
    name = name or (preset.replace("-", "_") if preset else None)
    if dataset_id is None or name is None:
        raise ConversionError("expected a dataset id with -d, and --name where there is no preset")
    raw = common.environment_folder("nnUNet_raw", raw_folder)
    preprocessed = common.environment_folder("nnUNet_preprocessed", preprocessed_folder)
    others = (preprocessed, common.environment_folder("nnUNet_results", None))
    dataset = common.dataset_folder_name(dataset_id, name, raw, others)
    processes = default_processes() if processes is None else processes
    if processes < 1 or not 0 <= seed < 2**32:
        raise ConversionError(f"--processes: expected 1 or more, --seed 0 to {2**32 - 1}, got {processes} and {seed}")

    per_file = "(?P<label>" in (mask_pattern or "") or bool(known and "(?P<label>" in known.layouts[0][0].masks)
    reading = _reading(known, labels, background, nested, threshold, channels, exif, empty, alike, per_file)
    classes = list(reading.labels.values) if per_file else []
    if known:
        cases, problems = find_preset_cases(Path(images), known, classes)
    else:
        cases, problems = find_plain_cases(images, masks, test_images, test_masks, mask_pattern, classes)
    cases, problems = without(cases, problems, exclude)
    find_group = by_regex(group, "--group") if group else known.group if known else None
    cases, group_problems = with_groups(cases, find_group, by_regex(stratum, "--stratum") if stratum else None)
    problems += group_problems

    check = partial(check_case, reading=reading)
    checked = map_in_processes(check, cases, processes, "Checking images", _CASES_PER_WORKER)
    problems += [problem for seen in checked for problem in seen.problems] + _channel_problems(cases, checked)
    left_out = [case for case, seen in zip(cases, checked, strict=True) if seen.empty and reading.empty == "leave-out"]
    gone = {case.name for case in left_out}
    kept = [(case, seen) for case, seen in zip(cases, checked, strict=True) if case.name not in gone]
    part = known.part if known and not group else None
    twins = find_twins([seen for _, seen in kept], reading.alike)
    cases, twin_problems = with_twins_together(
        [case for case, _ in kept], twins, lambda case: part(case.key) if part else case.subset
    )
    problems += twin_problems
    kept = list(zip(cases, (seen for _, seen in kept), strict=True))
    splits: list[dict] = []
    try:
        splits = make_splits(cases, part, seed, folds) if not problems else []
        if preprocessed is not None and splits:
            problems += common.splits_problems(splits, preprocessed / dataset / "splits_final.json")
    except ConversionError as error:
        problems += error.problems
    if problems:
        raise ConversionError(problems)

    description = {"description": known.title, "citation": known.citation} if known else {}
    with new_folder(raw / dataset) as folder:
        for case in cases:
            (folder / f"images{case.subset}").mkdir(exist_ok=True)
            if case.masks:
                (folder / f"labels{case.subset}").mkdir(exist_ok=True)
        write = partial(write_case, folder=folder, reading=reading)
        map_in_processes(write, cases, processes, "Writing images", _CASES_PER_WORKER)
        content = {
            "channel_names": pictures.CHANNEL_NAMES[kept[0][1].mode],
            **reading.labels.dataset_json(),
            "numTraining": sum(case.subset == "Tr" for case in cases),
            "file_ending": ".png",
            "name": name,
            **description,
            "converted_by": "nnunet_shapekd",
        }
        common.write_json(folder / "dataset.json", content)
        common.write_json(folder / "splits_final.json", splits)
        _write_csv(folder / "patients.csv", kept)
    _print_summary(raw / dataset, dataset_id, kept, len(splits), reading, left_out, twins, bool(find_group), known)
    return raw / dataset


def _preset(name: str | None, *plain: object) -> Preset | None:
    if name is None:
        return None
    if name not in PRESETS:
        raise ConversionError(f"--preset {name}: expected one of {', '.join(PRESETS)}")
    if any(given is not None for given in plain):
        raise ConversionError(f"--preset {name}: knows its folders; give ROOT only, no MASKS, test folders or patterns")
    return PRESETS[name]


def _reading(
    known: Preset | None,
    labels: Sequence[str],
    background: str | None,
    nested: bool,
    threshold: int | None,
    channels: str | None,
    exif: str,
    empty: str | None,
    alike: float | None,
    per_file: bool,
) -> Reading:
    """What is given, else what the preset says, else the defaults; refused where it does not fit together."""
    try:
        parsed = pictures.parse_labels(
            labels or known.labels,
            background if background is not None else known.background if known else "0",
            nested or bool(known and known.nested),
            per_file,
        )
    except ValueError as error:
        raise ConversionError(str(error)) from None
    threshold = threshold if threshold is not None else known.threshold if known else None
    if threshold is not None and not 1 <= threshold <= 255:
        raise ConversionError(f"--threshold: expected 1 to 255, got {threshold}")
    if threshold is not None and (parsed.colours or parsed.background or (len(parsed.values) > 1 and not per_file)):
        raise ConversionError(
            f"--threshold {threshold}: needs masks of one class each, bright on black (background 0, no colours); "
            "several classes in one lossy mask cannot be told apart"
        )
    for argument, value, allowed in (
        ("--channels", channels, ("auto", "grey", "rgb")),
        ("--exif", exif, pictures.EXIF),
        ("--empty", empty, EMPTY),
    ):
        if value is not None and value not in allowed:
            raise ConversionError(f"{argument} {value}: expected {', '.join(allowed)}")
    if alike is not None and not 0 < alike <= 1:
        raise ConversionError(f"--alike: expected a correlation above 0, at most 1, got {alike}")
    channels = channels or (known.channels if known else "auto")
    alike = alike if alike is not None else known.alike if known else None
    return Reading(parsed, threshold, exif, channels, empty or (known.empty if known else "refuse"), alike)


def _write_csv(path: Path, kept: Sequence[tuple[ImageCase, Checked]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for case, seen in kept:
            subset = "train" if case.subset == "Tr" else "test"
            files = "; ".join(mask.name for mask, _ in case.masks)
            writer.writerow([case.name, case.group, case.stratum, subset, *seen.size, case.image.name, files])


def _print_summary(
    folder: Path,
    dataset_id: int,
    kept: Sequence[tuple[ImageCase, Checked]],
    n_folds: int,
    reading: Reading,
    left_out: Sequence[ImageCase],
    twins: Sequence[tuple[int, int]],
    grouped: bool,
    known: Preset | None,
) -> None:
    n_cases = {subset: sum(case.subset == subset for case, _ in kept) for subset in ("Tr", "Ts")}
    n_groups = len({case.group for case, _ in kept if case.subset == "Tr"})
    n_soft = sum(seen.soft for _, seen in kept)
    if left_out:
        of = Counter(case.stratum for case in left_out)
        strata = ": " + ", ".join(f"{n} {stratum}" for stratum, n in sorted(of.items())) if any(of) else ""
        print(f"{len(left_out)} images with empty masks were left out (--empty leave-out){strata}.")
    if n_soft:
        print(f"{n_soft} masks have values between black and white: {reading.threshold} and more counts (--threshold).")
    if twins:
        some = ", ".join(f"{kept[i][0].name} and {kept[j][0].name}" for i, j in twins[:3]) + ", ..." * (len(twins) > 3)
        print(f"{len(twins)} pairs of images are the same ({some}): kept in one fold, and one unit for statistics.")
    of_groups = f" of {n_groups} groups" if grouped else ""
    print(
        f"Wrote {folder}: {n_cases['Tr']} training cases{of_groups}, {n_cases['Ts']} test cases, "
        f"{n_folds} fold{'s' * (n_folds != 1)}."
    )
    if known:
        print(known.note)
    elif not grouped:
        print("The folds are by image: where patients or sequences have several, give --group REGEX.")
    folds = "fold 0" if n_folds == 1 else f"folds 0 to {n_folds - 1}"
    print(
        f"Next: nnUNetv2_plan_and_preprocess -d {dataset_id} -c 2d\n"
        f"Train {folds} only: for any other number nnU-Net splits at random by image."
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `shapekd convert images` and of `python -m nnunet_shapekd.dataset_conversion.images`."""
    add = parser.add_argument
    add("images", metavar="IMAGES", help="folder of images; with --preset the public set's folder")
    add("masks", metavar="MASKS", nargs="?", help="folder of masks of the same names, whatever their endings")
    add("--preset", choices=PRESETS, help="a public set: folders, labels and grouping are known")
    add("-d", "--dataset-id", type=int, required=True, help="nnU-Net dataset id")
    add("--name", help="dataset name after the id (default: the preset's)")
    add(
        "--labels",
        nargs="+",
        default=(),
        metavar="NAME:VALUES",
        help="classes and their values in the masks: polyp:255, disc:1,2 cup:2 (nested), disc:#FF0000",
    )
    add("--background", metavar="VALUE", help="value that is no class (default: 0, black)")
    add("--nested", action="store_true", help="each class lies inside the one listed before it: they become regions")
    add(
        "--threshold",
        type=int,
        metavar="T",
        help="masks of one class: values from T on are the class (lossy masks: 128)",
    )
    add(
        "--mask-pattern",
        metavar="REGEX",
        help="what a mask's path without ending is, if not its image's: '(?P<case>.+?)_mask(_[0-9]+)?'; with "
        "(?P<label>...) each class has its own files",
    )
    add("--test-images", metavar="FOLDER", help="for imagesTs")
    add("--test-masks", metavar="FOLDER", help="for labelsTs")
    add("--channels", choices=("auto", "grey", "rgb"), help="make all images so (default: as they are, if all alike)")
    add("--exif", choices=pictures.EXIF, default="refuse", help="files that viewers turn (default: %(default)s)")
    add("--empty", choices=EMPTY, help="masks without any class (default: refuse, or the preset's)")
    add("--exclude", nargs="+", default=(), metavar="CASE", help="cases to leave out")
    add("--group", metavar="REGEX", help="finds patient or sequence in a name; the folds keep these together")
    add(
        "--alike",
        type=float,
        metavar="R",
        help="keep images together, too, whose thumbnails correlate by R or more (default: those of the same pixels, "
        "or the preset's)",
    )
    add("--stratum", metavar="REGEX", help="finds in a name what the folds are balanced by")
    add("--folds", type=int, default=5, help="number of folds (default: %(default)s)")
    add("--seed", type=int, default=12345, help="seed of the folds (default: %(default)s)")
    add("--processes", type=int, help="cases read at once (default: the cores, at most 8)")


def run(args: argparse.Namespace) -> int:
    """Converts as the parsed arguments say; returns the exit status."""
    known = inspect.signature(convert_images).parameters
    given = {key: value for key, value in vars(args).items() if key in known}
    return common.run_conversion(lambda: convert_images(**given))


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `python -m nnunet_shapekd.dataset_conversion.images`."""
    parser = argparse.ArgumentParser(prog="python -m nnunet_shapekd.dataset_conversion.images", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main())
