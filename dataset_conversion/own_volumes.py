"""Folders of 3D images and labels (NIfTI) of any names into nnU-Net's raw format, with the checks of the public sets.

An image and its label are of one case where their paths below their folders are the same but for the ending, or where
the patterns find the same ``case`` in them; nnU-Net's ``_0000`` behind an image's name does not count.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_shapekd.dataset_conversion import label_maps, tables, volumes
from nnunet_shapekd.dataset_conversion.cases import Case
from nnunet_shapekd.dataset_conversion.downloads import few
from nnunet_shapekd.dataset_conversion.found import Found, Patient
from nnunet_shapekd.dataset_conversion.image_groups import by_regex
from nnunet_shapekd.dataset_conversion.own_pairs import pair, read_subsets
from nnunet_shapekd.dataset_conversion.patterns import case_pattern
from nnunet_shapekd.dataset_conversion.reading import Reading
from nnunet_shapekd.dataset_conversion.target import Command, ConversionError, check_target, option
from nnunet_shapekd.dataset_conversion.volumes import LabelOptions
from nnunet_shapekd.files.images import read_image
from nnunet_shapekd.files.whose import find_patients as by_name

SUBSET_OF = {"train": "Tr", "val": "Tr", "test": "Ts"}
#: CT is in Hounsfield units: air lies at -1000, and no other image has values below this
_LOWEST_OF_MRI = -200
_SEEN = 5


@dataclass(frozen=True, kw_only=True)
class OwnOptions(Reading):
    """Options of folders of volumes."""

    labels_folder: str | Path | None = option("labels_folder", metavar="LABELS", help="folder of label maps")
    dataset_id: int | None = option("-d", "--dataset-id", type=int, required=True, help="nnU-Net dataset id, 1 to 999")
    name: str | None = option("--name", required=True, help="dataset name after the id")
    labels: str | None = option(
        "--labels",
        required=True,
        metavar="MAP",
        help="classes and their values, as NAME:VALUE,... like RV:600,MLV:200,LVC:500, a name twice merges two; or "
        "SOURCE:TARGET,... with --names, the target 0 drops one",
    )
    names: str | None = option("--names", metavar="A,B,...", help="names of the classes 1, 2, ... of SOURCE:TARGET")
    test: Sequence[str | Path] = option(
        "--test",
        nargs="+",
        default=(),
        metavar="X",
        help="for imagesTs and labelsTs: a folder of images and one of labels; or a JSON list of cases or patients",
    )
    table: str | Path | None = option(
        "--table",
        metavar="CSV",
        help="a row a case: column case, and patient, subset (train, val or test) and more, which patients.csv keeps",
    )
    stratify: str | None = option("--stratify", metavar="COLUMN", help="of the table, by which the folds are balanced")
    group: str | None = option("--group", metavar="REGEX", help="finds the patient in a case's name")
    image_pattern: str | None = option(
        "--image-pattern",
        metavar="REGEX",
        help="what an image's path without ending is: '(?P<case>.+)/image'; other files are no images",
    )
    label_pattern: str | None = option(
        "--label-pattern", metavar="REGEX", help="the same of a label map's: '(?P<case>.+)_seg'"
    )
    channel: str | None = option(
        "--channel", metavar="NAME", help="CT, MRI, LGE, ... (default: CT where values lie below -200, else MRI)"
    )
    exclude: Sequence[str] = option("--exclude", nargs="+", default=(), metavar="CASE", help="cases to leave out")


def parse_classes(text: str, names: str | None) -> tuple[dict[int, int], dict[str, int]]:
    """The label map (source value -> target value) and the entry "labels" of dataset.json.

    Raises:
        ValueError: for a text of neither form, a value of two classes, or names that do not fit.
    """
    entries = [entry.strip() for entry in text.split(",")]
    if all(re.fullmatch(r"\d+\s*:\s*\d+", entry) for entry in entries):
        label_map = label_maps.parse_label_map(text)
        return label_map, label_maps.name_labels(label_map, {}, names)
    pairs = [re.fullmatch(r"([^:]*[^:\d\s][^:]*):\s*(\d{1,5})", entry) for entry in entries]
    if not all(pairs) or names is not None:
        raise ValueError(
            f"--labels: expected NAME:VALUE,... like RV:600,MLV:200,LVC:500 (without --names), or SOURCE:TARGET,... "
            f"like 600:1,200:2, got {text!r}"
        )
    order = list(dict.fromkeys(pair[1].strip() for pair in pairs))
    label_map = label_maps.parse_label_map(",".join(f"{pair[2]}:{order.index(pair[1].strip()) + 1}" for pair in pairs))
    return label_map, label_maps.name_labels(label_map, {}, ",".join(order))


def find_patients(images: Path, options: OwnOptions) -> Found:
    """All cases by patient, as folders, table and lists say."""
    patterns = [
        None if text is None else case_pattern(text, argument)
        for text, argument in ((options.image_pattern, "--image-pattern"), (options.label_pattern, "--label-pattern"))
    ]
    cases, problems = pair(images, Path(options.labels_folder), "Tr", *patterns)
    advice = "say who trains and who validates in the column subset of a --table"
    found = Found(images, problems=problems, advice=advice)
    listed: set[str] = set()
    if len(options.test) == 1 and str(options.test[0]).lower().endswith(".json"):
        listed = read_subsets(Path(options.test[0]))
    elif len(options.test) > 2:
        raise ConversionError("--test: expected a folder of images and one of labels, or one JSON list")
    elif options.test:
        folders = [*map(Path, options.test), None][:2]
        testing, problems = pair(*folders, "Ts", *patterns)
        found.problems += problems
        found.problems += [
            f"{testing[case].image}: a training image is called so, too; rename one of the two"
            for case in sorted(cases.keys() & testing.keys())
        ]
        cases = testing | cases
    found.problems += [f"--exclude {case}: no such case" for case in options.exclude if case not in cases]
    cases = {name: case for name, case in cases.items() if name not in options.exclude}
    table = _read_table(options, cases, found)
    find_group = by_regex(options.group, "--group") if options.group else by_name(cases).of.get
    whose: dict[str, list[Case]] = {}
    for name, case in cases.items():
        try:
            patient = table.get(name, {}).get("patient") or find_group(name)
        except ValueError as error:
            found.problems.append(f"{case.image}: {error}")
            continue
        whose.setdefault(patient, []).append(case)
    found.problems += [
        f"--test {options.test[0]}: no case or patient is called {entry}"
        for entry in sorted(listed - cases.keys() - whose.keys())
    ]
    validate = set()
    for number, (name, own) in enumerate(sorted(whose.items())):
        said = {table.get(case.name, {}).get("subset", "").lower() for case in own} - {""}
        subsets = {SUBSET_OF[word] for word in said if word in SUBSET_OF} or {case.subset for case in own}
        if listed & {name, *(case.name for case in own)}:
            subsets = {"Ts"}
        if len(subsets) > 1 or len(said) > 1:
            found.problems.append(f"the patient {name} has cases of several subsets; give each patient one")
        validate |= {number} if "val" in said else set()
        rows = [{"case": case.name, "patient": name, "subset": "", **_more(table, case)} for case in own]
        stratum = table.get(own[0].name, {}).get(options.stratify or "", "")
        patient = Patient(name, min(subsets), sorted(own, key=lambda case: case.name), rows, (), stratum)
        found.patients[number] = patient.in_subset(min(subsets))
    found.validate = validate or None
    return found


def _more(table: Mapping[str, Mapping[str, str]], case: Case) -> dict[str, str]:
    columns = next(iter(table.values()), {})
    own = {column: table.get(case.name, {}).get(column, "") for column in columns}
    return {column: value for column, value in own.items() if column not in ("case", "patient", "subset")}


def _read_table(options: OwnOptions, cases: Mapping[str, Case], found: Found) -> dict[str, dict[str, str]]:
    """The table's rows by case; problems and remarks go to what was found."""
    if options.table is None:
        if options.stratify:
            raise ConversionError("--stratify: names a column of --table, which is not given")
        return {}
    path, columns = Path(options.table), ("case", *([options.stratify] if options.stratify else []))
    rows, problems = tables.rows_by("case", path, columns, what="save it as CSV")
    found.problems += problems
    for row in rows.values():
        if (said := row.get("subset", "")).lower() not in ("", *SUBSET_OF):
            found.problems.append(f"{path}: subset of {row['case']}: expected train, val or test, got {said!r}")
    if absent := sorted(cases.keys() - rows.keys()):
        found.problems.append(f"{path}: has no row of {few(absent)}; add it, or leave it out with --exclude")
    if unused := sorted(rows.keys() - cases.keys()):
        found.remarks.append(f"{len(unused)} rows of {path} are of no case here: {few(unused)}.")
    return rows


