"""The runs of ``evidence.py``: a trainer of ``trainers/``, its settings, and the run that is its teacher."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

EPOCHS = 30  # of 50 steps


@dataclass(frozen=True)
class Run:
    """A network to train: its trainer, its settings (environment variables), and the run that is its teacher."""

    trainer: str
    teacher: str | None = None
    settings: dict[str, str] = field(default_factory=dict)
    epochs: int = EPOCHS


def student(teacher: str = "teacher", trainer: str = "nnUNetTrainerShapeKD_Seeded", **settings: float) -> Run:
    """Distilled by logits with weight 1 at temperature 1 from the first epoch on, but for the settings given."""
    settings = {"logit_weight": 1, "temperature": 1, "ramp": 0} | settings
    return Run(trainer, teacher, {f"SHAPEKD_{name.upper()}": str(value) for name, value in sorted(settings.items())})


def of_labels(ramp: float) -> Run:
    """The labels in the teacher's place."""
    return Run("nnUNetTrainerLabels_Seeded", settings={"EXPERIMENT_RAMP": str(ramp)})


def randomly_convolved(share: float) -> Run:
    return Run("nnUNetTrainerRandomConvolutions_Seeded", settings={"EXPERIMENT_SHARE": str(share)})


RUNS = {
    "stock": Run("nnUNetTrainer_Seeded"),
    "teacher": Run("nnUNetTrainerMeanImage_Seeded"),
    "student": student(),
    "ramp": student(ramp=0.5),
    "teacher-half": Run("nnUNetTrainerMeanImageHalf_Seeded"),
    "student-of-half": student("teacher-half"),
    # stronger settings, and the paper's features with a weight that matches the cross-entropy (evidence_why.py)
    "weight-3": student(logit_weight=3),
    "temperature-2": student(temperature=2),
    "balanced": student(balanced=1),
    "features": student(logit_weight=0, feature_weight=2),
    "features-matched": student(logit_weight=0, feature_weight=0.5),
    # controls
    "stock-of-the-pairs-cost": Run("nnUNetTrainer_Seeded", epochs=62),
    "labels": of_labels(ramp=0),
    "ramp-labels": of_labels(ramp=0.5),
    # images with other intensities
    "mean-jitter": Run("nnUNetTrainerMeanJitter_Seeded"),
    "student-mean-jitter-ramp": student(trainer="nnUNetTrainerShapeKDMeanJitter_Seeded", ramp=0.5),
    "random-convolutions": randomly_convolved(0.5),
    "random-convolutions-rarely": randomly_convolved(0.15),
}
# is it only faster convergence?
RUNS |= {
    f"{name}-5x": replace(RUNS[name], epochs=5 * EPOCHS, teacher=RUNS[name].teacher and f"{RUNS[name].teacher}-5x")
    for name in ("stock", "teacher", "ramp", "ramp-labels", "mean-jitter")
}
