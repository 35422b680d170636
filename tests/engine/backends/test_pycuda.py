"""pycuda on a stand-in that keeps its rules: contexts of threads, of several GPUs, and of other libraries."""

from __future__ import annotations

import numpy as np
import pytest

from modernrank import BackendError, ProviderError
from modernrank.backends.cuda.with_pycuda import PyCuda
from support.fake_pycuda import Context, FakePycuda, install
from support.threads import run_in_thread


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakePycuda:
    fake = FakePycuda()
    install(monkeypatch, fake)
    return fake


def test_a_gpu_is_described(driver: FakePycuda) -> None:
    cuda = PyCuda(1)
    assert (cuda.name, cuda.compute_capability, cuda.multiprocessors) == ("GPU 1", "9.0", 132)


def test_the_stand_in_aborts_as_pycuda_does(driver: FakePycuda) -> None:
    run_in_thread(driver.Context(0).push)
    assert driver.aborted


def test_a_thread_that_scored_can_end(driver: FakePycuda) -> None:
    cuda = PyCuda(0)

    def work() -> None:
        for _ in range(2):
            with cuda.active():
                cuda.free(cuda.allocate(8))

    run_in_thread(work)
    assert not driver.aborted


def test_a_thread_whose_batch_fails_can_end(driver: FakePycuda) -> None:
    cuda, failures = PyCuda(0), []

    def work() -> None:
        try:
            with cuda.active():
                raise BackendError("this batch fails")
        except BackendError as error:
            failures.append(error)

    run_in_thread(work)
    assert failures
    assert not driver.aborted


def test_each_gpu_gets_its_own_memory(driver: FakePycuda) -> None:
    first, second = PyCuda(0), PyCuda(1)
    with first.active():
        mine = first.allocate(8)
        with second.active():
            theirs = second.allocate(8)
            second.to_device(theirs, np.zeros(8, np.uint8), second.create_stream())
        first.to_device(mine, np.zeros(8, np.uint8), first.create_stream())
    assert (driver.memory[mine], driver.memory[theirs]) == (0, 1)
    assert not driver.stack.contexts


def test_a_context_of_another_library_is_put_aside_and_given_back(driver: FakePycuda) -> None:
    """As torch's, or that of ``pycuda.autoinit`` for the other GPU."""
    foreign = Context(0)
    driver.cuda_stack.append(foreign)
    cuda = PyCuda(1)
    with cuda.active():
        assert driver.memory[cuda.allocate(8)] == 1
    assert driver.cuda_stack == [foreign]


def test_what_a_thread_made_another_one_can_free(driver: FakePycuda) -> None:
    cuda, addresses = PyCuda(0), []

    def allocate() -> None:
        with cuda.active():
            addresses.append(cuda.allocate(8))

    run_in_thread(allocate)
    with cuda.active():
        cuda.free(addresses[0])


def test_pycudas_errors_are_ours(driver: FakePycuda) -> None:
    cuda = PyCuda(0)
    with pytest.raises(BackendError, match="mem_get_info"):
        cuda.memory()  # outside of a block there is no context
    with cuda.active():
        with pytest.raises(BackendError, match="--profile") as caught:
            cuda.allocate(2 * driver.total)
        assert caught.value.details["requested"] == 2 * driver.total
    with pytest.raises(ProviderError) as refused:
        PyCuda(2)
    assert refused.value.details == {"device": 2, "count": 2}