def _channel(found: Found) -> str:
    """CT if the first images have such values, which a remark says; files that cannot be read are spoken of later."""
    lowest = []
    for patient in list(found.patients.values())[:_SEEN]:
        try:
            lowest.append(float(read_image(patient.cases[0].image).values.min()))
        except ValueError:
            continue
    channel = "CT" if lowest and max(lowest) < _LOWEST_OF_MRI else "MRI"
    why = f"values go down to {max(lowest):g}" if lowest else "nothing says more"
    found.remarks.append(f"The channel is called {channel}, as {why}, and normalised so; --channel says otherwise.")
    return channel


def convert_own_volumes(images: str | Path, options: OwnOptions) -> Path:
    """Converts folders of volumes, after checking every case; writes a whole dataset or nothing.

    Returns its folder; raises as :func:`~.volumes.convert_volumes`.
    """
    if options.dataset_id is None or not options.name or options.labels is None or options.labels_folder is None:
        raise ConversionError("expected IMAGES LABELS, -d, --name and --labels, like --labels liver:1")
    label_map, labels = parse_classes(options.labels, options.names)
    target = check_target(options, options.name, options.dataset_id)
    found = find_patients(Path(images), options)
    channel = options.channel or _channel(found)
    description = {"channel_names": {"0": channel}, "labels": labels, "name": target.name}
    how = {name: getattr(options, name) for name in ("max_repair_deg", "label_header", "turn")}
    return volumes.convert_volumes(found, target, LabelOptions(**how), label_map, description, "")


_COMMAND = Command(convert_own_volumes, OwnOptions, "folder of 3D images (NIfTI), of any names", called="IMAGES")
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
