"""Ventricular volumes, ejection fraction and myocardial mass, and how far prediction and reference agree on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from nnunet_shapekd.evaluation.record import Evaluation

#: g/ml; the density of myocardium by which echocardiography and cardiac MRI turn its volume into a mass
MYOCARDIAL_DENSITY = 1.05
#: index -> its unit, in the order of the tables
INDICES = {
    "LV EDV": "ml",
    "LV ESV": "ml",
    "LV EF": "%",
    "RV EDV": "ml",
    "RV ESV": "ml",
    "RV EF": "%",
    "LV mass": "g",
}


def ejection_fraction(edv_ml: float, esv_ml: float) -> float:
    """EF in percent, 100 (EDV - ESV) / EDV; NaN if EDV is 0. Negative where ES is the larger one: it is not hidden."""
    return 100 * (edv_ml - esv_ml) / edv_ml if edv_ml > 0 else float("nan")


def check_phases(cases: Iterable[tuple[str, str, str]]) -> None:
    """Of patient, phase and case: raises ValueError if a patient has several cases of the same phase."""
    first: dict[tuple[str, str], str] = {}
    for patient, phase, case in cases:
        if phase and (other := first.setdefault((patient, phase), case)) != case:
            raise ValueError(
                f"Patient {patient} has two {phase} cases, {other} and {case}; expected one. Correct the phases or the "
                "patients (--patients or --pattern)."
            )


def indices(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The cardiac indices of every patient, of the reference and of the prediction.

    EDV and ESV are the cavity's volumes at end-diastole (ED) and end-systole (ES), EF is :func:`ejection_fraction`,
    LV mass is MYOCARDIAL_DENSITY times the myocardium's volume at ED. A structure nobody segmented has a volume of 0.

    Args:
        evaluation: of volumes; its rows say the phase, ``evaluation.cardiac`` which class is which structure.

    Returns:
        Rows {"patient", "index", "unit", "reference", "prediction"}, by patient and in INDICES's order. Of a patient
        without one of the phases there are only the indices that do without it; of other tasks than cardiac ones,
        without phases, or of sizes that are no volumes there are none. An undefined EF is NaN.

    Raises:
        ValueError: if a patient has several cases of the same phase.
    """
    if evaluation.size_unit != "ml" or not evaluation.cardiac:
        return []
    check_phases((row["patient"], row["phase"], row["case"]) for row in evaluation.rows)
    phases: set[tuple[str, str]] = set()
    volumes: dict[tuple[str, str, str], tuple[float, float]] = {}
    structures = {name: structure for structure, name in evaluation.cardiac.items()}
    for row in evaluation.rows:
        patient, phase = row["patient"], row["phase"]
        if phase not in ("ED", "ES"):
            continue
        phases.add((patient, phase))
        if row["class"] in structures:
            volumes[patient, phase, structures[row["class"]]] = (row["reference_size"], row["prediction_size"])
    rows = []
    for patient in sorted({patient for patient, _ in phases}):
        muscle = volumes.get((patient, "ED", "myo"))
        of_patient = {"LV mass": muscle and tuple(MYOCARDIAL_DENSITY * volume for volume in muscle)}
        for name in ("LV", "RV"):
            edv, esv = (volumes.get((patient, phase, name.lower())) for phase in ("ED", "ES"))
            of_patient |= {f"{name} EDV": edv, f"{name} ESV": esv}
            of_patient[f"{name} EF"] = edv and esv and tuple(map(ejection_fraction, edv, esv))
        rows += [
            {"patient": patient, "index": index, "unit": unit, "reference": pair[0], "prediction": pair[1]}
            for index, unit in INDICES.items()
            if (pair := of_patient[index])
        ]
    return rows


def agreement(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """How far prediction and reference agree on each index.

    bias = mean of d = prediction - reference; limits of agreement = bias ± 1.96 sd, between which about 95 % of such
    differences lie if they are normal; sd is the sample standard deviation of d.

    Source: J. M. Bland, D. G. Altman, "Statistical Methods for Assessing Agreement Between Two Methods of Clinical
    Measurement", Lancet 327(8476):307-310, 1986.

    Args:
        rows: from :func:`indices`; rows that are undefined in either are left out, and not counted in "n".

    Returns:
        Per index, in the rows' order, {"index", "unit", "n", "mean_reference", "mean_prediction", "bias", "sd",
        "limits_low", "limits_high", "mean_absolute_error", "pearson_r"}. None is undefined: sd and limits below two
        patients, pearson_r below three or where one side is constant, all but n without patients.
    """
    found = []
    for index, unit in {row["index"]: row["unit"] for row in rows}.items():
        pairs = np.array([(row["reference"], row["prediction"]) for row in rows if row["index"] == index], dtype=float)
        reference, prediction = pairs[np.isfinite(pairs).all(axis=1)].T
        n, difference = len(reference), prediction - reference
        bias = float(difference.mean()) if n else None
        sd = float(difference.std(ddof=1)) if n > 1 else None
        varies = n > 2 and np.ptp(reference) > 0 and np.ptp(prediction) > 0
        found.append(
            {
                "index": index,
                "unit": unit,
                "n": n,
                "mean_reference": float(reference.mean()) if n else None,
                "mean_prediction": float(prediction.mean()) if n else None,
                "bias": bias,
                "sd": sd,
                "limits_low": bias - 1.96 * sd if n > 1 else None,
                "limits_high": bias + 1.96 * sd if n > 1 else None,
                "mean_absolute_error": float(np.abs(difference).mean()) if n else None,
                "pearson_r": float(np.corrcoef(reference, prediction)[0, 1]) if varies else None,
            }
        )
    return found
