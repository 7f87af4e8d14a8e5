"""``shapekd``: the commands there are. Only the file of the command that is typed is imported."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from nnunet_shapekd import __version__
from nnunet_shapekd.commands.arguments import CommandParser

#: module in this folder, with ``add_arguments(parser)`` and ``run(args)`` -> what it does
COMMANDS = {
    "trainers": "print the trainers and their folder, for nnUNet_extTrainer",
    "doctor": "check the installation, and a dataset's teachers and folds",
    "train": "train a teacher and then its student",
    "info": "print a checkpoint's trainer, settings, teacher and cases",
    "evaluate": "judge a folder of predictions",
    "compare": "compare models on the same cases",
    "cross": "judge a model on datasets it was not trained on",
    "stress": "judge a model on images shifted by degrees",
    "report": "write a page of evaluated models",
    "figure": "show what baseline, teacher and student see in a case",
    "convert": "bring a dataset into nnU-Net's raw format",
    "phantom": "write a synthetic heart in ACDC's layout",
}


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands; what it parses names the module to run in ``command``."""
    parser = argparse.ArgumentParser(
        prog="shapekd", description="Shape-intensity knowledge distillation (SIKD) as a plugin of nnU-Net v2."
    )
    parser.add_argument("--version", action="version", version=f"nnunet_shapekd {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=CommandParser)
    for name, does in COMMANDS.items():
        module = f"nnunet_shapekd.commands.{name}"
        commands.add_parser(name, help=does, module=module).set_defaults(command=module)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``shapekd``; returns the exit code. What the user can mend is one message, without traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names and ± must not end a command whose output goes to a narrow encoding
            stream.reconfigure(errors="replace")
    args = make_parser().parse_args(argv)
    try:
        return importlib.import_module(args.command).run(args)
    except (ValueError, OSError) as error:
        print(f"shapekd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("shapekd: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
