"""The trainers' contracts with nnU-Net, in this process, on the planned phantom."""

import json
import os
import pickle
import shutil
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import DATASET, PLANS
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerNoDeepSupervision import (
    nnUNetTrainerNoDeepSupervision,
)

from nnunet_shapekd import teacher as teacher_module
from nnunet_shapekd.class_mean import class_mean_image
from nnunet_shapekd.skipless_unet import SkiplessUNetDecoder
from nnunet_shapekd.training import MeanImage, ShapeKD, _teacher_input_dataset

STUDENT, TEACHER = "nnUNetTrainerShapeKD_1epoch", "nnUNetTrainerMeanImage_1epoch"
LENGTHS = {"": 1000, "_1epoch": 1} | {f"_{n}epochs": n for n in (5, 10, 20, 50, 100, 250, 500)}


def make(trainer: str, fold: int | str = 0):
    return get_trainer_from_args("27", "2d", fold, trainer, PLANS, device=torch.device("cpu"))


def batch_of(trainer, seed: int = 0) -> dict:
    """Random images and labels as nnU-Net's loaders deliver them: int16 labels, a list of scales, finest first."""
    generator = torch.Generator().manual_seed(seed)
    size, n = trainer.configuration_manager.patch_size, trainer.configuration_manager.batch_size
    scales = [
        [int(s * f) for s, f in zip(size, scale, strict=True)] for scale in trainer._get_deep_supervision_scales()
    ]
    target = [torch.randint(0, 4, (n, 1, *s), generator=generator, dtype=torch.int16) for s in scales]
    return {"data": torch.randn(n, 1, *size, generator=generator), "target": target, "keys": ["case"] * n}


@pytest.fixture
def loaders_must_not_start(monkeypatch):
    def fail(self):
        raise AssertionError("the data loaders were started")

    monkeypatch.setattr(nnUNetTrainer, "get_dataloaders", fail)


@pytest.fixture
def teacher_file(teacher, tmp_path):
    """The teacher's checkpoint, to be spoilt by a test and restored afterwards."""
    path = teacher / "checkpoint_final.pth"
    shutil.copy(path, tmp_path / "good.pth")
    yield path
    shutil.copy(tmp_path / "good.pth", path)


def edit(path, change) -> None:
    checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, path)


@pytest.fixture
def ready(nnunet_environment, teacher, monkeypatch):
    """A student with its teacher, just before its first step."""
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    trainer = make(STUDENT)
    trainer.on_train_start()
    trainer.network.train()
    return trainer


def test_nnunets_own_look_up_finds_every_trainer_with_its_length(planned, tmp_path):
    names = [f"nnUNetTrainer{kind}{length}" for kind in ("MeanImage", "ShapeKD") for length in LENGTHS]
    code = (
        "import contextlib, inspect, io, json, sys\n"
        "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find\n"
        "from nnunet_shapekd.training import MeanImage, ShapeKD\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        f"    found = {{name: find(name) for name in {names}}}\n"
        "print(json.dumps({n: [issubclass(c, MeanImage), issubclass(c, ShapeKD), list(inspect.signature(c).parameters)]"
        " for n, c in found.items()}))"
    )
    found = json.loads(planned.run("python", "-c", code).stdout.splitlines()[-1])
    for name, (is_teacher, is_student, parameters) in found.items():
        assert is_teacher == ("MeanImage" in name) and is_student == ("ShapeKD" in name)
        assert parameters == ["plans", "configuration", "fold", "dataset_json", "device"]


@pytest.mark.parametrize("kind", ["MeanImage", "ShapeKD"])
@pytest.mark.parametrize(("length", "epochs"), LENGTHS.items())
def test_each_length_trains_that_many_epochs(nnunet_environment, kind, length, epochs):
    trainer = make(f"nnUNetTrainer{kind}{length}")
    assert trainer.num_epochs == epochs
    stock = make(f"nnUNetTrainer{length}")
    own = {"num_epochs", "initial_lr", "num_iterations_per_epoch", "num_val_iterations_per_epoch", "weight_decay"}
    assert all(getattr(trainer, name) == getattr(stock, name) for name in own)


