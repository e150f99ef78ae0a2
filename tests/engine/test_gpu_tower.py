"""The tower on a GPU: one thread that runs everything, in which sizes, and that no clip depends on its neighbours."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clapedge.arrays import BoolArray, Float32Array
from clapedge.errors import GpuLostError, GpuMemoryError, ProviderError, UsageError
from clapedge.model import gpu_tower
from clapedge.model.bundle import Bundle
from clapedge.model.gpu_session import DeviceSession, Inputs
from clapedge.model.gpu_tower import BUCKETS, COSTS, SHARED_BATCH, GpuAudioTower, split
from clapedge.model.providers import ProviderConfig, choose
from clapedge.model.towers import AudioTower

PATIENCE = 60.0
"""Seconds that nothing in these tests takes."""


class Session:
    """Embeds a clip to its mean and whether it is longer; remembers its runs and the threads that touch it."""

    runs: list[tuple[int, int]]
    """Batch size and rows of each run of all sessions."""
    threads: set[int]
    begin: threading.Event
    failures: list[Exception]

    def __init__(self, _model: Path, _provider_config: ProviderConfig, *, batch: int, front_end: Path | None) -> None:
        assert front_end is None
        self._batch = batch
        self.threads.add(threading.get_ident())
        self.input_shapes = {"input_features": (batch, 2, 3), "is_longer": (batch,)}

    def close(self) -> None:
        self.threads.add(threading.get_ident())

    def run(self, *parts: Inputs) -> Float32Array:
        self.threads.add(threading.get_ident())
        assert self.begin.wait(PATIENCE)
        features = np.concatenate([part["input_features"] for part in parts])
        is_longer = np.concatenate([part["is_longer"] for part in parts])
        self.runs.append((self._batch, len(features)))
        if self.failures:
            raise self.failures.pop()
        return np.stack([features.mean(axis=(1, 2)), is_longer.astype(np.float32)], axis=1)


@pytest.fixture(autouse=True)
def _sessions() -> None:
    """Begin without runs and failures."""
    Session.runs, Session.threads, Session.failures, Session.begin = [], set(), [], threading.Event()
    Session.begin.set()


@pytest.fixture
def tower(monkeypatch: pytest.MonkeyPatch) -> GpuAudioTower:
    """Return a tower over sessions that are none, in which shared runs wait as long as it takes them to fill."""
    monkeypatch.setattr(gpu_tower, "DeviceSession", Session)
    monkeypatch.setattr(gpu_tower, "GATHER_SECONDS", 0.2)
    return GpuAudioTower("audio.onnx", provider_config=ProviderConfig("cuda"))


def clips(count: int, value: float) -> tuple[Float32Array, BoolArray]:
    """Return clips of one value, the odd ones longer."""
    return np.full((count, 2, 3), value, np.float32), np.arange(count) % 2 == 1


@pytest.mark.parametrize(
    ("count", "batches"),
    [
        (0, []),
        (1, [1]),
        (2, [1, 1]),
        (3, [8]),
        (8, [8]),
        (9, [8, 1]),
        (10, [8, 1, 1]),
        (11, [8, 8]),
        (16, [8, 8]),
        (25, [32]),
        (33, [32, 1]),
        (40, [32, 8]),
        (128, [32, 32, 32, 32]),
    ],
)
def test_clips_are_run_in_the_sizes_that_cost_least(count: int, batches: list[int]) -> None:
    assert [batch for _, _, batch in split(count)] == batches


@given(
    st.integers(0, 60),
    st.dictionaries(st.integers(1, 20), st.floats(0.1, 50), max_size=2),
    st.floats(0.1, 50),
)
def test_no_other_choice_of_sizes_costs_less_and_every_clip_is_run_once(
    count: int, others: dict[int, float], one: float
) -> None:
    costs = {**others, 1: one}
    runs = list(split(count, costs))
    assert [clip for start, stop, _ in runs for clip in range(start, stop)] == list(range(count))
    assert all(0 < stop - start <= batch for start, stop, batch in runs)
    numbers = product(*(range(-(-count // batch) + 1) for batch in costs))
    least = min(
        sum(number * cost for number, cost in zip(chosen, costs.values(), strict=True))
        for chosen in numbers
        if sum(number * batch for number, batch in zip(chosen, costs, strict=True)) >= count
    )
    assert sum(costs[batch] for _, _, batch in runs) == pytest.approx(least)


def test_every_size_is_opened_before_the_first_clip_and_by_the_thread_that_runs_it(tower: GpuAudioTower) -> None:
    assert sorted(tower._sessions) == sorted(BUCKETS) == sorted(COSTS)
    with ThreadPoolExecutor(8) as pool:
        calls = [
            pool.submit(embed, *clips(count, 1.0))
            for count in (1, 2, 40)
            for embed in (tower.embed, tower.shared.embed)
        ]
        for call in calls:
            call.result(PATIENCE)
    tower.close()
    assert len(Session.threads) == 1
    assert Session.threads != {threading.get_ident()}


def test_a_call_of_its_own_runs_alone_in_the_sizes_that_its_clips_ask_for(tower: GpuAudioTower) -> None:
    features = np.arange(41, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    rows = tower.embed(features, np.arange(41) % 2 == 1)
    assert rows[:, 0].tolist() == list(range(41))
    assert rows[:, 1].tolist() == [index % 2 for index in range(41)]
    assert Session.runs == [(32, 32), (8, 8), (1, 1)]
    tower.close()


def test_clips_that_wait_together_run_together_and_get_their_own_rows(tower: GpuAudioTower) -> None:
    observed: list[int] = []
    tower.shared.observe = observed.append
    Session.begin.clear()
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(tower.shared.embed, *clips(count, float(count))) for count in (1, 2, 1, 3, 1, 2)]
        Session.begin.set()
        rows = [call.result(PATIENCE) for call in calls]
    tower.close()
    for row, count in zip(rows, (1, 2, 1, 3, 1, 2), strict=True):
        assert row[:, 0].tolist() == [float(count)] * count
        assert row[:, 1].tolist() == [float(index % 2) for index in range(count)]
    assert {batch for batch, _ in Session.runs} == {SHARED_BATCH}, "one size, whoever shares a run"
    assert observed == [count for _, count in Session.runs]
    assert (len(observed) < 6, sum(observed)) == (True, 10)


def test_more_clips_than_a_shared_run_holds_take_several(tower: GpuAudioTower) -> None:
    features = np.arange(20, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    rows = tower.shared.embed(features, np.zeros(20, np.bool_))
    assert rows[:, 0].tolist() == list(range(20))
    assert Session.runs == [(8, 8), (8, 8), (8, 4)]
    tower.close()


def test_a_run_that_is_full_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_tower, "DeviceSession", Session)
    monkeypatch.setattr(gpu_tower, "GATHER_SECONDS", 2 * PATIENCE)
    tower = GpuAudioTower("audio.onnx", provider_config=ProviderConfig("cuda"))
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(tower.shared.embed, *clips(4, 1.0)) for _ in range(2)]
        assert [len(call.result(PATIENCE)) for call in calls] == [4, 4]
    tower.close()


def test_numbers_that_are_none_are_an_error_for_their_own_caller_alone(tower: GpuAudioTower) -> None:
    Session.begin.clear()
    with ThreadPoolExecutor(2) as pool:
        bad, good = (pool.submit(tower.shared.embed, *clips(1, value)) for value in (np.nan, 4.0))
        Session.begin.set()
        assert good.result(PATIENCE)[0, 0] == 4.0
        with pytest.raises(ProviderError, match=r"audio\.onnx gives no numbers on cuda; use --precision fp32"):
            bad.result(PATIENCE)
    assert Session.runs == [(8, 2)]
    tower.close()


@pytest.mark.parametrize("kind", [GpuMemoryError, ZeroDivisionError])
def test_a_run_that_fails_fails_for_those_who_shared_it_alone(tower: GpuAudioTower, kind: type[Exception]) -> None:
    Session.failures = [kind("once")]
    Session.begin.clear()
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(tower.shared.embed, *clips(4, 1.0)) for _ in range(2)]
        Session.begin.set()
        for call in calls:
            with pytest.raises(kind, match="once"):
                call.result(PATIENCE)
    assert tower.shared.embed(*clips(1, 4.0))[0, 0] == 4.0
    assert tower.embed(*clips(1, 5.0))[0, 0] == 5.0
    tower.close()


@pytest.mark.parametrize("kind", [ProviderError, GpuLostError])
def test_a_gpu_that_failed_is_not_touched_again_and_everybody_is_told(
    tower: GpuAudioTower, kind: type[ProviderError]
) -> None:
    Session.failures = [kind("provider cuda failed: it is gone; start this program again")]
    Session.begin.clear()
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(embed, *clips(1, 1.0)) for embed in (tower.embed, tower.shared.embed) * 2]
        Session.begin.set()
        for call in calls:
            with pytest.raises(kind, match="it is gone; start this program again"):
                call.result(PATIENCE)
    assert len(Session.runs) == 1
    with pytest.raises(kind, match="failed before and is closed: provider cuda failed: it is gone; start this program"):
        tower.embed(*clips(1, 1.0))
    tower.close()


def test_a_tower_whose_last_session_does_not_open_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class Last(Session):
        def __init__(self, model: Path, provider_config: ProviderConfig, *, batch: int, front_end: Path | None) -> None:
            super().__init__(model, provider_config, batch=batch, front_end=front_end)
            if batch == BUCKETS[-1]:
                raise GpuMemoryError("the memory of the GPU is full; end other programs on it")

    monkeypatch.setattr(gpu_tower, "DeviceSession", Last)
    with pytest.raises(GpuMemoryError, match="end other programs"):
        GpuAudioTower("audio.onnx", provider_config=ProviderConfig("cuda"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("clapedge-gpu")]


def test_what_waits_is_run_before_the_end_and_nothing_after_it(tower: GpuAudioTower) -> None:
    Session.begin.clear()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(embed, *clips(2, 1.0)) for embed in (tower.embed, tower.shared.embed)]
        while tower.shared._joined is None:
            pass
        end = pool.submit(tower.close)
        while not tower._closed:
            pass
        Session.begin.set()
        assert [call.result(PATIENCE)[:, 0].tolist() for call in waiting] == [[1.0, 1.0]] * 2
        end.result(PATIENCE)
    assert not tower._sessions
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("clapedge-gpu")]
    for embed in (tower.embed, tower.shared.embed):
        with pytest.raises(UsageError, match="is closed; load the engine again"):
            embed(*clips(1, 1.0))
    tower.close()  # once more changes nothing


@pytest.fixture
def tower_on_cpu(monkeypatch: pytest.MonkeyPatch) -> GpuAudioTower:
    """Return a tower that goes the way of a GPU, on the CPU: sizes of 1 and 2, bound buffers."""

    def on_cpu(model: Path, _provider_config: ProviderConfig, *, batch: int, front_end: Path | None) -> DeviceSession:
        return DeviceSession(model, choose("cpu"), batch=batch, front_end=front_end)

    monkeypatch.setattr(gpu_tower, "DeviceSession", on_cpu)
    monkeypatch.setattr(gpu_tower, "BUCKETS", (1, 2))
    monkeypatch.setattr(gpu_tower, "SHARED_BATCH", 2)
    monkeypatch.setattr(gpu_tower, "split", lambda count: split(count, {1: 1.0, 2: 1.5}))
    bundle = Bundle.open()
    return GpuAudioTower(bundle.path(bundle.file("audio", "fp32")), provider_config=ProviderConfig("cuda"))


def test_a_device_gives_each_clip_what_it_gives_it_alone(tower_on_cpu: GpuAudioTower) -> None:
    assert tower_on_cpu.channels == 4
    features = np.random.default_rng(1).normal(-40, 15, (3, 4, 1001, 64)).astype(np.float32)
    is_longer = np.array([True, False, True])
    together = tower_on_cpu.embed(features, is_longer)
    swapped = tower_on_cpu.embed(features[[0, 2, 1]], is_longer[[0, 2, 1]])
    np.testing.assert_array_equal(together[0], swapped[0])  # beside another neighbour
    shared = tower_on_cpu.shared.embed(features, is_longer)
    np.testing.assert_array_equal(together[:2], shared[:2])  # one size, whether others might join or not
    alone = tower_on_cpu.shared.embed(features[:1], is_longer[:1])
    np.testing.assert_array_equal(together[0], alone[0])  # beside what an earlier run left
    plain = AudioTower(tower_on_cpu._model).embed(features, is_longer)
    np.testing.assert_allclose(together, plain, atol=2e-6)  # another batch size may sum in another order
    np.testing.assert_allclose(shared, plain, atol=2e-6)
    tower_on_cpu.close()
