"""Further public sets of pictures with masks, most of them for testing what was trained on another set.

Where the layouts are from: CVC-ColonDB (Bernal et al., Pattern Recognition 45, 2012), the polyp bundle that PraNet (Fan
et al., MICCAI 2020) and many after it train and test on, STU-Hospital (Zhuang et al., PLoS ONE 14, 2019), UDIAT (Yap et
al., JBHI 22, 2018), SMDG-19 (Kiefer et al., 2023) and the copy of REFUGE that circulates as REFUGE2: as public loaders
read them.
"""

from nnunet_shapekd.dataset_conversion.presets import (
    _NO_GROUPS,
    DISC_AND_CUP,
    POLYPS,
    PRESETS,
    REFUGE,
    TUMOURS,
    Layout,
    clinicdb_sequence,
)  # fmt: skip

_NAME = r"(?P<case>[^/]+)"
_FIVE = r"CVC-300|CVC-ClinicDB|CVC-ColonDB|ETIS-LaribPolypDB|Kvasir"
#: the same frames in two sets, which no name shows
_SAME_FRAMES = "CVC-300 (of EndoScene) are frames of CVC-ColonDB: do not test on one what was trained on the other."


def bundle_group(case: str) -> str:
    """The sequence of a training frame of CVC-ClinicDB, whose name is a number; other images are alone.

    So are test images ("CVC-ClinicDB/7"): the bundle itself tests on sequences that it trains on.
    """
    return clinicdb_sequence(case) if case.isdecimal() else case


ALL_PRESETS = {
    **PRESETS,
    "cvc-colondb": POLYPS(
        title="CVC-ColonDB, polyps in colonoscopy",
        citation="Bernal et al., Towards automatic polyp detection with a polyp appearance model, PR 45(9), 2012",
        layouts=(
            (Layout(rf"images/{_NAME}", rf"masks/{_NAME}"),),
            (Layout(r"bbdd/(?P<case>\d+)", r"gtpolyp/p?(?P<case>\d+)"),),
            (Layout(r"[^/]*ColonDB[^/]*/(?P<case>\d+)", r"[^/]*ColonDB[^/]*/p(?P<case>\d+)"),),
        ),
        expected="images/1.png and masks/1.png, bbdd/1.bmp and gtpolyp/p1.bmp, or CVC-ColonDB/1.tiff and p1.tiff",
        note=_NO_GROUPS.format("CVC-ColonDB", "of its 15 sequences a frame is of")
        + f" It is meant to test on: do not believe a cross-validation on it. {_SAME_FRAMES}",
    ),
    "polyp-bundle": POLYPS(
        title="Kvasir and CVC-ClinicDB to train on, five sets of polyps to test on",
        citation="Fan et al., PraNet: Parallel Reverse Attention Network for Polyp Segmentation, MICCAI 2020",
        layouts=(
            (
                Layout(rf"TrainDataset/images?/{_NAME}", rf"TrainDataset/masks?/{_NAME}"),
                Layout(
                    rf"TestDataset/(?P<set>(?P<stratum>{_FIVE}))/images?/{_NAME}",
                    rf"TestDataset/(?P<set>{_FIVE})/masks?/{_NAME}",
                    "Ts",
                ),
            ),
        ),
        expected="TrainDataset/image/NAME.png, TrainDataset/masks/NAME.png, TestDataset/Kvasir/images/NAME.png and "
        "TestDataset/Kvasir/masks/NAME.png, likewise CVC-300, CVC-ClinicDB, CVC-ColonDB and ETIS-LaribPolypDB; for one "
        "of the five alone give its folder and its own preset",
        group=bundle_group,
        note="The folds keep CVC-ClinicDB's sequences together, found by frame number. The column stratum of "
        "patients.csv says which of the five sets a test image is of. The bundle tests on CVC-ClinicDB's and Kvasir's "
        f"own patients; the other three are unseen. {_SAME_FRAMES}",
    ),
    "stu": TUMOURS(
        title="STU-Hospital, breast ultrasound",
        citation="Zhuang et al., An RDAU-NET model for lesion segmentation in breast ultrasound, PLoS ONE 14(8), 2019",
        layouts=((Layout(r"Test_Image_(?P<case>\d+)", r"mask_(?P<case>\d+)"),),),
        expected="Test_Image_1.png and mask_1.png",
        note=_NO_GROUPS.format("STU-Hospital", "images are of one patient") + " Its 42 images are meant to test on.",
    ),
    "udiat": TUMOURS(
        title="UDIAT (dataset B), breast ultrasound",
        citation="Yap et al., Automated breast ultrasound lesions detection using CNNs, IEEE JBHI 22(4), 2018",
        layouts=((Layout(rf"original/{_NAME}", rf"GT/{_NAME}"),),),
        expected="original/000001.png and GT/000001.png",
        note=_NO_GROUPS.format("UDIAT", "images are of one patient"),
    ),
    "smdg": DISC_AND_CUP(
        title="SMDG-19, optic disc and cup in fundus photographs of 19 sets",
        citation="Kiefer et al., Survey on public glaucoma imaging datasets and their standardization, 2023",
        layouts=(
            (
                Layout(
                    r"full-fundus/(?:full-fundus/)?(?P<case>(?P<stratum>[^/]+?)(?:-\d+)?)",
                    rf"optic-(?P<label>disc|cup)/(?:optic-(?:disc|cup)/)?{_NAME}",
                ),
            ),
        ),
        expected="full-fundus/NAME.png, optic-disc/NAME.png and optic-cup/NAME.png, each perhaps in a folder of the "
        "same name once more",
        unmasked="leave-out",
        note=_NO_GROUPS.format("SMDG", "images are of one patient")
        + " The column stratum of patients.csv says which set an image is of. REFUGE, Drishti-GS and others are in it: "
        "do not test on them what was trained on SMDG.",
    ),
    "refuge2": REFUGE(
        title="REFUGE2, optic disc and cup in fundus photographs",
        citation="Fang et al., REFUGE2 Challenge, arXiv:2202.08994, 2022",
        layouts=(
            tuple(
                Layout(rf"{part}/images?/{case}", rf"{part}/masks?/{_NAME}", subset)
                for part, case, subset in (
                    ("train", r"(?P<case>(?:(?P<stratum>[GN])\d+|[^/]+))", "Tr"),
                    ("val", _NAME, "Ts"),
                    ("test", _NAME, "Ts"),
                )
            ),
        ),
        expected="train/images/g0001.jpg and train/mask/g0001.bmp, the same below val and test",
        note=_NO_GROUPS.format("REFUGE2", "images are of one patient")
        + " val and test go to imagesTs. The images that circulate so are REFUGE's: do not test on one what was "
        "trained on the other.",
    ),
}  # fmt: skip