def test_a_student_takes_the_teacher_of_its_own_length(nnunet_environment):
    for length in LENGTHS:
        assert make(f"nnUNetTrainerShapeKD{length}")._teacher_trainer_name() == f"nnUNetTrainerMeanImage{length}"


def test_the_teachers_network_has_no_skips_and_the_students_is_nnunets_own(nnunet_environment):
    for name, has_skips in ((TEACHER, False), (STUDENT, True)):
        trainer = make(name)
        trainer.initialize()
        assert type(trainer.network) is PlainConvUNet
        assert isinstance(trainer.network.decoder, SkiplessUNetDecoder) != has_skips


def test_the_mixins_work_over_nnunets_variants_with_an_architecture_of_their_own(nnunet_environment):
    class Teacher(MeanImage, nnUNetTrainerBN):
        pass

    class Student(ShapeKD, nnUNetTrainerBN):
        pass

    trainer = make("nnUNetTrainer")
    arguments = trainer.plans_manager, trainer.configuration_manager, 1, 4, False
    network = Teacher.build_network_architecture(*arguments)
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in network.decoder.modules())
    assert isinstance(network.decoder, SkiplessUNetDecoder)
    assert teacher_module.network_builder_name(Student) == "nnUNetTrainerBN"


def test_a_student_over_a_users_own_architecture_keeps_its_name_in_the_checkpoint():
    class Own(nnUNetTrainer):
        @staticmethod
        def build_network_architecture(*args, **kwargs):
            raise NotImplementedError

    class OwnStudent(ShapeKD, Own):
        pass

    assert teacher_module.network_builder_name(OwnStudent) == "OwnStudent"
    assert teacher_module.network_builder_name(type("S", (ShapeKD, nnUNetTrainer), {})) == "nnUNetTrainer"


def test_both_work_without_deep_supervision(nnunet_environment):
    class Teacher(MeanImage, nnUNetTrainerNoDeepSupervision):
        pass

    class Student(ShapeKD, nnUNetTrainerNoDeepSupervision):
        pass

    for trainer_class in (Teacher, Student):
        stock = make("nnUNetTrainer")
        plans = {**stock.plans_manager.plans, "continue_training": False}
        trainer = trainer_class(plans, "2d", 0, stock.dataset_json, torch.device("cpu"))
        trainer.initialize()
        trainer.teacher = lambda x: torch.zeros(x.shape[0], 4, *x.shape[2:])
        batch = batch_of(stock)
        batch["target"] = batch["target"][0]
        result = trainer.train_step(batch)
        assert np.isfinite(result["loss"])
    assert result["distillation_loss"] > 0


def test_the_ignore_label_is_a_region_for_the_teacher_and_out_of_the_distillation(nnunet_environment):
    stock = make("nnUNetTrainer")
    dataset = {**stock.dataset_json, "labels": {**stock.dataset_json["labels"], "ignore": 4}}
    plans = {**stock.plans_manager.plans, "continue_training": False}
    trainer = type(make(STUDENT))(plans, "2d", 0, dataset, torch.device("cpu"))
    trainer.initialize()
    batch, seen = batch_of(trainer), []
    for target in batch["target"]:
        target[..., : target.shape[-1] // 2] = 4

    def teacher(x):
        """Agrees with the student but for the ignored half, where its logits are wild."""
        seen.append(x)
        with torch.no_grad():
            output = [y.clone() for y in trainer.network(batch["data"])]
        for y in output:
            y[:, 0, ..., : y.shape[-1] // 2] = 1e4
        return output

    trainer.teacher = teacher
    result = trainer.train_step(batch)
    assert result["distillation_loss"] == pytest.approx(0, abs=1e-6)
    half = seen[0].shape[-1] // 2
    for sample, image in zip(seen[0], batch["data"], strict=True):
        torch.testing.assert_close(sample[..., :half], image[..., :half].mean().expand_as(sample[..., :half]))


def test_the_teacher_is_frozen_on_the_side_and_a_step_changes_only_the_student(ready):
    assert not ready.teacher.training
    assert not [p for p in ready.teacher.parameters() if p.requires_grad]
    optimised = {id(p) for group in ready.optimizer.param_groups for p in group["params"]}
    assert not optimised & {id(p) for p in ready.teacher.parameters()}
    assert not [name for name in ready.network.state_dict() if "teacher" in name]

    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in (ready.teacher, ready.network)]
    ready.train_step(batch_of(ready))
    assert all(torch.equal(v, before[0][k]) for k, v in ready.teacher.state_dict().items())
    assert any(not torch.equal(v, before[1][k]) for k, v in ready.network.state_dict().items())
    assert not ready.teacher.training
    assert all(p.grad is None for p in ready.teacher.parameters())


def test_the_teacher_sees_the_class_mean_of_the_same_sample(ready):
    batch, seen = batch_of(ready), []
    ready.teacher.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ready.train_step(batch)
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], class_mean_image(batch["data"], batch["target"][0]))


