"""The paper's recipe in small: slices, network and scorings are what its page says they are."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

EXPERIMENTS = Path(__file__).parents[2] / "scripts" / "experiments"
FOLDERS = EXPERIMENTS / "one_card", EXPERIMENTS / "paper"
FEATURES = [4, 8, 8, 8, 8]


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The folders' modules, by the plain names they have as scripts, and gone again afterwards."""
    for folder in FOLDERS:
        monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(tuple(map(str, FOLDERS))):
            del sys.modules[name]


@pytest.fixture
def packed(tmp_path) -> Path:
    """As ``pack.py`` leaves them: stacks of two slices of 100 x 100 pixels, of which the first is a ramp from 50 to 149
    with structures, and the second is flat, without."""
    stacks = [["ACDC", f"patient{i:03d}_frame01"] for i in range(3)] + [["Sunnybrook", "SC-1"]]
    arrays = {}
    for i, (place, _) in enumerate(stacks):
        image, labels = np.full((2, 144, 144), 77, np.uint8), np.zeros((2, 144, 144), np.uint8)
        image[:, 22:-22, 22:-22] = 50 + np.arange(100)
        labels[0, 60:80, 60:80], labels[0, 64:76, 64:76] = 2, 3
        labels[0, 60:80, 40:58] = place == "ACDC"  # the others have no RV
        stack = {
            "image": image,
            "labels": labels,
            "original": labels[:, 22:-22, 22:-22],
            "scale": np.array([-1, 4], np.float32),
            "shape": np.array([100, 100, 0, 100, 0, 100, 0, 2], np.int32),
        }
        arrays |= {f"{i:04d}/{name}": array for name, array in stack.items()}
    cases = [case for _, case in stacks[:3]]
    index = json.dumps({"stacks": stacks, "splits": [{"train": cases[:2], "val": cases[2:]}]}).encode()
    np.savez(tmp_path / "stacks.npz", index=np.frombuffer(index, np.uint8), **arrays)
    return tmp_path / "stacks.npz"


def test_percentiles_become_0_and_1_and_what_is_outside_is_0(packed):
    from paper_recipe import Slices

    values = Slices(packed, torch.device("cpu"), percentiles=True).values(torch.arange(2))[:, 0]
    inside = values[:, 22:-22, 22:-22]
    # the ramp's 2nd and 98th percentiles lie 2 of its 100 steps from its ends
    expected = ((torch.arange(100) - 1.98) / (97.02 - 1.98)).clamp(0, 1).expand_as(inside)
    torch.testing.assert_close(inside, expected, atol=0.02, rtol=0)
    values[:, 22:-22, 22:-22] = 0
    assert not values.any()


def test_z_scores_are_those_that_were_packed(packed):
    from paper_recipe import Slices

    values = Slices(packed, torch.device("cpu"), percentiles=False).values(torch.arange(1))
    assert float(values[0, 0, 22, 22]) == pytest.approx(-1 + 5 * 50 / 255, abs=1e-5)


def test_only_slices_with_a_structure_are_drawn(packed):
    from paper_recipe import Slices

    stacks = Slices(packed, torch.device("cpu"), percentiles=True)
    pool = stacks.training("ACDC-0")
    assert pool == [0, 2]  # the first of each of the two training stacks' two
    n = 50
    u, nowhere = torch.rand(n, 4), torch.zeros(n, dtype=torch.bool)
    slices, centre = stacks.draw(torch.tensor(pool).expand(n, -1), torch.full((n,), 2), u, 96, nowhere)
    assert set(slices.tolist()) == {0, 2}
    assert centre.min() >= 22 + 48 and centre.max() <= 144 - 22 - 48  # patches lie within the image


@pytest.mark.parametrize(
    ("changed", "norm", "scales"),
    [({}, nn.BatchNorm2d, 1), ({"norm": "instance"}, nn.InstanceNorm2d, 1), ({"loss": "dice+ce"}, nn.BatchNorm2d, 4)],
)
@pytest.mark.parametrize("skips", [True, False])
def test_the_network_has_the_norm_and_the_scales_and_shows_what_its_logits_are_made_of(changed, norm, scales, skips):
    from paper_recipe import Ingredients, Network

    network = Network(Ingredients(**changed), FEATURES, skips=skips)
    norms = {type(module) for module in network.modules() if "Norm" in type(module).__name__} - {type(network)}
    assert norm in norms and not norms & ({nn.BatchNorm2d, nn.InstanceNorm2d} - {norm})
    logits = network(torch.randn(2, 1, 32, 32))
    assert [scale.shape[-1] for scale in logits] == [32, 16, 8, 4][:scales]
    assert network.features.shape == (2, FEATURES[0], 32, 32) and network.features.min() >= 0
    torch.testing.assert_close(network.unet.decoder.seg_layers[-1](network.features), logits[0])


