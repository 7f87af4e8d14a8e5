"""What a conversion advises can be typed: no message, and no help, names an option that its command lacks."""

import argparse
import importlib

import numpy as np
import pytest
from conversions import options_in, raw_folder, write_case  # noqa: F401 (fixture)

from nnunet_shapekd.commands.convert import CONVERSIONS, MODULES
from nnunet_shapekd.dataset_conversion import acdc, own_volumes, volumes
from nnunet_shapekd.dataset_conversion.target import ConversionError


def parser_of(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    importlib.import_module(f"nnunet_shapekd.dataset_conversion.{MODULES.get(name, name)}").add_arguments(parser)
    return parser


@pytest.mark.parametrize("name", CONVERSIONS)
def test_a_help_names_its_own_options(name):
    parser = parser_of(name)
    assert options_in(" ".join(parser.format_help().split())) <= {*parser._option_string_actions}


def own_set(root, n_patients: int, table: str = "") -> own_volumes.OwnOptions:
    for number in range(n_patients):
        name = f"p{number}_ED.nii.gz"
        write_case(root / "images" / name, root / "labels" / name, np.arange(3))
    (root / "table.csv").write_text(table)
    how = {"labels_folder": root / "labels", "labels": "a:1,b:2", "table": root / "table.csv" if table else None}
    return own_volumes.OwnOptions(dataset_id=50, name="Mine", processes=1, **how)


def test_too_few_patients_of_ones_own_set_are_told_what_can_be_done(raw, tmp_path):
    options = own_set(tmp_path, 3)
    with pytest.raises(ConversionError, match="got 3; say who trains and who validates in the column subset of a --t"):
        own_volumes.convert_own_volumes(tmp_path / "images", options)
    options = own_set(tmp_path, 3, "case,patient,subset\np0_ED,p0,train\np1_ED,p1,train\np2_ED,p2,val\n")
    assert own_volumes.convert_own_volumes(tmp_path / "images", options).is_dir()


def test_a_message_with_a_foreign_option_is_noticed(raw, tmp_path, monkeypatch):
    def refuse(*_):
        raise ConversionError("give --organs 8")

    monkeypatch.setattr(volumes, "check_target", refuse)
    with pytest.raises(AssertionError, match="no option of this command: give --organs 8"):
        acdc.convert_acdc(tmp_path, volumes.VolumeOptions())