def test_the_step_is_nnunets_own_and_leaves_the_batch_as_it_was(ready, monkeypatch):
    calls, stock_step = [], nnUNetTrainer.train_step
    monkeypatch.setattr(nnUNetTrainer, "train_step", lambda self, batch: calls.append(batch) or stock_step(self, batch))
    batch, twin = batch_of(ready), batch_of(ready)
    result = ready.train_step(batch)
    assert len(calls) == 1 and calls[0] is not batch
    assert batch.keys() == twin.keys() and torch.equal(batch["data"], twin["data"])
    assert all(torch.equal(a, b) for a, b in zip(batch["target"], twin["target"], strict=True))
    assert result["loss"].shape == result["distillation_loss"].shape == ()


def test_the_logged_training_loss_is_the_segmentation_part(ready):
    batch = batch_of(ready)
    with torch.no_grad():
        expected = ready.loss.segmentation(ready.network(batch["data"]), batch["target"]).item()
    assert ready.train_step(batch)["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_validation_loss_is_stock_and_asks_no_teacher(ready):
    batch = batch_of(ready)
    ready.network.eval()
    with torch.no_grad():
        expected = ready.loss.segmentation(ready.network(batch["data"]), batch["target"]).item()
        ready.teacher = None
        assert ready.validation_step(batch)["loss"] == pytest.approx(expected, rel=1e-5)


def test_with_weight_0_a_step_is_stock_nnunets_step(ready, monkeypatch):
    stock = make("nnUNetTrainer_1epoch")
    stock.initialize()
    stock.network.load_state_dict(ready.network.state_dict())
    stock.network.train()
    ready.loss.weight = 0.0
    for trainer in (ready, stock):
        for seed in range(2):
            trainer.train_step(batch_of(trainer, seed))
    for name, value in stock.network.state_dict().items():
        torch.testing.assert_close(ready.network.state_dict()[name], value)


def test_the_teachers_steps_see_class_mean_images(nnunet_environment, monkeypatch):
    trainer = make(TEACHER)
    trainer.initialize()
    batch, seen = batch_of(trainer), []
    trainer.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    trainer.train_step(batch)
    with torch.no_grad():
        trainer.validation_step(batch)
    expected = class_mean_image(batch["data"], batch["target"][0])
    assert len(seen) == 2 and all(torch.equal(x, expected) for x in seen)
    assert torch.equal(batch["data"], batch_of(trainer)["data"])


def test_the_teachers_final_validation_sees_the_mean_of_each_slice(nnunet_environment, teacher, monkeypatch):
    trainer = make(TEACHER)
    trainer.initialize()
    stock, seen = trainer.dataset_class, {}

    def record(self, save_probabilities=False):
        _, val_keys = self.do_split()
        dataset = self.dataset_class(self.preprocessed_dataset_folder, val_keys)
        seen.update({key: dataset.load_case(key) for key in val_keys})

    monkeypatch.setattr(nnUNetTrainer, "perform_actual_validation", record)
    trainer.perform_actual_validation()
    assert trainer.dataset_class is stock and len(seen) == 2
    for key, (image, labels, _, _) in seen.items():
        original = stock(trainer.preprocessed_dataset_folder, [key]).load_case(key)[0][:]
        assert image.shape == original.shape and image.dtype == original.dtype
        for z in range(image.shape[1]):
            for label in (0, 1, 2, 3):
                region = labels[0, z].clip(0) == label
                if region.any():
                    assert image[0, z][region] == pytest.approx(original[0, z][region].mean(), abs=1e-4)


def test_in_3d_the_teachers_final_validation_sees_means_over_the_volume():
    image = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    labels = np.zeros((1, 3, 4, 5), dtype=np.int16)
    labels[0, :, 1:3, 1:3] = 1

    class Cases:
        def load_case(self, identifier):
            return image, labels, None, {}

    trainer = SimpleNamespace(
        configuration_manager=SimpleNamespace(patch_size=[2, 4, 4]), teacher_input=class_mean_image
    )
    result = _teacher_input_dataset(Cases, trainer)().load_case("case")[0]
    for channel in range(2):
        for label in (0, 1):
            region = labels[0] == label
            assert result[channel][region] == pytest.approx(image[channel][region].mean(), abs=1e-6)


def test_a_missing_teacher_is_named_with_the_command_before_the_loaders_start(
    nnunet_environment, loaders_must_not_start
):
    trainer = make("nnUNetTrainerShapeKD_5epochs")
    with pytest.raises(FileNotFoundError) as error:
        trainer.run_training()
    path = nnunet_environment.fold("nnUNetTrainerMeanImage_5epochs") / "checkpoint_final.pth"
    assert str(path) in str(error.value)
    assert f"nnUNetv2_train 27 2d 0 -tr nnUNetTrainerMeanImage_5epochs -p {PLANS} -device cpu" in str(error.value)


def test_an_unfinished_teacher_is_to_be_continued(nnunet_environment, teacher_file, loaders_must_not_start):
    teacher_file.unlink()
    with pytest.raises(FileNotFoundError, match=f"not finished.*checkpoint_best.*(?s:.)*-tr {TEACHER} .* --c"):
        make(STUDENT).run_training()


def change_labels(checkpoint):
    checkpoint["init_args"]["dataset_json"]["labels"] = {"background": 0, "liver": 1}


def change_spacing(checkpoint):
    checkpoint["init_args"]["plans"]["configurations"]["2d"]["spacing"] = [9.0, 9.0]


def leak_a_validation_case(checkpoint):
    checkpoint["shapekd"]["training_cases"] += checkpoint["shapekd"]["validation_cases"][:1]


def widen(checkpoint):
    name = "decoder.seg_layers.0.weight"
    checkpoint["network_weights"][name] = torch.zeros(7, *checkpoint["network_weights"][name].shape[1:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_labels, r'does not fit(?s:.)*labels: teacher \{"background": 0, "liver": 1\}'),
        (change_spacing, r"does not fit(?s:.)*spacing: teacher \[9.0, 9.0\]"),
        (leak_a_validation_case, "trained on 1 of the cases this student is validated on"),
        (widen, "do not fit the network(?s:.)*seg_layers"),
        (lambda checkpoint: checkpoint.pop("shapekd"), "is not a teacher: it was written by"),
    ],
)
def test_an_unfit_teacher_is_refused_with_its_reason(
    nnunet_environment, teacher_file, loaders_must_not_start, change, message
):
    edit(teacher_file, change)
    with pytest.raises(ValueError, match=message) as error:
        make(STUDENT).run_training()
    assert str(teacher_file) in str(error.value)
    assert f"nnUNetv2_train 27 2d 0 -tr {TEACHER} -p {PLANS} -device cpu" in str(error.value)


