"""What several commands are told, and the parser that asks a command's own module for the rest."""

import argparse
import importlib
import os
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

Options = TypeVar("Options")


class CommandParser(argparse.ArgumentParser):
    """A subcommand's parser, whose module is imported when the command is typed, and that of no other command.

    Args:
        module: has ``add_arguments(parser)`` and ``run(args)``, whose docstring is the description unless one is given.
    """

    def __init__(self, *args: Any, module: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self._module = module

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        module = importlib.import_module(self._module)
        self.description = self.description or module.run.__doc__
        module.add_arguments(self)
        return super().parse_known_args(args, namespace)


def options_of(kind: type[Options], args: argparse.Namespace) -> Options:
    """A dataclass of the arguments that are called like its fields."""
    return kind(**{field.name: getattr(args, field.name) for field in fields(kind)})


def fold_of(fold: str) -> str:
    """The fold as nnU-Net's folders have it: a number without leading zeros, or "all".

    Raises:
        ValueError: if it is neither.
    """
    if fold != "all" and not fold.isdecimal():
        raise ValueError(f"fold must be a number or 'all'; got {fold!r}")
    return fold if fold == "all" else str(int(fold))


def check_set(*variables: str) -> None:
    """Raises ValueError for the first environment variable that is not set."""
    for variable in variables:
        if not os.environ.get(variable):
            raise ValueError(f"{variable} is not set: export {variable}=/path/to/{variable}")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-device", choices=("cuda", "cpu", "mps"), default="cuda", help="default: %(default)s")


def add_judging(parser: argparse.ArgumentParser) -> None:
    """What ``evaluate`` and ``compare`` are told about folders of label maps; with nnU-Net's names where it has one."""
    add = parser.add_argument
    add(
        "-djfile",
        dest="dataset_json",
        metavar="FILE",
        help="dataset.json with the labels (default: the one beside or above the folders)",
    )
    add("-pfile", metavar="FILE", help="accepted as by nnU-Net; not needed, as the labels are in dataset.json")
    labels = "judge these label values, instead of a dataset.json's"
    add("-l", dest="labels", type=int, nargs="+", metavar="VALUE", help=labels)
    add("-il", dest="ignore_label", type=int, metavar="VALUE", help="with -l: ignore label")
    add("--leave-out", nargs="+", default=(), metavar="CLASS", help="classes not judged: they count as background")
    add("--tolerance", type=float, default=1.0, help="of the surface Dice, in mm or pixels (default: %(default)s)")
    whose = parser.add_mutually_exclusive_group()
    whose.add_argument(
        "--patients",
        metavar="TABLE",
        help="CSV with columns case,patient[,phase], or a folder with ACDC's Info.cfg files "
        "(default: patients.csv beside the references, if there)",
    )
    whose.add_argument(
        "--pattern",
        metavar="REGEX",
        help="for whole case names, with the group (?P<patient>...) and, if wanted, (?P<phase>ED|ES)",
    )
    add_by(parser)
    add("--chill", action="store_true", help="references without a prediction are no error, as with nnU-Net")
    add_origins(parser)
    add("-np", "--processes", type=int, help="cases read at once (default: the cores, at most 8)")


def add_by(parser: argparse.ArgumentParser) -> None:
    said = "columns of the table of patients, such as vendor: the cases of each of their values are summed up, too"
    parser.add_argument("--by", nargs="+", default=(), metavar="COLUMN", help=said)


def add_origins(parser: argparse.ArgumentParser) -> None:
    same_place = "files of a case may have other origins, of which nnU-Net only warns"
    parser.add_argument("--ignore-origins", action="store_true", help=same_place)


def add_statistics(parser: argparse.ArgumentParser) -> None:
    """What ``compare`` and ``cross`` are told about differences."""
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--resamples", type=int, default=9999, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals (default: %(default)s)")


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL_FOLDER", help="nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION")


def add_predicting(parser: argparse.ArgumentParser) -> None:
    """What ``cross`` and ``stress`` are told about models, predicting and judging: fields of ``across``' options."""
    add = parser.add_argument
    add("-o", "--out", required=True, metavar="OUT", help="new folder, or one of an earlier run")
    add(
        "--baseline",
        dest="baselines",
        nargs="+",
        default=(),
        metavar="MODEL_FOLDER",
        help="models trained on the same dataset, to judge beside it (cross compares all others with the first)",
    )
    add("--names", nargs="+", metavar="NAME", help="of baselines and model, in this order")
    add("--leave-out", nargs="+", default=(), metavar="CLASS", help="classes that are not judged")
    add("-f", "--folds", nargs="+", metavar="FOLD", help="predict together (default: all there are)")
    add("-chk", dest="checkpoint", metavar="CHK", default="checkpoint_final.pth", help="default: %(default)s")
    add_device(parser)
    add("--disable_tta", dest="tta", action="store_false", help="no mirroring, as with nnUNetv2_predict")
    add(
        "-npp",
        dest="prediction_processes",
        type=int,
        metavar="N",
        help="processes that read, and as many that write; 0: one case after the other (default: 3 on a GPU, else 0)",
    )
    add("--tolerance", type=float, default=1.0, help="of the surface Dice (default: %(default)s)")
    add("--pattern", metavar="REGEX", help="for case names, as in evaluate (default: patients.csv, known names)")
    add_origins(parser)
    add("-np", "--processes", type=int, help="cases judged at once (default: the cores, at most 8)")
