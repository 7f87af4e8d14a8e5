"""What a user is told whose memory runs out in a student's training step."""

import pytest
import torch
from conftest import STUDENT, batch_of

from nnunet_shapekd.training.cost import PairCost, pair_cost
from nnunet_shapekd.training.memory import DeviceMemory, device_memory, is_out_of_memory, out_of_memory_message

GIB = 2**30
#: stock 8 GiB, student 10 GiB
PAIR = PairCost(1, 1, 100, 126, 80, 8 * GIB, 10 * GIB)
CPU_WORDS = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."


def message(gib: float | None = None, pair: PairCost | None = PAIR) -> str:
    memory = DeviceMemory("cuda:0", None if gib is None else int(gib * GIB))
    return out_of_memory_message("the step", pair, memory, "nnUNetv2_plan_experiment ...")


def fail_with(error: Exception):
    """A forward pre-hook that raises."""

    def hook(module, inputs):
        raise error

    return hook


def test_the_message_has_the_numbers_of_stock_pair_and_device():
    memory = DeviceMemory("cuda:0", 11 * GIB, GIB // 4, 9 * GIB)
    text = out_of_memory_message("the teacher's pass", PAIR, memory, "nnUNetv2_plan_experiment ...")
    for part in (
        "Out of memory in the teacher's pass.",
        "in float32",
        "stock nnU-Net 8.00 GiB, student with its teacher 10.00 GiB (1.25 x stock)",
        "cuda:0: 11.00 GiB in all, 256 MiB free, 9.00 GiB at this process's peak.",
        "smaller patches or batches: nnUNetv2_plan_experiment ...",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("gib", "verdict"),
    [
        (7.9, "stock nnU-Net itself does not fit: it is not the distillation"),
        (8, "stock nnU-Net fits, and the distillation's 2.00 GiB are too much"),
        (9.9, "stock nnU-Net fits, and the distillation's 2.00 GiB are too much"),
        (10, "both fit: see what other programs hold"),
    ],
)
def test_the_verdict_compares_estimates_with_all_the_device_has(gib, verdict):
    assert verdict in message(gib) and "nnUNetv2_plan_experiment" in message(gib)


def test_without_a_devices_memory_or_an_estimate_there_is_no_verdict():
    unknown, no_estimate = message(), message(8, pair=None)
    assert "cuda:0: its memory is not known" in unknown and "8.00 GiB, student with" in unknown
    assert "cannot be derived" in no_estimate and "cuda:0: 8.00 GiB in all" in no_estimate
    for text in (unknown, no_estimate):
        assert "By this estimate" not in text and "nnUNetv2_plan_experiment" in text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (MemoryError(), True),
        (RuntimeError(CPU_WORDS), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), False),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_that_say_that_memory_ran_out(error, expected):
    assert is_out_of_memory(error) is expected


def test_torchs_own_cpu_allocator_is_understood():
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**62, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_the_memory_of_the_cpu_is_the_machines_and_of_cuda_the_gpus(monkeypatch):
    cpu = device_memory(torch.device("cpu"))
    assert cpu.total_bytes is None or 0 < cpu.peak_bytes <= cpu.total_bytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2 * GIB, 8 * GIB))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 5 * GIB)
    assert device_memory(torch.device("cuda", 1)) == DeviceMemory("cuda:1", 8 * GIB, 2 * GIB, 5 * GIB)
    assert device_memory(torch.device("mps")) == DeviceMemory("mps")

    def unusable(device):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr(torch.cuda, "mem_get_info", unusable)
    assert device_memory(torch.device("cuda", 1)) == DeviceMemory("cuda:1")


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(CPU_WORDS), MemoryError()]
)
@pytest.mark.parametrize("network", ["teacher", "network"])
def test_a_step_that_runs_out_of_memory_says_where_and_what_the_pair_needs(ready, network, error):
    getattr(ready, network).register_forward_pre_hook(fail_with(error))
    with pytest.raises(torch.OutOfMemoryError) as caught:
        ready.train_step(batch_of(ready))
    assert caught.value.__cause__ is error
    text = str(caught.value)
    where = {"teacher": "the teacher's pass in a training step", "network": "the student's own part of a training step"}
    assert f"Out of memory in {where[network]} of {STUDENT} (batch size 4, patch size 64 x 64)." in text
    cost = pair_cost(
        type(ready), ready.teacher_class, ready.plans_manager, ready.configuration_manager, ready.dataset_json
    )
    mib = [f"{nbytes / 2**20:.0f} MiB" for nbytes in (cost.stock_peak_bytes, cost.student_peak_bytes)]
    assert f"stock nnU-Net {mib[0]}, student with its teacher {mib[1]} ({cost.memory_ratio:.2f} x stock)" in text
    assert "nnUNetv2_plan_experiment -d 27 -pl ExperimentPlanner -gpu_memory_target GB" in text
    assert "nnUNetv2_preprocess -d 27 -plans_name SMALLER -c 2d" in text


@pytest.mark.parametrize("network", ["teacher", "network"])
def test_a_tensor_larger_than_any_memory_is_explained_and_the_next_step_goes_on(ready, network):
    hook = getattr(ready, network).register_forward_pre_hook(lambda module, inputs: torch.empty(2**60))
    with pytest.raises(torch.OutOfMemoryError, match="What helps") as caught:
        ready.train_step(batch_of(ready))
    assert "allocate" in str(caught.value.__cause__)
    hook.remove()
    assert torch.isfinite(torch.as_tensor(ready.train_step(batch_of(ready))["distillation_loss"]))


@pytest.mark.parametrize("network", ["teacher", "network"])
@pytest.mark.parametrize("error", [RuntimeError("a shape does not fit"), ValueError("out of memory")])
def test_every_other_error_passes_as_it_is(ready, network, error):
    getattr(ready, network).register_forward_pre_hook(fail_with(error))
    with pytest.raises(type(error)) as caught:
        ready.train_step(batch_of(ready))
    assert caught.value is error


def test_what_each_gpu_has_to_do_is_what_counts(ready):
    ready.network.register_forward_pre_hook(fail_with(MemoryError()))
    messages = []
    for ready.batch_size in (4, 2):
        with pytest.raises(torch.OutOfMemoryError) as caught:
            ready.train_step(batch_of(ready))
        messages.append(str(caught.value))
    assert "batch size 2" in messages[1]
    estimates = [next(line for line in text.splitlines() if "Estimated" in line) for text in messages]
    assert estimates[0] != estimates[1]


def test_networks_of_which_no_estimate_can_be_made_are_explained_nevertheless(ready, monkeypatch):
    monkeypatch.setattr(type(ready), "build_network_architecture", None)
    error = MemoryError()
    ready.network.register_forward_pre_hook(fail_with(error))
    with pytest.raises(torch.OutOfMemoryError, match="cannot be derived") as caught:
        ready.train_step(batch_of(ready))
    assert caught.value.__cause__ is error
