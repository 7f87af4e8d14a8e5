"""Many small networks as one: each does what it would do alone, by nnU-Net's own loss and torch's own optimiser."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from nnunet_shapekd.method.distillation import LogitDistillation
from nnunet_shapekd.method.skipless_unet import without_skips

FOLDER = Path(__file__).parents[2] / "scripts" / "experiments" / "one_card"
FEATURES = [4, 8, 8, 8, 8]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The folder's modules, by the plain names they have as scripts, and gone again afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(FOLDER)):
            del sys.modules[name]


@pytest.mark.parametrize("teacher", [False, True])
def test_each_network_answers_as_it_does_alone(teacher):
    from ensemble import Ensemble, build

    make = (lambda: without_skips(build(FEATURES))) if teacher else (lambda: build(FEATURES))
    ensemble = Ensemble(make, [0, 1, 2])
    x = torch.randn(3, 2, 1, 32, 32)
    together = ensemble(x)
    for i, state in enumerate(ensemble.states()):
        alone = make()
        alone.load_state_dict(state)
        for expected, found in zip(alone(x[i]), together, strict=True):
            torch.testing.assert_close(found[i], expected, atol=1e-4, rtol=1e-4)


def test_loss_and_step_are_nnunets_and_torchs_own():
    from ensemble import Descent, Ensemble, build
    from losses import divergence, scale_weights, segmentation, smaller

    ensemble = Ensemble(lambda: build(FEATURES), [0, 1])
    descent = Descent(ensemble, torch.tensor(0.01))
    alone = build(FEATURES)
    alone.load_state_dict(ensemble.states()[1])
    optimiser = torch.optim.SGD(alone.parameters(), 0.01, weight_decay=3e-5, momentum=0.99, nesterov=True)
    dice = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DeepSupervisionWrapper(
        DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss), scale_weights(len(FEATURES) - 1)
    )
    target = torch.randint(0, 4, (2, 2, 4, 4)).repeat_interleave(8, 2).repeat_interleave(8, 3)
    for _ in range(3):
        x = torch.randn(2, 2, 1, 32, 32)
        together = ensemble(x)
        of_each = segmentation(together, target, torch.ones(2))
        of_each.sum().backward()
        descent.step()
        optimiser.zero_grad()
        output = alone(x[1])
        expected = loss(output, [smaller(target[1:], of_scale.shape[-1])[0][:, None] for of_scale in output])
        expected.backward()
        torch.nn.utils.clip_grad_norm_(alone.parameters(), 12)
        optimiser.step()
        torch.testing.assert_close(of_each[1].detach(), expected.detach(), atol=1e-4, rtol=1e-4)
    for name, tensor in alone.state_dict().items():
        torch.testing.assert_close(ensemble.states()[1][name], tensor, atol=1e-4, rtol=1e-3)
    student, teacher = ([torch.randn(2, 2, 4, s, s) for s in (32, 16, 8, 4)] for _ in range(2))
    weighted = zip(scale_weights(4), student, teacher, strict=True)
    expected = sum(weight * LogitDistillation()(s[1], t[1]) for weight, s, t in weighted)
    torch.testing.assert_close(divergence(student, teacher)[1], expected)


def test_features_are_as_far_apart_as_their_directions_and_only_the_first_follow():
    from ensemble import Ensemble, build
    from losses import feature_distance

    ensemble = Ensemble(lambda: build(FEATURES), [0, 1])
    features, others = (ensemble.encoded(torch.randn(2, 2, 1, 32, 32)) for _ in range(2))
    for of_stage in (*features, *others):
        of_stage.retain_grad()
    for factor, expected in ((2, 0.0), (-1, 2.0)):
        scaled = [factor * of for of in features]
        torch.testing.assert_close(feature_distance(features, scaled, 2), torch.full((2,), expected), atol=1e-5, rtol=0)
    apart = feature_distance(features, others, 2)
    second = [[of[:, of.shape[1] // 2 :] for of in view] for view in (features, others)]
    torch.testing.assert_close(apart[1:], feature_distance(*second, 1))
    apart.sum().backward()
    assert all(of.grad is not None for of in features) and all(of.grad is None for of in others)


@pytest.fixture
def packed(tmp_path) -> Path:
    """Stacks of a bright ring, as ``pack.py`` leaves them."""
    y, x = np.mgrid[:144, :144] - 71.5
    label = np.digitize(np.hypot(y, x), [12, 20, 28]).astype(np.uint8)
    label = np.choose(label, [3, 2, 1, 0]).astype(np.uint8)
    stacks = [["ACDC", f"patient{i:03d}_frame01"] for i in range(4)] + [["LGE", "subject02"], ["LGE", "subject03"]]
    arrays = {}
    for i in range(len(stacks)):
        image = np.random.default_rng(i).integers(0, 40, (2, 144, 144)).astype(np.uint8) + 60 * label
        stack = {
            "image": image.astype(np.uint8),
            "labels": np.stack([label, label]),
            "original": np.stack([label[22:-22, 22:-22]] * 2),
            "scale": np.array([-1, 4], np.float32),
            "shape": np.array([100, 100, 0, 100, 0, 100, 0, 2], np.int32),
        }
        arrays |= {f"{i:04d}/{name}": array for name, array in stack.items()}
    cases = [case for _, case in stacks[:4]]
    splits = [{"train": cases[:3], "val": cases[3:]}] * 2
    index = json.dumps({"stacks": stacks, "splits": splits}).encode()
    np.savez(tmp_path / "stacks.npz", index=np.frombuffer(index, np.uint8), **arrays)
    return tmp_path / "stacks.npz"


def test_students_follow_their_teachers_and_all_are_judged(packed, tmp_path, monkeypatch):
    import train

    options = ["--runs", "distilled", "--steps", "4", "--features", *map(str, FEATURES), "--precision", "fp32"]
    monkeypatch.setattr(sys, "argv", ["train.py", str(packed), str(tmp_path / "out"), *options])
    train.main()
    rows = [line.split(",") for line in (tmp_path / "out" / "rows.csv").read_text().splitlines()]
    assert {tuple(row[:3]) for row in rows} == {
        (name, "ACDC-1", str(seed)) for name in ("stock", "student") for seed in range(3)
    }
    judged = {"patient003_frame01", "subject02", "subject03"}
    assert {row[4] for row in rows} == judged and len(rows) == 6 * len(judged) * 3
    log = (tmp_path / "out" / "log.txt").read_text()
    assert log.index("teacher, 3 networks, 4 steps: done") < log.index("distilled, 3 networks, 4 steps: done")


def test_two_views_agree_on_what_their_run_says(packed, tmp_path, monkeypatch):
    import losses
    import train

    asked = []
    for name in ("feature_distance", "divergence"):
        real = getattr(losses, name)
        monkeypatch.setattr(losses, name, lambda *of, name=name, real=real: asked.append(name) or real(*of))
    options = ["--steps", "2", "--features", *map(str, FEATURES), "--precision", "fp32", "--seed", "0"]
    only = ["--runs", "taught", "--only", "moves-agree", "moves-agree-features"]
    monkeypatch.setattr(sys, "argv", ["train.py", str(packed), str(tmp_path / "out"), *options, *only])
    train.main()
    assert sorted(asked) == 2 * ["divergence"] + 2 * ["feature_distance"]


def test_averages_are_of_probabilities_and_of_networks_of_different_seeds(packed, tmp_path, monkeypatch):
    import averages
    from data import Stacks
    from ensemble import Ensemble, build
    from judge import dice

    ensemble = Ensemble(lambda: build(FEATURES), [0, 1, 2])
    names = ["stock|ACDC-1|0", "moves|ACDC-1|0", "stock|ACDC-1|1", "moves|ACDC-1|1"]
    states = [*ensemble.states(), ensemble.states()[0]]  # moves 1 is stock 0
    arrays = {f"{name}|{key}": state[key].numpy() for name, state in zip(names, states, strict=True) for key in state}
    np.savez(tmp_path / "weights.npz", **arrays)
    x = torch.randn(1, 2, 1, 32, 32)
    (found,) = averages.Averages(ensemble, [[0, 1]])(x)
    probabilities = ensemble(x.expand(3, -1, -1, -1, -1))[0].softmax(2)
    torch.testing.assert_close(found[0].exp(), (probabilities[0] + probabilities[1]) / 2, atol=1e-4, rtol=1e-4)

    rows = tmp_path / "rows.csv"
    options = [
        "--runs",
        "reported",
        "--weights",
        str(tmp_path / "weights.npz"),
        "--pairs",
        "stock+moves",
        "stock+stock",
    ]
    monkeypatch.setattr(
        sys, "argv", ["averages.py", str(packed), str(rows), *options, "--features", *map(str, FEATURES)]
    )
    averages.main()
    of = {}
    for *network, place, case, structure, value in (line.split(",") for line in rows.read_text().splitlines()):
        of[(*network, place, case, structure)] = float(value)
    alone = Ensemble(lambda: build(FEATURES), [0])
    alone.load([states[0]])
    stacks = Stacks(packed, torch.device("cpu"))
    stack = next(stack for stack in stacks.judged if stack.case == "subject02")
    expected = dice(alone, stacks, stack)[0]
    # stock 0 + moves 1 is one network twice
    assert of["stock+moves", "ACDC-1", "0", "LGE", "subject02", "MLV"] == pytest.approx(float(expected[1]), abs=1e-4)
    assert {network for network, *_ in of} == {"stock+moves", "stock+stock"}


def test_a_sequence_is_trained_on_the_patients_that_choices_rest_on(packed):
    from data import Stacks

    stacks = Stacks(packed, torch.device("cpu"))
    assert [stacks.judged[i].case for i in stacks.training("LGE")] == ["subject03"]
    assert [stacks.judged[i].case for i in stacks.training("ACDC-1")] == [f"patient{i:03d}_frame01" for i in range(3)]


class Trainer:
    """What ``nnunet_batches`` asks of one of nnU-Net's."""

    def __init__(self, plans, configuration, fold, dataset_json, device):
        assert (plans["plans_name"], configuration, fold, device.type) == ("small", "2d", 1, "cpu")

    def initialize(self):
        assert os.environ["nnUNet_n_proc_DA"] == "0"

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self):
        return None, False, (8, 8), (0, 1)

    def get_dataloaders(self):
        *_, mirrored = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        assert mirrored is None
        images = [torch.full((4, 1, 8, 8), value) for value in (1.0, float("nan"), torch.rand(()).item())]
        targets = [torch.ones(4, 1, size, size) for size in (8, 4)]
        return ({"data": image, "target": targets} for image in images), None