def test_a_missed_structure_scores_0_and_a_slice_with_nothing_to_find_1(packed):
    from paper_recipe import Slices
    from paper_train import judged

    class Blind:
        n = 1

        def __call__(self, x):
            logits = torch.zeros(1, x.shape[1], 4, *x.shape[3:])
            logits[:, :, 0] = 1
            return [logits]

    stacks = Slices(packed, torch.device("cpu"), percentiles=True)
    of_acdc, of_sunnybrook = (judged(Blind(), stacks, stacks.judged[i]) for i in (0, 3))
    assert of_acdc == [(name, True, 0.0, 0.5) for name in ("RV", "MLV", "LVC")]
    name, there, dice, by_slice = of_sunnybrook[0]
    assert (name, there, by_slice) == ("RV", False, 1.0) and np.isnan(dice)
    assert of_sunnybrook[1:] == of_acdc[1:]


@pytest.mark.parametrize(
    ("there", "dice", "ours", "of_the_code", "missed"),
    [
        ("1", "0.9", 0.9, 0.9, 0),
        ("1", "0.0", 0.0, 0.0, 1),  # missed
        ("0", "0.0", None, 1.0, None),  # invented
        ("0", "nan", None, 0.0, None),  # neither there nor predicted
    ],
)
def test_scorings(there, dice, ours, of_the_code, missed):
    import paper_table

    row = {"there": there, "dice": dice, "by_slice": "0.7"}
    assert paper_table.of_stacks(row) == ours and paper_table.of_the_code(row) == of_the_code
    assert paper_table.of_missed(row) == missed
    assert paper_table.of_slices(row) == (0.7 if there == "1" else None)


def test_a_teacher_and_its_student_are_trained_once_and_the_student_is_judged(packed, tmp_path, monkeypatch):
    import paper_train

    def run(*names: str) -> None:
        options = ["--steps", "3", "--features", *map(str, FEATURES)]
        monkeypatch.setattr(sys, "argv", ["paper_train.py", str(packed), str(tmp_path / "out"), *names, *options])
        paper_train.main()

    with pytest.raises(SystemExit):
        run("paper", "paper+features")
    assert not (tmp_path / "out").exists()
    run("paper+teacher", "paper+features", "dice+teacher", "dice+logits")
    out = tmp_path / "out"
    assert sorted(path.name for path in out.glob("*.csv")) == ["dice+logits-0.csv", "paper+features-0.csv"]
    with (out / "paper+features-0.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert [row[:6] for row in rows] == [
        ["paper+features", "0", place, case, name, there]
        for place, case, of_rv in (("ACDC", "patient002_frame01", "1"), ("Sunnybrook", "SC-1", "0"))
        for name, there in (("RV", of_rv), ("MLV", "1"), ("LVC", "1"))
    ]
    monkeypatch.setattr(paper_train, "train", None)  # what is there is not trained again
    run("paper+teacher", "paper+features")


def test_rows_of_a_network_are_replaced_by_its_new_ones(tmp_path, monkeypatch):
    import paper_table

    monkeypatch.setattr(paper_table, "ROWS", tmp_path / "rows.csv.gz")
    for name, dice in (("paper-0", 0.5), ("paper+features-0", 0.6), ("paper-0", 0.7)):
        (tmp_path / f"{name}.csv").write_text(f"{name[:-2]},0,LGE,a,RV,1,{dice},{dice}\n")
        paper_table.add(tmp_path)
    assert sorted((row["name"], row["dice"]) for row in paper_table.read()) == [
        ("paper", "0.7"),
        ("paper+features", "0.6"),
    ]


def test_the_page_says_what_its_rows_say_and_wrong_numbers_are_put_right():
    import paper_table

    text = paper_table.PAGE.read_text(encoding="utf-8")
    assert {found[1] for found in paper_table.BLOCK.finditer(text)} == set(paper_table.TABLES)
    assert paper_table.page(text) == text
    wrong = paper_table.BLOCK.sub(lambda found: found[0].replace("+", "-"), text)
    assert wrong != text and paper_table.page(wrong) == text
