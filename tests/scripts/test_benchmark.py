"""scripts/benchmark.py runs, and its report has every row and fact; no test depends on how long anything takes."""

import importlib
import json
import math
import os
import sys

import pytest
import torch
from conftest import ROOT

CASES = ["2d-plain-14", "3d-resenc-4"]


@pytest.fixture(scope="module")
def benchmark():
    folder = str(ROOT / "scripts")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("benchmark")
    finally:
        sys.path.remove(folder)


@pytest.fixture(scope="module")
def report(benchmark, tmp_path_factory):
    """The JSON of a tiny benchmark of two cases on the CPU."""
    path = tmp_path_factory.mktemp("benchmark") / "benchmark.json"
    threads, environment = torch.get_num_threads(), dict(os.environ)
    common = ["--tiny", "--device", "cpu", "--threads", "1", "--no-memory", "-o", str(path)]
    benchmark.main([*common, "--rounds", "2", "--cases", *CASES])
    torch.set_num_threads(threads)
    assert dict(os.environ) == environment
    assert [file.name for file in path.parent.iterdir()] == ["benchmark.json"]
    return json.loads(path.read_text())


def rows_of(report: dict, case: str) -> dict[tuple[str, str], dict]:
    return {(row["what"], row["against"]): row for row in report["rows"] if row["case"] == case}


@pytest.mark.parametrize("case", CASES)
def test_every_row_is_there(report, case):
    stock, means = "stock step", "class mean"
    expected = {(stock, stock), ("student's prediction", "stock prediction")}
    parts = (means, "loss", "loss with distillation", "teacher step", "mean jitter step", "moves step")
    expected |= {(part, stock) for part in parts}
    for width in ("1", "0.5", "0.25"):
        student, forward = f"student step, teacher of width {width}", f"teacher forward, width {width}"
        expected |= {(forward, stock), (student, stock), (student, f"{stock} + {forward} + {means}")}
    expected |= {
        ("student step with moves, teacher of width 1", against)
        for against in (stock, "student step, teacher of width 1")
    }
    batches = ("stock batch", "moves of a batch", "batch, half are moved", "batch, half are moved, and as it was")
    expected |= {(batch, "stock batch") for batch in batches}
    ways = (means, "loop over samples and classes", "one-hot matmul", "flat scatter_add", "bincount")
    assert set(rows_of(report, case)) == expected | {(way, means) for way in ways}


def test_the_report_names_versions_hardware_and_what_each_row_is_of(report):
    assert report["finished"]
    assert report["torch"] == torch.__version__ and report["cores"] == os.cpu_count()
    assert {"python", "nnunetv2", "nnunet_shapekd", "commit", "cudnn", "system", "cpu", "gpu"} <= set(report)
    row = rows_of(report, "3d-resenc-4")["stock step", "stock step"]
    facts = {"plan": "3d", "network": "resenc", "classes": 4, "device": "cpu", "amp": False, "compile": False}
    facts |= {"patch_size": [4, 32, 32], "batch_size": 2, "threads": 1, "rounds": 2, "ratio": 1, "low": 1, "high": 1}
    assert {name: row[name] for name in facts} == facts


def test_medians_are_positive_and_intervals_hold_their_ratio(report):
    for row in report["rows"]:
        assert 0 < row["median_ms"] < math.inf
        assert 0 < row["low"] <= row["ratio"] <= row["high"] < math.inf


def test_the_flop_bounds_are_those_of_the_package(benchmark, report):
    rows = rows_of(report, "2d-plain-14")
    setup = benchmark.Setup("2d-plain-14", tiny=True)
    plans = benchmark.PlansManager(benchmark.plans_of(setup))
    arguments = (plans, plans.get_configuration("any"), setup.dataset)
    cost = benchmark.pair_cost(benchmark.STUDENT, benchmark.TEACHERS[1.0], *arguments)
    bounds = {what: row["flop_bound"] for (what, against), row in rows.items() if against == "stock step"}
    assert bounds["student step, teacher of width 1"] == pytest.approx(cost.step_ratio, rel=1e-12)
    assert bounds["teacher forward, width 1"] == pytest.approx(cost.step_ratio - 1)
    assert bounds["teacher step"] == cost.teacher_step_flops / cost.stock_step_flops
    assert bounds["class mean"] is None
    # half the features are about a quarter of the computation
    assert 1 < bounds["student step, teacher of width 0.25"] < bounds["student step, teacher of width 0.5"]
    assert bounds["student step, teacher of width 0.5"] < 1 + 0.4 * (cost.step_ratio - 1)


@pytest.mark.parametrize("case", CASES)
def test_all_ways_to_the_class_mean_agree(benchmark, case):
    setup = benchmark.Setup(case, tiny=True)
    with benchmark.nnunet_environment(setup):
        images = {name: way() for name, way in benchmark.class_means(setup).items()}
    expected = images.pop("class mean")
    assert len(images) == 4 and expected.unique().numel() > 6
    for image in images.values():
        torch.testing.assert_close(image, expected, rtol=1e-4, atol=1e-5)