def test_a_students_checkpoint_is_no_teacher(nnunet_environment, teacher_file, student, loaders_must_not_start):
    shutil.copy(student / "checkpoint_final.pth", teacher_file)
    with pytest.raises(ValueError, match="is not a teacher: it was written by nnUNetTrainer as a student"):
        make(STUDENT).run_training()


def test_a_truncated_teacher_is_refused(nnunet_environment, teacher_file, loaders_must_not_start):
    teacher_file.write_bytes(teacher_file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=f"damaged or truncated(?s:.)*nnUNetv2_train 27 2d 0 -tr {TEACHER}"):
        make(STUDENT).run_training()


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_would_run_code_does_not_run_it(
    nnunet_environment, teacher_file, loaders_must_not_start, tmp_path
):
    attack = Malicious(tmp_path / "it_ran")
    edit(teacher_file, lambda checkpoint: checkpoint.update(extra=attack))
    with pytest.raises(ValueError, match=r"other than weights and plain values \(posix.mkdir\)") as error:
        make(STUDENT).run_training()
    assert not attack.path.exists()
    assert "weights_only" not in str(error.value)  # torch's own message advises to switch the protection off
    pickle.loads(pickle.dumps(attack))  # the attack works where nothing stops it
    assert attack.path.exists()


def test_a_fold_the_split_file_does_not_have_is_refused(nnunet_environment, loaders_must_not_start):
    for name, fold in ((TEACHER, 5), (STUDENT, 5), (STUDENT, -1)):
        with pytest.raises(
            ValueError, match=rf"no fold {fold} in .*splits_final.json, which holds 5 fold\(s\), 0 to 4"
        ):
            make(name, fold=fold).run_training()


