import multiprocessing
import os

import pytest

from nnunet_shapekd.files.parallel import map_in_processes


def square(item: int) -> tuple[int, int]:
    return item * item, os.getpid()


def die(item: int) -> int:
    os._exit(item)


@pytest.mark.parametrize(("items_per_worker", "here"), [(4, True), (3, False)])
def test_results_keep_their_order_and_workers_start_only_where_they_pay(items_per_worker, here) -> None:
    found = map_in_processes(square, range(6), 2, "Squaring", items_per_worker)
    assert [result for result, _ in found] == [0, 1, 4, 9, 16, 25]
    assert {pid == os.getpid() for _, pid in found} == {here}


def test_a_worker_that_dies_is_an_error_not_a_hang() -> None:
    with pytest.raises(ValueError, match="--processes 1"):
        map_in_processes(die, range(60), 2, "Dying", 30)
    assert not multiprocessing.active_children()