def test_labels_hang_together_and_come_as_nnunet_delivers_them(benchmark):
    setup = benchmark.Setup("3d-plain-14", tiny=True)
    with benchmark.nnunet_environment(setup):
        batch = benchmark.batch_of(benchmark.trainer_of(benchmark.nnUNetTrainer, setup))
    assert batch["data"].dtype == torch.float32 and batch["data"].shape == (2, 1, 4, 32, 32)
    assert [tuple(target.shape[2:]) for target in batch["target"]] == [(4, 32, 32), (4, 16, 16)]
    finest = batch["target"][0]
    assert finest.dtype == torch.int16 and finest.unique().numel() > 4 and 0 <= finest.min() <= finest.max() < 14
    assert (finest[..., 1:] == finest[..., :-1]).float().mean() > 0.8
    assert (finest == 0).float().mean() == max((finest == label).float().mean() for label in range(14))


def test_a_step_of_the_student_uses_the_teacher_of_its_width_and_trains(benchmark):
    setup = benchmark.Setup("2d-plain-4", tiny=True)
    with benchmark.nnunet_environment(setup):
        contenders = benchmark.student_steps((1.0, 0.5), setup)
        for width, features in ((1.0, 4), (0.5, 2)):
            step = contenders[benchmark.student_name(width)]
            teacher_class, teacher = step.args
            assert teacher_class.width == width and not teacher.training
            assert teacher.encoder.stages[0][0].output_channels == features
            assert not any(weight.requires_grad for weight in teacher.parameters())
            student = step.func.__closure__[[*step.func.__code__.co_freevars].index("student")].cell_contents
            before = [weight.clone() for weight in student.network.parameters()]
            step()
            assert student.teacher is teacher and student.loss.last_parts[1] > 0
            assert any((a != b).any() for a, b in zip(before, student.network.parameters(), strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_measured_in_a_process_of_its_own(benchmark):
    ballast = torch.ones(2**28)  # 1 GiB here, and none of it there
    at_start, peak = benchmark.memory_of(benchmark.Setup("2d-plain-4", tiny=True), "stock step")
    assert 2**26 < at_start <= peak
    assert peak < ballast.nbytes < benchmark.resident_bytes("VmHWM")


@pytest.mark.parametrize(
    ("n", "rank"), [(1, 1), (2, 1), (5, 1), (6, 1), (8, 1), (9, 2), (11, 2), (12, 3), (15, 4), (21, 6), (25, 8)]
)
def test_the_interval_of_a_median_is_that_of_the_sign_tests_tables(benchmark, n, rank):
    values = [float(value) for value in reversed(range(1, n + 1))]
    assert benchmark.median_and_interval(values) == ((n + 1) / 2, rank, n + 1 - rank)


def test_ratios_are_taken_round_by_round(benchmark):
    seconds = {"a": [2.0, 30.0, 4.0], "b": [1.0, 10.0, 1.0], "c": [1.0, 5.0, 3.0]}
    row = benchmark.row_of(seconds, "a", "b", flop_bound=1.5)
    assert (row.median_ms, row.ratio, row.low, row.high, row.flop_bound) == (4000, 3, 2, 4, 1.5)
    row = benchmark.row_of(seconds, "a", "b", "c")
    assert (row.against, row.ratio, row.low, row.high) == ("b + c", 1, 1, 2)


def test_every_contender_has_its_turn_in_every_round_in_a_drawn_order(benchmark):
    turns = []
    contenders = {name: lambda name=name: turns.append(name) for name in "abc"}
    seconds = benchmark.measure(contenders, "cpu", rounds=6, warmup=1, at_least=0.0)
    rounds = ["".join(turns[i : i + 3]) for i in range(0, len(turns), 3)]
    assert rounds[0] == "abc" and len(rounds) == 1 + 6  # the warm-up
    assert all(sorted(turns) == ["a", "b", "c"] for turns in rounds) and len(set(rounds)) > 2
    assert {name: len(times) for name, times in seconds.items()} == {"a": 6, "b": 6, "c": 6}


def test_quick_calls_are_repeated(benchmark):
    calls = []
    benchmark.measure({"quick": lambda: calls.append(1)}, "cpu", rounds=1, warmup=1, at_least=1e9)
    assert len(calls) == 1 + 100


@pytest.mark.parametrize("arguments", [["--cases", "4d-plain-4"], ["--rounds", "0"], ["--device", "tpu"]])
def test_arguments_that_mean_nothing_are_refused(benchmark, arguments, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert arguments[0] in capsys.readouterr().err


def test_a_part_alone_is_measured_and_a_batch_is_moved_and_passed_on_as_it_was(benchmark):
    setup = benchmark.Setup("3d-plain-4", tiny=True)
    with benchmark.nnunet_environment(setup):
        made = {name: one() for name, one in benchmark.worker_batches(setup).items()}
    alone = made.pop("moves of a batch")
    assert [tuple(image.shape) for image in alone] == 2 * [(1, 4, 32, 32)]
    assert {name: batch["data"].shape[1] for name, batch in made.items()} == {
        **{"stock batch": 1, "batch, half are moved": 1, "batch, half are moved, and as it was": 2},
    }
    rows = benchmark.benchmark(setup, 1, False, ["batches"])
    assert {row.against for row in rows} == {"stock batch"} and len(rows) == 4
