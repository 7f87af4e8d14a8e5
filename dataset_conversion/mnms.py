"""M&Ms (Campello et al., IEEE TMI 40(12):3543-3554, 2021), cine cardiac MRI of several vendors and centres.

Layout of the download: `Training/Labeled`, `Training/Unlabeled`, `Validation` and `Testing`, in each of them
`CODE/CODE_sa.nii.gz`, the 4D cine, and `CODE/CODE_sa_gt.nii.gz`, labelled in the frames ED and ES and 0 elsewhere; the
table `211230_M&Ms_Dataset_information_diagnosis_opendataset.csv` with the columns External code, Vendor, Centre, ED and
ES, which are indices of frames from 0 on. As public code reads it, nnU-Net's Dataset114_MNMs among it; the download
itself was not at hand, so the labels are checked to be where the table says.

The frames ED and ES become the 3D cases CODE_ED and CODE_ES, their labels (LV 1, myocardium 2, RV 3) ACDC's, so that a
model of either dataset fits the other. nnU-Net's own conversion leaves the labels and names cases by frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import SimpleITK as sitk

from nnunet_shapekd.dataset_conversion.acdc import LABELS
from nnunet_shapekd.dataset_conversion.cases import label_gaps, name_problems, space_problems
from nnunet_shapekd.dataset_conversion.cine import read_cine
from nnunet_shapekd.dataset_conversion.folds import Splits, splits_by_patient, splits_problems
from nnunet_shapekd.dataset_conversion.headers import header_problems
from nnunet_shapekd.dataset_conversion.mnms_download import LAYOUT, Patient, find_patients, find_table
from nnunet_shapekd.dataset_conversion.reading import Reading, repair_remark
from nnunet_shapekd.dataset_conversion.target import Command, ConversionError, check_target, listed, option
from nnunet_shapekd.dataset_conversion.twins import digest, keep_together
from nnunet_shapekd.dataset_conversion.vendors import VendorOptions
from nnunet_shapekd.dataset_conversion.volumes import VolumeSet
from nnunet_shapekd.dataset_conversion.writing import SUBSETS, Dataset
from nnunet_shapekd.files.images import of_sitk, write_by_itk, write_image
from nnunet_shapekd.files.label_maps import as_label_map, relabel, unknown_labels, values_in
from nnunet_shapekd.files.parallel import map_in_processes

FOLDERS = ("Training/Labeled", "Validation", "Testing")
LABEL_MAP = {1: 3, 2: 2, 3: 1}  # to ACDC's
#: column of patients.csv -> column of the download's table
EXTRA = {"vendor_name": "VendorName", "pathology": "Pathology", "age": "Age", "sex": "Sex",
         "height": "Height", "weight": "Weight"}  # fmt: skip
COLUMNS = ("case", "patient", "phase", "subset", "vendor", "centre", "frame", "n_frames", "repair_deg", *EXTRA)
SET = VolumeSet(
    name="MNMs",
    dataset_id=28,
    channel="cineMRI",
    labels=LABELS,
    more={"numTraining": None, "file_ending": ".nii.gz"},
    title="Multi-Centre, Multi-Vendor and Multi-Disease challenge, short-axis cine MRI, ED and ES",
    reference="https://www.ub.edu/mnms/",
    citation="Campello et al., IEEE Transactions on Medical Imaging 40(12):3543-3554, 2021",
    terms="M&Ms",
)
_CASES_PER_WORKER = 10  # a 4D file is read about three times as long as two 3D ones


@dataclass(frozen=True, kw_only=True)
class MnmsOptions(Reading, VendorOptions):
    """Options of M&Ms; folders lie below ROOT."""

    table: str | Path | None = option(
        "--csv", metavar="FILE", help="its table (default: the only CSV in ROOT or above it)"
    )
    train_from: Sequence[str] = option(
        "--train-from",
        nargs="+",
        metavar="FOLDER",
        default=FOLDERS[:1],
        help=f"folders below ROOT of the training patients (default: {FOLDERS[0]})",
    )
    test_from: Sequence[str] = option(
        "--test-from",
        nargs="*",
        metavar="FOLDER",
        default=FOLDERS[1:],
        help=f"folders below ROOT of the test patients (default: {' '.join(FOLDERS[1:])})",
    )


def check_patient(patient: Patient, reading: Reading) -> tuple[Patient, list[str]]:
    """Reads a patient's files once: the patient with what they say, and what is wrong with them."""
    problems, images = [], {}
    for path in filter(None, (patient.image, patient.label)):
        try:
            images[path], angle = read_cine(path, reading.max_repair_deg)
        except ValueError as error:
            problems.append(str(error))
            continue
        problems += header_problems(path, of_sitk(images[path][..., 0]))
        patient = replace(patient, repair_deg=max(angle, patient.repair_deg))
    if patient.image in images:
        n_frames = images[patient.image].GetSize()[3]
        patient = replace(patient, n_frames=n_frames)
        beyond = [f"{phase} {patient.frame(phase)}" for phase in ("ED", "ES") if patient.frame(phase) >= n_frames]
        if beyond:
            where = f"frames 0 to {n_frames - 1}"
            problems.append(f"{patient.image}: has {where}, the table says {' and '.join(beyond)}; correct the table")
        else:
            frames = sitk.GetArrayViewFromImage(images[patient.image])
            patient = replace(patient, pixels=tuple(digest(frames[patient.frame(phase)]) for phase in ("ED", "ES")))
    if problems or patient.label is None:
        return patient, problems
    image, label = images[patient.image], images[patient.label]
    if image.GetSize() != label.GetSize():
        sizes = f"{label.GetSize()} differs from its image's {image.GetSize()}"
        return patient, [f"{patient.label}: size {sizes}; correct one of them"]
    if reading.label_header == "own":
        problems += space_problems(patient.label, of_sitk(image[..., 0]), of_sitk(label[..., 0]))
    return patient, problems + _label_problems(patient, label)


