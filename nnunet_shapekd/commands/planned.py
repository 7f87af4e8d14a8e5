"""What ``shapekd train`` does: what a fold's folders hold decides, so that nothing trained is lost."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

Role = Literal["teacher", "student"]
State = Literal["none", "unfinished", "trained", "validated"]
Action = Literal["nothing", "train", "continue", "validate"]


@dataclass(frozen=True)
class Products:
    """What a final validation is to leave for each of its cases.

    Attributes:
        file_ending: of the predictions.
        probabilities: whether they are kept (``--npz``).
        next_stages: of a cascade, each with the folder of its preprocessed cases; nnU-Net leaves out those that are not
            there.
    """

    file_ending: str
    probabilities: bool = False
    next_stages: Mapping[str, Path] = field(default_factory=dict)

    def are_in(self, fold: Path) -> bool:
        """Whether all is in a fold's folder; the summary, which is written last, names the cases."""
        validation = fold / "validation"
        try:
            summary = json.loads((validation / "summary.json").read_text(encoding="utf-8"))
            names = [Path(case["prediction_file"]).name for case in summary["metric_per_case"]]
        except (OSError, ValueError, KeyError, TypeError):  # not there, or interrupted while it was written
            return False
        cases = [name.removesuffix(self.file_ending) for name in names]
        endings = [self.file_ending, *([".npz", ".pkl"] if self.probabilities else [])]
        return all((validation / f"{case}{ending}").is_file() for case in cases for ending in endings) and all(
            _is_there(fold.parent / "predicted_next_stage" / stage, case)
            for stage, preprocessed in self.next_stages.items()
            for case in cases
            if _is_there(preprocessed, case)
        )


def _is_there(folder: Path, case: str) -> bool:
    return any((folder / f"{case}{ending}").is_file() for ending in (".b2nd", ".npz", ".npy"))


def fold_state(folder: Path, products: Products) -> State:
    """How far nnU-Net came in a fold's folder.

    Returns:
        "none" without a checkpoint; "unfinished" with others than ``checkpoint_final.pth``; "trained" with that one;
        "validated" if all that the final validation is to make is there, too.
    """
    if (folder / "checkpoint_final.pth").is_file():
        return "validated" if products.are_in(folder) else "trained"
    return "unfinished" if any(folder.glob("checkpoint_*.pth")) else "none"


def planned_actions(
    teacher: Path,
    student: Path,
    products: Products,
    only: Role | None = None,
    continue_training: bool = False,
    teacher_given: bool = False,
) -> dict[Role, Action]:
    """What is to be done, teacher first, so that nothing is lost.

    Args:
        teacher: folder of the teacher's fold.
        student: folder of the student's fold.
        products: what the student's final validation is to leave; a teacher's, no probabilities.
        only: train this one alone.
        continue_training: continue what is unfinished, make what is missing of a validation, leave what is finished.
        teacher_given: the student asks for a finished teacher by its path, whatever is in ``teacher``.

    Raises:
        ValueError: if a training is there that this would overwrite, or continue without being asked to.
        FileNotFoundError: if the student's teacher is missing and must not, or cannot any more, be trained.
    """
    states: dict[Role, State] = {
        "teacher": "trained" if teacher_given else fold_state(teacher, replace(products, probabilities=False)),
        "student": fold_state(student, products),
    }
    if only != "teacher" and states["student"] in ("trained", "validated"):
        if not continue_training:
            raise ValueError(
                f"The student is trained already: {student}. Use --c to leave it as it is and make what is missing of "
                "its final validation (with --npz the probabilities, too), or move that folder away to train anew."
            )
        # its teacher has done its work, wherever it is by now
        return {"student": "nothing" if states["student"] == "validated" else "validate"}
    roles: tuple[Role, ...] = (only,) if only else ("teacher", "student")
    for role, folder in (("teacher", teacher), ("student", student)):
        if role in roles and states[role] == "unfinished" and not continue_training:
            raise ValueError(
                f"An unfinished training of the {role} is there: {folder}. Continue it with --c, or move that folder "
                "away to train anew."
            )
    taught = states["teacher"] in ("trained", "validated")
    if not taught and only == "student":
        raise FileNotFoundError(
            f"--only student needs a finished teacher, and {teacher / 'checkpoint_final.pth'} is missing. Train it "
            "with --only teacher, or leave --only away."
        )
    if not taught and only is None and states["student"] == "unfinished":
        raise FileNotFoundError(
            f"The student {student} began with a teacher that is no longer in {teacher}; a new one would not do. Bring "
            "that teacher back, or move the student's folder away to train both anew."
        )
    begin_or_continue: dict[State, Action] = {"none": "train", "unfinished": "continue"}
    # nobody needs a teacher's validation but the next stage's teacher, and who asks for this one alone
    if not teacher_given and (products.next_stages or (only == "teacher" and continue_training)):
        begin_or_continue["trained"] = "validate"
    return {role: begin_or_continue.get(states[role], "nothing") for role in roles}