def test_fold_all_leaks_nothing_into_a_validation_on_the_training_cases(nnunet_environment, teacher):
    student = make(STUDENT, fold="all")
    split = student.do_split()
    assert sorted(split[0]) == sorted(split[1]) and len(split[0]) == 10
    path = teacher / "checkpoint_final.pth"
    checkpoint = teacher_module.read_teacher_checkpoint(path, "command")
    checkpoint["shapekd"]["training_cases"] = sorted(split[0])
    teacher_module.check_teacher_fits(checkpoint, path, student, split, "command")
    with pytest.raises(ValueError, match="trained on 1 of the cases"):
        teacher_module.check_teacher_fits(checkpoint, path, student, (split[0][1:], split[0][:1]), "command")


def test_a_teacher_on_nnunets_own_fresh_split_can_be_read_by_its_student(nnunet_environment, tmp_path):
    splits = nnunet_environment.root / "preprocessed" / DATASET / "splits_final.json"
    content = splits.read_bytes()
    splits.unlink()  # nnU-Net then makes one, of numpy strings
    try:
        trainer = make(TEACHER)
        trainer.initialize()
        trainer._record_split()
        assert splits.is_file()
    finally:
        splits.write_bytes(content)
    trainer.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))
    checkpoint = teacher_module.read_teacher_checkpoint(tmp_path / "checkpoint_final.pth", "command")
    assert len(checkpoint["shapekd"]["training_cases"]) == 8


def test_a_teacher_is_not_continued_on_another_split(nnunet_environment, teacher):
    trainer = make(TEACHER)
    trainer.load_checkpoint(str(teacher / "checkpoint_final.pth"))
    trainer._record_split()  # the same split: no objection
    trainer.provenance["training_cases"] = trainer.provenance["training_cases"][1:]
    with pytest.raises(ValueError, match="began with another split"):
        trainer._record_split()


