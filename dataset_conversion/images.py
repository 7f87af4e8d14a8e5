"""Folders of 2D images and masks (PNG, JPG, TIF, BMP) into nnU-Net's raw format, and presets of public sets.

An image becomes one PNG as nnU-Net's NaturalImage2DIO (nnunetv2 2.8.1) wants it: RGB in one file with the channels R,
G, B, or grey with one channel; what is such a PNG already is copied byte for byte. Masks become 8-bit PNGs of class
indices. What is done about the usual trouble: alpha channels are dropped; several masks of an image are merged;
lossy and antialiased masks of one class count from --threshold on, those of several classes are refused; images of
the same pixels are kept in one fold; images of more than 8 bits a channel, images turned by EXIF (see --exif), pairs
of different size, images without mask, masks without image, empty masks (see --empty), several files of one name and
files cut short are refused, all at once.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_shapekd.dataset_conversion import pictures
from nnunet_shapekd.dataset_conversion.cases import name_problems
from nnunet_shapekd.dataset_conversion.folds import Splits, splits_problems
from nnunet_shapekd.dataset_conversion.image_cases import ImageCase, find_plain_cases, find_preset_cases, without
from nnunet_shapekd.dataset_conversion.image_files import Reading, check_case, write_case
from nnunet_shapekd.dataset_conversion.image_groups import by_regex, make_splits, with_groups, with_twins
from nnunet_shapekd.dataset_conversion.image_labels import parse_labels
from nnunet_shapekd.dataset_conversion.more_presets import ALL_PRESETS
from nnunet_shapekd.dataset_conversion.presets import Preset
from nnunet_shapekd.dataset_conversion.target import Command, ConversionError, Options, check_target, listed, option
from nnunet_shapekd.dataset_conversion.writing import SUBSETS, Dataset
from nnunet_shapekd.files.parallel import map_in_processes

#: what a user's own folders say, where the options say nothing
PLAIN = Preset(channels="auto", threshold=None)
# Starting a worker costs about as much as reading this many pictures of a megapixel.
_CASES_PER_WORKER = 30


@dataclass(frozen=True, kw_only=True)
class ImageOptions(Options):
    """Options of 2D images; what is given overrides what a preset says."""

    masks: str | Path | None = option(
        "masks", metavar="MASKS", nargs="?", help="folder of masks of the same names, whatever their endings"
    )
    preset: str | None = option(
        "--preset", choices=ALL_PRESETS, help="a public set: folders, labels and grouping are known"
    )
    dataset_id: int | None = option("-d", "--dataset-id", type=int, required=True, help="nnU-Net dataset id, 1 to 999")
    labels: Sequence[str] = option(
        "--labels",
        nargs="+",
        default=(),
        metavar="NAME:VALUES",
        help="classes and their values in the masks: polyp:255, disc:1,2 cup:2 (nested), disc:#FF0000",
    )
    background: str | None = option("--background", metavar="VALUE", help="value that is no class (default: 0, black)")
    nested: bool = option(
        "--nested",
        action="store_true",
        default=False,
        help="each class lies inside the one listed before it: they become regions",
    )
    threshold: int | None = option(
        "--threshold",
        type=int,
        metavar="T",
        help="masks of one class: values from T on are the class (lossy masks: 128)",
    )
    mask_pattern: str | None = option(
        "--mask-pattern",
        metavar="REGEX",
        help="what a mask's path without ending is, if not its image's: '(?P<case>.+?)_mask(_[0-9]+)?'; several masks "
        "of a case are merged; with (?P<label>...) each class has its own files",
    )
    image_pattern: str | None = option(
        "--image-pattern",
        metavar="REGEX",
        help="the same of an image's path: 'Test_Image_(?P<case>[0-9]+)'; other files are no images",
    )
    test_images: str | Path | None = option("--test-images", metavar="FOLDER", help="for imagesTs")
    test_masks: str | Path | None = option("--test-masks", metavar="FOLDER", help="for labelsTs")
    channels: str | None = option(
        "--channels", choices=("auto", "grey", "rgb"), help="make all images so (default: as they are, if all alike)"
    )
    exif: str = option(
        "--exif", choices=pictures.EXIF, default="refuse", help="files that viewers turn (default: %(default)s)"
    )
    empty: str | None = option(
        "--empty",
        choices=("refuse", "keep", "leave-out"),
        help="masks without any class (default: refuse, or the preset's)",
    )
    unmasked: str | None = option(
        "--unmasked",
        choices=("refuse", "leave-out"),
        help="images without a mask, or without one of the masks (default: refuse, or the preset's)",
    )
    exclude: Sequence[str] = option("--exclude", nargs="+", default=(), metavar="CASE", help="cases to leave out")
    group: str | None = option(
        "--group", metavar="REGEX", help="finds patient or sequence in a name; the folds keep these together"
    )
    alike: float | None = option(
        "--alike",
        type=float,
        metavar="R",
        help="keep images together, too, whose thumbnails correlate by R or more, 0 to 1 (default: those of the same "
        "pixels, or the preset's)",
    )
    stratum: str | None = option("--stratum", metavar="REGEX", help="finds in a name what the folds are balanced by")
    folds: int = option("--folds", type=int, default=5, help="number of folds (default: %(default)s)")


def _preset(options: ImageOptions) -> Preset:
    name = options.preset
    if name is None:
        if options.masks is None or not options.labels:
            raise ConversionError(
                "expected IMAGES MASKS and --labels, like --labels polyp:255, or --preset NAME and ROOT"
            )
        return PLAIN
    options.chosen("preset")
    if any((options.masks, options.test_images, options.test_masks, options.mask_pattern, options.image_pattern)):
        raise ConversionError(f"--preset {name}: knows its folders; give ROOT only, no MASKS, test folders or patterns")
    return ALL_PRESETS[name]


def _reading(options: ImageOptions, preset: Preset) -> Reading:
    """What is given, else what the preset says; refused where it does not fit together."""

    def given(name: str) -> Any:
        value = getattr(options, name)
        return getattr(preset, name) if value is None else value

    for name in ("channels", "exif", "empty", "unmasked"):
        options.chosen(name)
    patterns = options.mask_pattern or "".join(layout.masks for layouts in preset.layouts[:1] for layout in layouts[:1])
    per_file = "(?P<label>" in patterns
    try:
        labels = parse_labels(
            options.labels or preset.labels, given("background"), options.nested or preset.nested, per_file
        )
    except ValueError as error:
        raise ConversionError(str(error)) from None
    threshold, alike = given("threshold"), given("alike")
    if threshold is not None and not 1 <= threshold <= 255:
        raise ConversionError(f"--threshold: expected 1 to 255, got {threshold}")
    if threshold is not None and (labels.colours or labels.background or (len(labels.values) > 1 and not per_file)):
        raise ConversionError(
            f"--threshold {threshold}: needs masks of one class each, bright on black (background 0, no colours); "
            "several classes in one lossy mask cannot be told apart"
        )
    if alike is not None and not 0 < alike <= 1:
        raise ConversionError(f"--alike: expected a correlation above 0, at most 1, got {alike}")
    return Reading(labels, threshold, options.exif, given("channels"), given("empty"), alike, given("unmasked"))


def _channel_problems(cases: Sequence[ImageCase]) -> list[str]:
    by_mode = {mode: [case.image for case in cases if case.seen.mode == mode] for mode in ("L", "RGB")}
    if not all(by_mode.values()):
        return []
    few, many = sorted(by_mode, key=lambda mode: len(by_mode[mode]))
    names = {"L": "grey", "RGB": "RGB"}
    some = ", ".join(map(str, by_mode[few][:3])) + ", ..." * (len(by_mode[few]) > 3)
    return [
        f"{len(by_mode[few])} images are {names[few]} and {len(by_mode[many])} {names[many]} ({names[few]}: {some}): "
        "give --channels grey or --channels rgb"
    ]


def convert_images(images: str | Path, options: ImageOptions) -> Path:
    """Converts folders of images and masks, after checking every file; writes a whole dataset or nothing.

    Args:
        images: folder of images, or the root of a preset's download.
        options: masks, what they mean, who belongs together, and where to.

    Returns:
        The new dataset's folder.

    Raises:
        ConversionError: listing all problems found; nothing was written.
    """
    preset = _preset(options)
    if options.dataset_id is None or not (options.name or options.preset):
        raise ConversionError("expected a dataset id with -d, and --name where there is no preset")
    target = check_target(options, (options.preset or "").replace("-", "_"), options.dataset_id)
    reading = _reading(options, preset)
    classes = list(reading.labels.values) if reading.labels.per_file else []
    if options.preset:
        found = find_preset_cases(Path(images), preset, classes, reading.unmasked)
    else:
        found = find_plain_cases(images, options, classes, reading.unmasked)
    cases, problems = without(found.cases, found.problems, options.exclude)
    unmasked = [case for case in cases if case.unmasked]
    cases = [case for case in cases if not case.unmasked]
    find_group = by_regex(options.group, "--group") if options.group else preset.group
    find_stratum = by_regex(options.stratum, "--stratum") if options.stratum else None
    cases, wrong = with_groups(cases, find_group, find_stratum, preset.part)
    problems += wrong + name_problems(cases)

    check = partial(check_case, reading=reading)
    seen = map_in_processes(check, cases, target.processes, "Checking images", _CASES_PER_WORKER)
    cases = [replace(case, seen=of_case) for case, of_case in zip(cases, seen, strict=True)]
    problems += [problem for case in cases for problem in case.seen.problems] + _channel_problems(cases)
    left_out = [case for case in cases if case.seen.empty and reading.empty == "leave-out"]
    cases = [case for case in cases if not (case.seen.empty and left_out)]
    part = None if options.group else preset.part
    cases, twins, wrong = with_twins(cases, reading.alike, lambda case: part(case.key) if part else case.subset)
    problems += wrong
    splits: Splits = []
    with listed(problems):
        if not problems:
            splits = make_splits(cases, part, target.seed, options.folds)
            problems += splits_problems(splits, target.other_splits)
    if problems:
        raise ConversionError(problems)

    description = {
        "channel_names": pictures.CHANNEL_NAMES[cases[0].seen.mode],
        **reading.labels.dataset_json(),
        "numTraining": None,
        "file_ending": ".png",
        "name": target.name,
        **({"description": preset.title, "citation": preset.citation} if options.preset else {}),
    }

    def write(folder: Path) -> None:
        write_one = partial(write_case, folder=folder, reading=reading)
        map_in_processes(write_one, cases, target.processes, "Writing images", _CASES_PER_WORKER)

    remarks = _remarks(cases, left_out, twins, reading) + found.unused()
    if unmasked:
        remarks.append(f"{len(unmasked)} images without a mask were left out (--unmasked leave-out).")
    if options.preset or not find_group:
        remarks.append(preset.note)
    groups = [case.group for case in cases] if find_group else None
    return Dataset(
        target, cases, description, splits, [_row(case) for case in cases], remarks, groups, unit="groups"
    ).write(write)


def _row(case: ImageCase) -> dict[str, object]:
    """What patients.csv says of a case."""
    return {
        "case": case.name,
        "patient": case.group,
        "stratum": case.stratum,
        "subset": SUBSETS[case.subset],
        "width": case.seen.size[0],
        "height": case.seen.size[1],
        "image": case.image.name,
        "masks": "; ".join(mask.name for mask, _ in case.masks),
    }


def _remarks(
    cases: Sequence[ImageCase],
    left_out: Sequence[ImageCase],
    twins: Sequence[tuple[ImageCase, ImageCase]],
    reading: Reading,
) -> list[str]:
    remarks = []
    if left_out:
        of = Counter(case.stratum for case in left_out)
        strata = ": " + ", ".join(f"{n} {stratum}" for stratum, n in sorted(of.items())) if any(of) else ""
        remarks.append(f"{len(left_out)} images with empty masks were left out (--empty leave-out){strata}.")
    if n_soft := sum(case.seen.soft for case in cases):
        counts = f"{reading.threshold} and more counts (--threshold)"
        remarks.append(f"{n_soft} masks have values between black and white: {counts}.")
    if twins:
        some = ", ".join(f"{one.name} and {other.name}" for one, other in twins[:3]) + ", ..." * (len(twins) > 3)
        remarks.append(
            f"{len(twins)} pairs of images are the same ({some}): kept in one fold, and one unit for statistics."
        )
    return remarks


_COMMAND = Command(
    convert_images,
    ImageOptions,
    "folder of images; with --preset the public set's folder",
    called="IMAGES",
    name="the preset's",
)
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
