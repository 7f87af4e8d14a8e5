"""Public sets of pictures with masks: where their files lie, what the masks mean, which pictures belong together.

Every layout is two regular expressions that a file's path below ROOT, without its ending, must match wholly, upper or
lower case alike; folders around the layout do not matter. The group `case` (after `set`, where that exists) pairs a
picture with its masks, `label` is the class a mask file is of, `stratum` is spread evenly over the folds.

Where the layouts are from: Kvasir-SEG (Jha et al., MMM 2020), CVC-ClinicDB (Bernal et al., CMIG 43, 2015), ETIS-Larib
(Silva et al., IJCARS 9, 2014), EndoScene (Vazquez et al., J Healthc Eng 2017), BUSI (Al-Dhabyani et al., Data in Brief
28, 2020), REFUGE (Orlando et al., MedIA 59, 2020), Drishti-GS (Sivaswamy et al., 2014), RIM-ONE (Fumero et al., r3
2015, DL 2020): the downloads as public loaders read them. Masks of one class count from the threshold on, because
Kvasir-SEG's are JPG and others may have soft edges.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial


@dataclass(frozen=True)
class Layout:
    """Where a set's pictures and masks are, for training ("Tr") or testing ("Ts").

    With ``stereo`` two pictures are side by side, of which the left one is annotated and kept.
    """

    images: str
    masks: str
    subset: str = "Tr"
    stereo: bool = False


@dataclass(frozen=True)
class Preset:
    """One public set; what the options of `convert_images` are by default, and what only a set has."""

    title: str = ""
    citation: str = ""
    layouts: tuple[tuple[Layout, ...], ...] = ()  # alternatives, in this order: the first with any picture counts
    expected: str = ""  # the layouts in words, for the message when there is none
    labels: tuple[str, ...] = ()
    #: what to know about its grouping, printed at the end
    note: str = "The folds are by image: where patients or sequences have several, give --group REGEX."
    threshold: int | None = 128
    background: str = "0"
    nested: bool = False
    channels: str = "rgb"
    empty: str = "refuse"
    unmasked: str = "refuse"
    alike: float | None = None
    group: Callable[[str], str] | None = None  # of a case: what must not be on both sides of a fold, if the set says so
    part: Callable[[str], str] | None = None  # of a case: "train", "val" or "test" of the official split, if it has one
    aliases: Mapping[str, str] = field(default_factory=dict)  # what mask files call a class, in lower case -> class


#: Last frames of CVC-ClinicDB's 29 sequences, as two public tables have them; 13 of the 28 borders are also
#: borders of the patient-wise split that EndoScene publishes for the same frames.
CLINICDB_ENDS = (
    25, 50, 67, 78, 103, 126, 151, 177, 199, 205, 227, 252, 277, 297, 317, 342, 363, 383, 408, 428, 447, 466, 478, 503,
    528, 546, 571, 591, 612,
)  # fmt: skip
#: EndoScene's official split by patient: (last frame, part) of consecutive frames; 547, 183 and 182 frames in all.
ENDOSCENE_PARTS = {
    "CVC-300": (
        (76, "train"), (97, "val"), (148, "train"), (208, "test"), (220, "val"), (273, "train"), (300, "val"),
    ),
    "CVC-612": (
        (25, "test"), (50, "train"), (103, "val"), (126, "train"), (177, "test"), (227, "train"), (252, "val"),
        (317, "train"), (342, "val"), (363, "test"), (383, "val"), (503, "train"), (528, "test"), (612, "train"),
    ),
}  # fmt: skip


def clinicdb_sequence(case: str) -> str:
    """The sequence of a frame of CVC-ClinicDB, "sequence01" to "sequence29".

    Raises:
        ValueError: for a frame that the set does not have.
    """
    if not 1 <= int(case) <= CLINICDB_ENDS[-1]:
        raise ValueError(f"{case}: expected a frame number of CVC-ClinicDB, 1 to {CLINICDB_ENDS[-1]}")
    return f"sequence{bisect_left(CLINICDB_ENDS, int(case)) + 1:02d}"


def endoscene_part(case: str) -> str:
    """The part of EndoScene's official split that a frame, like "CVC-300/12", is in.

    Raises:
        ValueError: for a frame that the set does not have.
    """
    folder, _, number = case.upper().partition("/")
    parts, frame = ENDOSCENE_PARTS[folder], int(number)
    if not 1 <= frame <= parts[-1][0]:
        raise ValueError(f"{case}: expected a frame number of {folder}, 1 to {parts[-1][0]}")
    return next(part for last, part in parts if frame <= last)


def refuge_mask(folder: str) -> str:
    return rf"[^/]*{folder}[^/]*/(?:.*/)?Disc_Cup_Masks/(?:[^/]+/)?(?P<case>[GNVT]\d+)"


def rim_one_dl(partition: str) -> tuple[Layout, ...]:
    masks = r"RIM-ONE_DL_reference_segmentations/[^/]+/(?:(?:cup|disc)/)?(?P<case>.+)-\d+-(?P<label>Disc|Cup)-T"
    return tuple(
        Layout(rf"{partition}/{folder}/(?P<stratum>normal|glaucoma)/(?P<case>[^/]+)", masks, subset)
        for folder, subset in (("training_set", "Tr"), ("test_set", "Ts"))
    )


def rim_one_number(case: str) -> str:
    """The number that both eyes in RIM-ONE r3 share, "N-1" of "N-1-L"; an image of RIM-ONE DL is its own group."""
    match = re.fullmatch(r"([NGS]-\d+)-[LR]", case, re.IGNORECASE)
    return match[1].upper() if match else case


_NO_GROUPS = "{} does not say which {}: the folds are by image. Give --group REGEX if you know more."
_ENDOSCENE = r"(?P<set>CVC-(?:300|612))"
_BUSI_CASE = r"(?P<case>(?:benign|malignant|normal) ?\(\d+\))"

#: what sets of one kind share
POLYPS = partial(Preset, labels=("polyp:255",))
TUMOURS = partial(Preset, labels=("tumour:255",), channels="grey")
DISC_AND_CUP = partial(Preset, labels=("disc:255", "cup:255"), nested=True)
REFUGE = partial(Preset, labels=("disc:128,0", "cup:0"), threshold=None, background="255")

PRESETS = {
    "kvasir": POLYPS(
        title="Kvasir-SEG, polyps in colonoscopy",
        citation="Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MMM 2020",
        layouts=((Layout(r"images/(?P<case>[^/]+)", r"masks/(?P<case>[^/]+)"),),),
        expected="images/NAME.jpg and masks/NAME.jpg",
        note=_NO_GROUPS.format("Kvasir-SEG", "images are of one patient"),
    ),
    "cvc-clinicdb": POLYPS(
        title="CVC-ClinicDB, polyps in colonoscopy",
        citation="Bernal et al., WM-DOVA maps for accurate polyp highlighting in colonoscopy, CMIG 43:99-111, 2015",
        layouts=tuple(
            (Layout(rf"{parent}Original/(?P<case>\d+)", rf"{parent}Ground[ _]?Truth/(?P<case>\d+)"),)
            for parent in ("TIF/", "PNG/", "")
        ),
        expected="Original/1.tif and 'Ground Truth/1.tif', also below TIF/ or PNG/",
        group=clinicdb_sequence,
        note="The folds are by the 29 sequences, found by frame number: the frames must have their original numbers.",
    ),
    "etis": POLYPS(
        title="ETIS-Larib Polyp DB, polyps in colonoscopy",
        citation="Silva et al., Toward embedded detection of polyps in WCE images, IJCARS 9:283-293, 2014",
        layouts=(
            (Layout(r"ETIS-LaribPolypDB/(?P<case>\d+)", r"Ground[ _]?Truth/p?(?P<case>\d+)"),),
            (Layout(r"images/(?P<case>[^/]+)", r"masks/(?P<case>[^/]+)"),),
        ),
        expected="ETIS-LaribPolypDB/1.tif and 'Ground Truth/p1.tif', or images/1.png and masks/1.png",
        note=_NO_GROUPS.format("ETIS-Larib", "of its 34 sequences a frame is of")
        + " It is meant to test on: do not believe a cross-validation on it.",
    ),
    "endoscene": POLYPS(
        title="EndoScene (CVC-300 and CVC-612), polyps in colonoscopy",
        citation="Vazquez et al., A benchmark for endoluminal scene segmentation of colonoscopy images, JHE 2017",
        layouts=(
            (Layout(rf"{_ENDOSCENE}/bbdd/(?P<case>\d+)", rf"{_ENDOSCENE}/gtpolyp/(?P<case>\d+)"),),
        ),
        expected="CVC-300/bbdd/1.bmp, CVC-300/gtpolyp/1.bmp, CVC-612/bbdd/1.bmp and CVC-612/gtpolyp/1.tif",
        part=endoscene_part,
        note="The one fold and the test cases are EndoScene's own split by patient. CVC-612 is CVC-ClinicDB: do not "
        "test on one what was trained on the other.",
    ),
    "busi": TUMOURS(
        title="BUSI, breast ultrasound",
        citation="Al-Dhabyani et al., Dataset of breast ultrasound images, Data in Brief 28:104863, 2020",
        layouts=(
            (
                Layout(
                    rf"(?P<stratum>benign|malignant|normal)/{_BUSI_CASE}",
                    rf"(?:benign|malignant|normal)/{_BUSI_CASE}_mask(?:_\d+)?",
                ),
            ),
        ),
        expected="benign/benign (1).png, benign/benign (1)_mask.png, malignant/..., normal/...",
        empty="leave-out",
        alike=0.97,  # the set is known to hold images twice, cut differently
        note=_NO_GROUPS.format("BUSI", "images are of one patient (780 images of 600 women)")
        + " Normal images, whose masks are empty, are left out unless --empty keep.",
    ),
    "refuge": REFUGE(
        title="REFUGE, optic disc and cup in fundus photographs",
        citation="Orlando et al., REFUGE Challenge, Medical Image Analysis 59:101570, 2020",
        layouts=(
            (
                Layout(
                    r"[^/]*Training400/(?P<stratum>Non-Glaucoma|Glaucoma)/(?P<case>[GN]\d+)",
                    refuge_mask("Training400"),
                ),
                Layout(r"[^/]*Validation400/(?P<case>V\d+)", refuge_mask("Validation400-GT"), "Ts"),
                Layout(r"[^/]*Test400/(?P<case>T\d+)", refuge_mask("Test(?:400)?-GT"), "Ts"),
            ),
        ),
        expected="Training400/Glaucoma/g0001.jpg and Annotation-Training400/Disc_Cup_Masks/Glaucoma/g0001.bmp; "
        "REFUGE-Validation400/V0001.jpg and REFUGE-Validation400-GT/Disc_Cup_Masks/V0001.bmp; Test400/T0001.jpg and "
        "REFUGE-Test-GT/Disc_Cup_Masks/G/T0001.bmp",
        note=_NO_GROUPS.format("REFUGE", "images are of one patient")
        + " Validation (V...) and test images (T...), of another camera than the training's, go to imagesTs.",
    ),
    "drishti-gs": DISC_AND_CUP(
        title="Drishti-GS1, optic disc and cup in fundus photographs",
        citation="Sivaswamy et al., Drishti-GS: retinal image dataset for optic nerve head segmentation, ISBI 2014",
        layouts=(
            tuple(
                Layout(
                    rf"{part}/Images/(?:[^/]+/)?(?P<case>drishtiGS_\d+)",
                    rf"{part}/(?:Test_)?GT/[^/]+/SoftMap/(?P<case>drishtiGS_\d+)_(?P<label>OD|cup)segSoftmap",
                    subset,
                )
                for part, subset in (("Training", "Tr"), ("Test", "Ts"))
            ),
        ),
        expected="Training/Images/drishtiGS_002.png and Training/GT/drishtiGS_002/SoftMap/drishtiGS_002_ODsegSoftmap"
        ".png and ..._cupsegSoftmap.png, the same below Test with Test_GT",
        threshold=127,
        aliases={"od": "disc"},
        note="Disc and cup are what at least two of the four experts marked; --threshold 190 asks for three, 255 for "
        "all. " + _NO_GROUPS.format("Drishti-GS", "images are of one patient"),
    ),
    "rim-one": DISC_AND_CUP(
        title="RIM-ONE (DL or r3), optic disc and cup in fundus photographs",
        citation="Fumero et al., RIM-ONE DL, Image Analysis and Stereology 39:161-167, 2020, and RIM-ONE r3, 2015",
        layouts=(
            rim_one_dl("partitioned_by_hospital"),
            rim_one_dl("partitioned_randomly"),
            (
                Layout(
                    r"(?P<stratum>Healthy|Glaucoma and suspects)/Stereo Images/(?P<case>[NGS]-\d+-[LR])",
                    r"[^/]+/Average_masks/(?P<case>[NGS]-\d+-[LR])-(?P<label>Disc|Cup)-Avg",
                    stereo=True,
                ),
            ),
        ),
        expected="RIM-ONE_DL_images/partitioned_by_hospital/training_set/normal/NAME.png (test_set; glaucoma; "
        "partitioned_randomly) and RIM-ONE_DL_reference_segmentations/normal/NAME-1-Disc-T.png; or r3's 'Healthy/"
        "Stereo Images/N-1-L.jpg' and Healthy/Average_masks/N-1-L-Disc-Avg.png",
        group=rim_one_number,
        note="RIM-ONE does not say which images are of one patient: of r3, images of one number (N-1-L and N-1-R) are "
        "in one fold, of DL each image counts alone. Give --group REGEX if you know more.",
    ),
}  # fmt: skip
