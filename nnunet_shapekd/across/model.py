"""A trained model folder of nnU-Net's, of any trainer. torch is imported only where weights are read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_shapekd.across.options import ModelOptions
from nnunet_shapekd.evaluation.names import check_names, default_names
from nnunet_shapekd.files.dataset_json import Labels, channel_names, labels_of_dataset, read_dataset_json, read_object


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
        reader: name of the reader of its plans.
        normalization_schemes: of the channels.
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
    reader: str
    normalization_schemes: tuple[str, ...]
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

    @property
    def labels(self) -> Labels:
        return labels_of_dataset(self.dataset_json)

    def described(self, name: str, tta: bool) -> dict[str, Any]:
        """What a result records of it."""
        kept = ("trainer", "dataset", "checkpoint", "weights_sha256")
        return {"name": name, "folder": str(self.folder), **{key: getattr(self, key) for key in kept}, "tta": tta}


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

    from nnunet_shapekd.files.checkpoints import read_network, weights_sha256
    from nnunet_shapekd.training.lookup import add_trainers_folder, trainer_class
    from nnunet_shapekd.training.teacher import MeanImage

    folder = Path(folder).resolve()
    for name in ("dataset.json", "plans.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} is no model folder of nnU-Net's: it has no {name}. Give "
                "nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION"
            )
    dataset_json, plans = read_dataset_json(folder / "dataset.json"), read_object(folder / "plans.json")
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
            content = read_network(path)
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
        folder=folder,
        dataset=manager.dataset_name,
        dataset_json=dataset_json,
        trainer=name,
        folds=tuple(shas),
        checkpoint=checkpoint,
        file_endings=tuple(reader.supported_file_endings),
        natural_images=issubclass(reader, NaturalImage2DIO),
        reader=reader.__name__,
        normalization_schemes=tuple(configuration.normalization_schemes),
        weights_sha256=shas,
        training_cases=training,
        validation_cases=validation,
    )


def _fold(fold: str | int) -> str:
    if fold != "all" and not str(fold).isdecimal():
        raise ValueError(f"-f: expected numbers, or all, got {fold}")
    return "all" if fold == "all" else str(int(fold))


def read_models(model_folder: str | Path, options: ModelOptions) -> dict[str, Model]:
    """Models that can be compared, trained on the same dataset, with the same folds: name -> baselines, then the model.

    Args:
        model_folder: of the model, which says what folds there are.
        options: say the baselines, the names, the folds and the checkpoint.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_model` does, and listing the differences.
    """
    folders = [Path(os.path.abspath(folder)) for folder in (*options.baselines, model_folder)]
    if twice := sorted({str(folder) for folder in folders if folders.count(folder) > 1}):
        raise ValueError(f"the same model folder was given more than once: {', '.join(twice)}")
    names = default_names(folders) if options.names is None else list(options.names)
    if len(names) != len(folders):
        raise ValueError(f"--names: expected {len(folders)} names, the baselines' first, got {len(names)}")
    check_names(names)
    model = read_model(folders[-1], options.folds, options.checkpoint)
    models = [*(read_model(folder, model.folds, options.checkpoint) for folder in folders[:-1]), model]
    differences = []
    for other in models[:-1]:
        found = {
            what: [getattr(one, what) for one in (other, model)] for what in ("dataset", "channels", "file_ending")
        }
        found |= {what: [getattr(one.labels, what) for one in (other, model)] for what in ("classes", "ignore")}
        differences += [
            f"\n  - {other.folder} {what.replace('_', ' ')}: {theirs}, the model's {ours}"
            for what, (theirs, ours) in found.items()
            if theirs != ours
        ]
    if differences:
        raise ValueError("--baseline must be trained on the same dataset as the model:" + "".join(differences))
    return dict(zip(names, models, strict=True))
