"""A trained model folder of nnU-Net's, of any trainer. torch is imported only where weights are read."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_shapekd.evaluation.cases import read_dataset_json


@dataclass(frozen=True)
class Model:
    """A trained model folder of nnU-Net's, ``.../DATASET/TRAINER__PLANS__CONFIGURATION``.

    Attributes:
        folder: the folder.
        dataset: name of the dataset it was trained on.
        dataset_json: of that dataset.
        trainer: name of the trainer, as recorded or as the folder has it.
        folds: those that predict, together.
        checkpoint: name of their file.
        file_endings: of the images its reader reads.
        natural_images: whether a file may hold several channels (colour pictures).
        weights_sha256: fold -> SHA-256 of its weights.
        training_cases: fold -> recorded training cases, ``None`` where there is no record (stock trainers).
        validation_cases: likewise.
    """

    folder: Path
    dataset: str
    dataset_json: dict[str, Any]
    trainer: str
    folds: tuple[str, ...]
    checkpoint: str
    file_endings: tuple[str, ...]
    natural_images: bool
    weights_sha256: dict[str, str]
    training_cases: dict[str, list[str] | None]
    validation_cases: dict[str, list[str] | None]

    @property
    def file_ending(self) -> str:
        """Of the images it was trained on, and of its predictions."""
        return str(self.dataset_json["file_ending"])

    @property
    def channels(self) -> list[str]:
        return channel_names(self.dataset_json)


def channel_names(dataset_json: Mapping[str, Any]) -> list[str]:
    """Names of the image channels, in their order.

    Raises:
        ValueError: if dataset.json has none.
    """
    names = dataset_json.get("channel_names") or dataset_json.get("modality")
    if not isinstance(names, Mapping) or not names:
        raise ValueError('dataset.json: expected "channel_names": {"0": NAME, ...}')
    try:
        return [str(names[key]) for key in sorted(names, key=int)]
    except ValueError:
        raise ValueError(f'dataset.json: expected "channel_names" numbered from 0, got {", ".join(names)}') from None


def read_model(
    folder: str | Path, folds: Sequence[str | int] | None = None, checkpoint: str = "checkpoint_final.pth"
) -> Model:
    """What a model folder says about itself. No code in its checkpoints is run.

    Args:
        folder: nnU-Net's results folder of one trainer, plans and configuration.
        folds: numbers, or "all"; by default all numbered folds that are there, or "all" where there is no other.
        checkpoint: name of the file in each fold's folder.

    Raises:
        FileNotFoundError: if folder, fold or checkpoint is missing; it says what there is.
        ValueError: if it is a teacher, a cascade's second stage, or damaged.
    """
    from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_shapekd.files.checkpoints import read_checkpoint, weights_sha256
    from nnunet_shapekd.training.lookup import add_trainers_folder, trainer_class
    from nnunet_shapekd.training.teacher import MeanImage

    folder = Path(folder).resolve()
    for name in ("dataset.json", "plans.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} is no model folder of nnU-Net's: it has no {name}. Give "
                "nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION"
            )
    dataset_json, plans = (read_dataset_json(folder / name) for name in ("dataset.json", "plans.json"))
    found = {path.parent.name.removeprefix("fold_"): path for path in sorted(folder.glob(f"fold_*/{checkpoint}"))}
    numbered = [fold for fold in found if fold.isdecimal()]
    chosen = [_fold(fold) for fold in folds] if folds else sorted(numbered, key=int) or list(found)
    missing = [fold for fold in chosen if fold not in found]
    if missing or not chosen:
        others = ", ".join(str(path.relative_to(folder)) for path in sorted(folder.glob("fold_*/checkpoint_*.pth")))
        raise FileNotFoundError(
            f"{folder}: there is no {checkpoint} of fold {', '.join(missing) or 0}; there is {others or 'none at all'}."
            " Choose with -f and -chk, or finish the training."
        )
    add_trainers_folder()
    shas, training, validation, name = {}, {}, {}, folder.name.split("__")[0]
    for fold in dict.fromkeys(chosen):
        path = found[fold]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on how a foreign file was pickled
            content = read_checkpoint(path)
        if absent := {"network_weights", "init_args", "trainer_name"} - content.keys():
            raise ValueError(f"{path} is no checkpoint of nnU-Net: it has no {', '.join(sorted(absent))}.")
        trainer = trainer_class(content["trainer_name"], nnUNetTrainer, f"of {path}")
        record = content.get("shapekd") or {}
        if record.get("role") == "teacher" or issubclass(trainer, MeanImage):
            raise ValueError(f"{path} is a teacher's: it sees the reference, so there is nothing to predict with it.")
        shas[fold] = weights_sha256(content["network_weights"])
        name = record.get("trainer") or name
        training[fold] = record.get("training_cases") or (record.get("teacher") or {}).get("training_cases")
        validation[fold] = record.get("validation_cases")
        configuration_name = content["init_args"]["configuration"]
    manager = PlansManager(plans)
    configuration = manager.get_configuration(configuration_name)
    if configuration.previous_stage_name is not None:
        raise ValueError(
            f"{folder} is a cascade's second stage, which needs the first stage's predictions: that is not supported. "
            f"Give a model of {configuration.previous_stage_name} or another configuration."
        )
    reader = manager.image_reader_writer_class
    return Model(
        folder,
        manager.dataset_name,
        dataset_json,
        name,
        tuple(shas),
        checkpoint,
        tuple(reader.supported_file_endings),
        issubclass(reader, NaturalImage2DIO),
        shas,
        training,
        validation,
    )


def _fold(fold: str | int) -> str:
    if fold != "all" and not str(fold).isdecimal():
        raise ValueError(f"-f: expected numbers, or all, got {fold}")
    return fold if isinstance(fold, str) and fold == "all" else str(int(fold))
