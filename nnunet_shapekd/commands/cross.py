"""``shapekd cross``: models on datasets they were not trained on."""

import argparse
import os
import shlex

from nnunet_shapekd.commands.arguments import add_by, add_model, add_predicting, add_statistics, options_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add = parser.add_argument
    add("datasets", nargs="+", metavar="DATASET", help="raw datasets: ids, names or folders")
    part = "default: Ts where there are labelsTs; Tr of the model's own dataset: the validation cases"
    add("--part", choices=("Tr", "Ts"), help=part)
    add_by(parser)
    add("--ignore-channel-names", action="store_true", help="channels may have other names than the model's")
    add_predicting(parser)
    add_statistics(parser)


def run(args: argparse.Namespace) -> int:
    """Predict datasets with a trained model folder of nnU-Net's and its baselines, find the classes by name, evaluate,
    and compare within and across datasets. All is checked before anything is predicted.
    """
    from nnunet_shapekd.across.cross import cross
    from nnunet_shapekd.across.options import CrossOptions
    from nnunet_shapekd.across.table import lines

    result = cross(args.model, args.datasets, args.out, options_of(CrossOptions, args))
    print()
    print("\n".join(lines(result)))
    print(f"\nWritten to {args.out}: cross.csv and cross.json, and a folder for each dataset. Next, for pictures:")
    for dataset in result["datasets"]:
        arguments = [os.path.join(args.out, dataset["name"]), "-o", "REPORT", "--images", dataset["images"]]
        print(f"  shapekd report {shlex.join(arguments)}")
    return 0