def test_a_trainers_batches_are_its_own_but_for_mirroring_and_what_is_no_number(tmp_path, monkeypatch):
    from nnunet_batches import batches

    folder = tmp_path / "preprocessed" / "Dataset060_ACDC"
    folder.mkdir(parents=True)
    (folder / "smallPlans.json").write_text('{"plans_name": "small"}')
    (folder / "dataset.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "of_a_trainer", sys.modules[__name__])
    (one, classes), (other, _) = batches("of_a_trainer:Trainer", tmp_path, 1, 5)
    assert one.unique().tolist() == [1] and classes.shape == (4, 1, 8, 8) and classes.dtype == torch.long
    torch.manual_seed(5)
    assert other.unique() == torch.rand(())


def test_the_pages_say_what_their_rows_say_and_wrong_numbers_are_put_right():
    import table

    for path in table.PAGES:
        text = path.read_text(encoding="utf-8")
        assert table.BLOCK.search(text) and table.page(text) == text
        wrong = table.BLOCK.sub(lambda found: found[0].replace("+", "-"), text)
        assert wrong != text and table.page(wrong) == text


def test_a_sequences_networks_are_judged_on_both_on_patients_of_whom_nothing_was_chosen(tmp_path, monkeypatch):
    import table

    monkeypatch.setattr(table, "ROWS", tmp_path / "rows.csv.gz")
    rows = [
        (run, data, seed, place, f"subject{number:02d}", structure, 0.5 + 0.1 * (run == "moves") * (place != data))
        for run in ("stock", "moves")
        for data in ("bSSFP", "LGE")
        for seed in (0, 1)
        for place in ("bSSFP", "LGE")
        for number in range(1, 13)
        for structure in ("RV", "MLV", "LVC")
    ]
    (tmp_path / "rows.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    table.add("sequences", tmp_path / "rows.csv")
    lines = list(table.sequences(table.read()["sequences"], "moves"))[2:]
    assert [line.split(" | ")[:3] for line in lines] == [
        [f"| {data}", place, "6"] for data in ("bSSFP", "LGE") for place in ("bSSFP", "LGE")
    ]
    assert "+10.0 (+10.0, +10.0)" in lines[1] and "+0.0 (+0.0, +0.0)" in lines[0]


def test_the_worst_column_is_named():
    import table

    values = {"ACDC": (90.0, 88.0), "LGE": (70.0, 80.0), "bSSFP": (88.0, 89.0)}
    rows = {(run, "0", place): {"a": of[i]} for place, of in values.items() for i, run in enumerate(("stock", "moves"))}
    *_, stock, moves = table.beside(rows, ["moves"])
    assert stock == "| `stock` | 1 | 90.0 | 70.0 | 88.0 | |"
    assert moves == "| `moves` | 1 | -2.0 | +10.0 | +1.0 | inside |"