def _label_problems(patient: Patient, label: sitk.Image) -> list[str]:
    try:
        frames = [as_label_map(of_sitk(label[..., i]), patient.label).values for i in range(label.GetSize()[3])]
    except ValueError as error:
        return [str(error)]
    advice = "correct or remove the patient"
    if problems := unknown_labels(
        patient.label, sorted({value for frame in frames for value in values_in(frame)}), {0, *LABEL_MAP}, advice
    ):
        return problems
    labelled = [frame for frame, of_frame in enumerate(frames) if of_frame.any()]
    empty = [f"{phase} {patient.frame(phase)}" for phase in ("ED", "ES") if patient.frame(phase) not in labelled]
    if not empty:
        return []
    shown = ", ".join(map(str, labelled)) or "none"
    return [
        f"{patient.label}: no label in the frame {' and '.join(empty)} of the table (counted from 0), labelled are "
        f"{shown}; correct the table or remove the patient"
    ]


def write_patient(patient: Patient, folder: Path, reading: Reading) -> None:
    """Writes the frames ED and ES below a dataset folder, with their labels where there are some."""
    image, _ = read_cine(patient.image, reading.max_repair_deg)
    label = read_cine(patient.label, reading.max_repair_deg)[0] if patient.label else None
    for phase in ("ED", "ES"):
        case, frame = patient.case(phase), patient.frame(phase)
        of_image = of_sitk(image[..., frame])
        target = folder / f"images{case.subset}" / f"{case.name}_0000.nii.gz"
        if reading.turn == "none":
            write_by_itk(image[..., frame], target)
        else:
            final = reading.final(of_image)
            write_image(final.values, final, target)
        if label is not None:
            final = reading.final(as_label_map(of_sitk(label[..., frame]), patient.label), of_image)
            write_image(
                relabel(final.values, LABEL_MAP), final, folder / f"labels{case.subset}" / f"{case.name}.nii.gz"
            )


def convert_mnms(root: str | Path, options: MnmsOptions = MnmsOptions()) -> Path:
    """Converts M&Ms, after checking every patient; writes a whole dataset or nothing.

    Returns its folder; raises as :func:`~.volumes.convert_volumes`.
    """
    root = Path(root)
    target = check_target(options, SET.name, SET.dataset_id)
    options.check()
    patients, problems, remarks = find_patients(root, find_table(root, options.table), options)
    cases = [patient.case("ED") for patient in patients]
    problems += name_problems(cases) + label_gaps(cases)
    splits: Splits = []
    with listed(problems):
        splits = splits_by_patient(patients, target.seed, advice="see --train-from and --train-vendors")
    check = partial(check_patient, reading=options)
    seen = map_in_processes(check, patients, target.processes, "Checking patients", _CASES_PER_WORKER)
    problems = problems + [problem for _, found in seen for problem in found]
    patients = [patient for patient, _ in seen]
    if not problems:
        with listed(problems):
            splits, twins = keep_together(patients, {patient.name: patient.pixels for patient in patients}, splits)
            problems += splits_problems(splits, target.other_splits)
    if problems:
        raise ConversionError(problems)

    cases_of = {
        vendor: [case.name for patient in patients if patient.row["Vendor"] == vendor for case in patient.cases]
        for vendor in sorted({patient.row["Vendor"] for patient in patients})
    }

    def write(folder: Path) -> None:
        write_one = partial(write_patient, folder=folder, reading=options)
        map_in_processes(write_one, patients, target.processes, "Writing frames", _CASES_PER_WORKER)

    dataset = Dataset(
        target,
        [case for patient in patients for case in patient.cases],
        SET.description(target.name),
        splits,
        [_row(patient, phase) for patient in patients for phase in ("ED", "ES")],
        remarks + twins + repair_remark({patient.name: patient.repair_deg for patient in patients}),
        [patient.name for patient in patients for _ in patient.cases],
        lists={"vendors.json": cases_of},
    )
    return dataset.write(write)


def _row(patient: Patient, phase: str) -> dict[str, object]:
    """What patients.csv says of ED or ES."""
    row = patient.row
    start = [patient.case(phase).name, patient.name, phase, SUBSETS[patient.subset], row["Vendor"], row["Centre"]]
    known = [patient.frame(phase), patient.n_frames, f"{patient.repair_deg:.3f}"]
    return dict(zip(COLUMNS, [*start, *known, *(row.get(name, "") for name in EXTRA.values())], strict=True))


_COMMAND = Command(convert_mnms, MnmsOptions, f"the extracted M&Ms download: {LAYOUT}", dataset_id=28, name="MNMs")
add_arguments, run = _COMMAND.add_arguments, _COMMAND.run
