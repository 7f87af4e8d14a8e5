"""``shapekd report``: a page of what ``evaluate`` or ``compare`` wrote."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("evaluations", nargs="+", metavar="EVALUATION", help="a folder that shapekd evaluate or compare wrote")
    add("-o", "--out", required=True, metavar="REPORT", help="new or empty folder, or an earlier report's")
    add("--images", metavar="FOLDER", help="images CASE_0000 (default: imagesTr beside labelsTr, imagesTs likewise)")
    add(
        "--run",
        action="append",
        default=[],
        dest="runs",
        metavar="NAME=FOLD_FOLDER",
        help="a model's training (default: the fold around a prediction folder named validation)",
    )


def run(args: argparse.Namespace) -> int:
    """Write one self-contained HTML page, and its pictures as PNG, of what evaluate or compare wrote."""
    from nnunet_shapekd.report import page

    return page.run(args.evaluations, args.out, args.images, args.runs)