def test_a_checkpoint_of_another_origin_is_named(nnunet_environment, teacher_file):
    edit(teacher_file, lambda checkpoint: checkpoint.pop("shapekd"))
    with pytest.raises(ValueError, match=f"{teacher_file} was not written by {TEACHER}"):
        make(TEACHER).load_checkpoint(str(teacher_file))


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_a_teacher_written_with_either_numpy_can_be_read(teacher, tmp_path, module):
    path = tmp_path / "checkpoint_final.pth"
    with zipfile.ZipFile(teacher / "checkpoint_final.pth") as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray\nscalar" in content or b"numpy.core.multiarray\nscalar" in content
                for written in (b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"):
                    content = content.replace(written, f"c{module}\n".encode())
            new.writestr(entry, content)
    checkpoint = teacher_module.read_teacher_checkpoint(path, "command")
    assert float(checkpoint["logging"]["train_losses"][0]) > -1


def test_after_the_last_epoch_no_teacher_is_needed_and_provenance_stays(
    nnunet_environment, student, monkeypatch, tmp_path
):
    before = torch.load(student / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    trainer = make(STUDENT)
    trainer.load_checkpoint(str(student / "checkpoint_final.pth"))
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    monkeypatch.setattr(trainer, "teacher_trainer", "nnUNetTrainerThatIsNowhere")
    trainer.on_train_start()
    assert not hasattr(trainer, "teacher")
    trainer.current_epoch -= 1  # as on_train_end does
    trainer.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))
    after = torch.load(tmp_path / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    assert after["shapekd"] == before["shapekd"] and after["logging"] == before["logging"]
    assert after["current_epoch"] == before["current_epoch"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entry: entry["settings"].update(temperature=4.0), "temperature: 4.0 before, 1.0 now"),
        (lambda entry: entry["teacher"].update(weights_sha256="0" * 64), "weights_sha256: 0000"),
    ],
)
def test_continuing_with_another_teacher_or_other_settings_is_refused(ready, student, change, message):
    trainer = make(STUDENT)
    trainer.load_checkpoint(str(student / "checkpoint_final.pth"))
    trainer.num_epochs = 2  # one is left
    trainer.on_train_start()  # the same teacher and settings: no objection
    change(trainer.provenance)
    with pytest.raises(ValueError, match=f"began with another teacher or other settings(?s:.)*{message}"):
        trainer.on_train_start()


def test_a_killed_save_leaves_the_old_checkpoint(ready, tmp_path, monkeypatch):
    path = tmp_path / "checkpoint_latest.pth"
    ready.save_checkpoint(str(path))
    before = path.read_bytes()
    monkeypatch.setattr(teacher_module.os, "fsync", lambda fd: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        ready.save_checkpoint(str(path))
    assert path.read_bytes() == before


def test_disabled_checkpointing_writes_nothing(ready, tmp_path):
    ready.disable_checkpointing = True
    ready.save_checkpoint(str(tmp_path / "checkpoint_latest.pth"))
    assert list(tmp_path.iterdir()) == []


def test_a_resaved_teacher_has_the_same_hash_and_other_weights_another(teacher, tmp_path):
    weights = torch.load(teacher / "checkpoint_final.pth", map_location="cpu", weights_only=False)["network_weights"]
    torch.save(weights, tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=True)
    assert teacher_module.weights_sha256(again) == teacher_module.weights_sha256(weights)
    name = next(iter(again))
    again[name] = again[name] + 1e-6
    assert teacher_module.weights_sha256(again) != teacher_module.weights_sha256(weights)


def test_regions_and_cascades_are_refused_at_start(nnunet_environment):
    preprocessed = nnunet_environment.root / "preprocessed" / DATASET
    plans = json.loads((preprocessed / f"{PLANS}.json").read_text())
    dataset = json.loads((preprocessed / "dataset.json").read_text())
    regions = {**dataset, "labels": {"background": 0, "heart": [1, 2, 3], "LV": 3}, "regions_class_order": [1, 3]}
    trainer = type(make(STUDENT))({**plans, "continue_training": False}, "2d", 0, regions, torch.device("cpu"))
    with pytest.raises(NotImplementedError, match="region-based datasets"):
        trainer.initialize()
    trainer = make(STUDENT)
    trainer.is_cascaded = True
    with pytest.raises(NotImplementedError, match="cannot train 2d yet"):
        trainer.initialize()


def test_a_student_whose_name_does_not_tell_its_teacher_says_so(nnunet_environment):
    found = type(make(STUDENT))
    with pytest.raises(ValueError, match="MyOwn does not say who its teacher is.*teacher_trainer"):
        object.__new__(type("MyOwn", (found,), {}))._teacher_trainer_name()
    named = type("MyOwn", (found,), {"teacher_trainer": "MyTeacher"})
    assert object.__new__(named)._teacher_trainer_name() == "MyTeacher"
