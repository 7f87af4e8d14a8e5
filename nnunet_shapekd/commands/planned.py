"""What ``shapekd train`` does: what a fold's folders hold decides, so that nothing trained is lost."""

from pathlib import Path
from typing import Literal

Role = Literal["teacher", "student"]
State = Literal["none", "unfinished", "trained", "validated"]
Action = Literal["nothing", "train", "continue"]


def fold_state(folder: Path) -> State:
    """How far nnU-Net came in a fold's folder.

    Returns:
        "none" without a checkpoint; "unfinished" with others than ``checkpoint_final.pth``; "trained" with that one;
        "validated" if the final validation's ``summary.json`` is there, too.
    """
    if (folder / "checkpoint_final.pth").is_file():
        return "validated" if (folder / "validation" / "summary.json").is_file() else "trained"
    return "unfinished" if any(folder.glob("checkpoint_*.pth")) else "none"


def planned_actions(
    teacher: Path,
    student: Path,
    only: Role | None = None,
    continue_training: bool = False,
    teacher_given: bool = False,
    next_stage: bool = False,
) -> dict[Role, Action]:
    """What is to be done, teacher first, so that nothing is lost.

    Args:
        teacher: folder of the teacher's fold.
        student: folder of the student's fold.
        only: train this one alone.
        continue_training: continue what is unfinished, leave what is finished.
        teacher_given: the student asks for a finished teacher by its path, whatever is in ``teacher``.
        next_stage: whether a cascade's second stage follows, whose teacher needs this one's validation.

    Raises:
        ValueError: if a training is there that this would overwrite, or continue without being asked to.
        FileNotFoundError: if the student's teacher is missing and must not, or cannot any more, be trained.
    """
    states: dict[Role, State] = {
        "teacher": "trained" if teacher_given else fold_state(teacher),
        "student": fold_state(student),
    }
    if only != "teacher" and states["student"] in ("trained", "validated"):
        if not continue_training:
            raise ValueError(
                f"The student is trained already: {student}. Use --c to leave it as it is (and to finish its "
                "validation where that is missing), or move that folder away to train anew."
            )
        # its teacher has done its work, wherever it is by now
        return {"student": "nothing" if states["student"] == "validated" else "continue"}
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
    if next_stage and not teacher_given:  # nobody else needs a teacher's validation
        begin_or_continue["trained"] = "continue"
    return {role: begin_or_continue.get(states[role], "nothing") for role in roles}
