"""``shapekd trainers``: where this package's trainers are, and which."""

import argparse
import os

from nnunet_shapekd.trainers_folder import export_line, trainers_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--export",
        nargs="?",
        choices=("bash", "powershell"),
        const="powershell" if os.name == "nt" else "bash",
        help="print the line to paste into this shell (default: this system's); folders already set are kept",
    )
    instead.add_argument("--list", action="store_true", help="print the trainers there are, one a line")


def run(args: argparse.Namespace) -> int:
    """Print the folder of this package's trainers, the value of nnU-Net's nnUNet_extTrainer."""
    if args.list:
        from nnunet_shapekd.training.variants import listing

        print("\n".join(listing()))
    elif args.export:
        print(export_line(args.export, os.environ.get("nnUNet_extTrainer")))
    else:
        print(trainers_folder())
    return 0
