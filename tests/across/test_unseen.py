"""Which cases did not train a model: not those of its patients in another sequence, either."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from nnunet_shapekd.across.unseen import cases_to_judge, held_out

SEQUENCES = ("LGE", "DE", "bSSFP", "C0", "T2")


def trained_on(*cases: str) -> SimpleNamespace:
    """What is asked of a model."""
    return SimpleNamespace(dataset="Dataset029_MSCMRsegLGE", folds=("0",), training_cases={"0": cases})


def remarks_on(trained: list[str], judged: list[str], folder: Path) -> list[str]:
    remarks: list[str] = []
    cases, _ = cases_to_judge([trained_on(*trained)], False, "Tr", judged, [], folder, remarks)
    assert cases == judged
    return remarks


@pytest.mark.parametrize("other", SEQUENCES[1:])
def test_a_patient_who_trained_in_another_sequence_is_remarked(tmp_path, other):
    judged = [f"patient{n:02d}_{other}" for n in (3, 6)]
    (remark,) = remarks_on([f"patient{n:02d}_LGE" for n in (1, 2, 3)], judged, tmp_path)
    assert remark.startswith("1 patients have cases here and are called like patients among the training cases of")
    assert "(patient03): if they are the same, they have trained the models" in remark


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_other_patients_are_not(tmp_path, sequence):
    assert remarks_on(["patient01_LGE", "MyoPS103_LGE"], [f"patient03_{sequence}"], tmp_path) == []


def test_a_test_case_whose_patient_trained_in_another_sequence_is_refused(tmp_path):
    with pytest.raises(ValueError, match="labelsTs holds patients who trained them: patient02"):
        cases_to_judge([trained_on("patient02_LGE")], True, "Ts", ["patient02_T2", "patient04_T2"], [], tmp_path, [])


def test_a_table_says_so_of_names_that_do_not(tmp_path):
    (tmp_path / "patients.csv").write_text("case,patient\nscan_7,patient02\n")
    (remark,) = remarks_on(["patient02_LGE"], ["scan_7", "scan_8"], tmp_path)
    assert "(patient02)" in remark


def test_hidden_files_beside_predictions_are_no_validation_cases(tmp_path):
    validation = tmp_path / "fold_0" / "validation"
    validation.mkdir(parents=True)
    for name in ("a.nii.gz", "._a.nii.gz", "summary.json"):  # the second is what macOS adds on other disks
        (validation / name).touch()
    model = SimpleNamespace(folder=tmp_path, file_ending=".nii.gz", validation_cases={"0": None})
    assert held_out(model, "0") == (["a"], "nnU-Net's final validation")
