"""``shapekd convert``: a dataset into nnU-Net's raw format, by a module of dataset_conversion."""

import argparse
import importlib

#: module of dataset_conversion, with ``add_arguments(parser)`` and ``run(args)`` -> what it converts
CONVERSIONS = {
    "acdc": "ACDC cardiac MRI",
    "mnms": "M&Ms cardiac MRI of several vendors",
    "mscmrseg": "MSCMRseg cardiac MRI (LGE, bSSFP or T2)",
    "mmwhs": "MM-WHS whole hearts (CT or MRI)",
    "mnms2": "M&Ms-2 cardiac MRI of several vendors, short or long axis",
    "emidec": "EMIDEC cardiac MRI (LGE, infarction)",
    "myops": "MyoPS 2020 cardiac MRI (LGE, bSSFP or T2, edema and scar)",
    "synapse": "Synapse/BTCV abdominal CT",
    "amos": "AMOS22 abdominal CT or MRI",
    "chaos": "CHAOS abdominal MRI (T2-SPIR)",
    "curvas": "CURVAS abdominal CT of three raters",
    "volumes": "folders of 3D images and labels (NIfTI) of any names",
    "images": "folders of 2D images and masks, or a public set of them",
}
#: those whose module is called otherwise than the data set
MODULES = {"volumes": "own_volumes"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    datasets = parser.add_subparsers(metavar="DATASET", required=True)
    for name, what in CONVERSIONS.items():
        module = f"nnunet_shapekd.dataset_conversion.{MODULES.get(name, name)}"
        description = f"Convert {what}, after checking every case."
        datasets.add_parser(name, help=what, description=description, module=module).set_defaults(conversion=module)


def run(args: argparse.Namespace) -> int:
    return importlib.import_module(args.conversion).run(args)
