"""What the engine asks of a GPU: captures before the first clip, by one thread, and afterwards nothing but replays."""

import gc
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.cuda_standin.calls import CAPTURE, REPLAY, Calls
from tests.cuda_standin.conftest import DEVICES, LOG

from clapedge.arrays import BoolArray, Float32Array
from clapedge.engine import Engine
from clapedge.errors import AudioError
from clapedge.model import gpu_tower
from clapedge.model.gpu_tower import BUCKETS, SHARED_BATCH, GpuAudioTower
from clapedge.model.providers import choose
from clapedge.serve.metrics import Metrics
from clapedge.serve.models import Model

SAMPLE_RATE = 48_000
THREADS = 16
CALLS = 10_000
EVERY_CALL_OF_A_RUN = {"cudaMemcpy", "cudaStreamSynchronize", REPLAY}
"""Copies in, a replay, a copy out; nothing else may be asked of a GPU once a tower is open."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Return an engine with the demo model on a GPU."""
    with Engine.load(provider="cuda", precision="fp32", self_check=False) as engine:
        yield engine


def sound(seconds: float) -> Float32Array:
    """Return noise."""
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


def clips(count: int) -> tuple[Float32Array, BoolArray]:
    """Return clips for the tiny tower."""
    return np.zeros((count, 1, 2, 4), np.float32), np.zeros(count, np.bool_)


def test_every_size_is_captured_once_before_the_first_clip() -> None:
    calls = Calls(Path(os.environ[LOG]))
    with Engine.load(provider="cuda", precision="fp32", self_check=False) as opened:
        assert calls.counts()[CAPTURE] == len(BUCKETS)
        since = Calls(Path(os.environ[LOG]))
        for _ in range(3):
            opened.embed_audio([sound(1)])
            opened.embed_stream(sound(35), window="slide").collect()
            opened.embed_audio([sound(1)] * 20)
        assert set(since.counts()) == EVERY_CALL_OF_A_RUN
    assert len(calls.threads(CAPTURE, REPLAY, "cudaMemcpy", "cudaMalloc")) == 1


def test_ten_thousand_calls_from_sixteen_threads_leave_a_gpu_as_the_first_left_it(tiny_tower: Path) -> None:
    tower = GpuAudioTower(tiny_tower, provider_config=choose("cuda"))
    before = Calls(Path(os.environ[LOG]))
    tower.embed(*clips(1))
    first = before.held(), before.counts()[CAPTURE], set(before.counts())

    def work(thread: int) -> None:
        draw = np.random.default_rng(thread)
        for count in draw.integers(1, 41, CALLS // THREADS):
            embed = tower.embed if draw.integers(2) else tower.shared.embed
            assert embed(*clips(count)).shape == (count, 4)

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(work, thread) for thread in range(THREADS)]:
            done.result()
    assert (before.held(), before.counts()[CAPTURE], set(before.counts())) == first
    assert len(before.threads(*EVERY_CALL_OF_A_RUN)) == 1
    tower.close()


def test_recordings_of_one_clip_share_runs(engine: Engine, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_tower, "GATHER_SECONDS", 0.2)  # so that the front end of a slow machine comes in time
    recordings, workers = 24, 6
    with closing(engine.embed_many([sound(1)] * recordings, workers=workers)) as everything:
        assert sum(not isinstance(listened, AudioError) for listened in everything) == recordings
    assert calls.counts()[REPLAY] <= recordings // 2
    assert engine.embed_audio([sound(1)] * 20).shape[0] == 20


def test_sliding_windows_of_many_recordings_break_no_capture(engine: Engine, calls: Calls) -> None:
    recordings = [sound(seconds) for seconds in np.random.default_rng(0).integers(10, 60, 12)]
    for _ in range(3):
        with closing(engine.embed_many(recordings, workers=8, window="slide")) as everything:
            assert [type(listened).__name__ for listened in everything] == ["RecordingEmbeddings"] * len(recordings)
    assert not calls.counts()["refused"]
    assert not calls.counts()[CAPTURE]


def test_a_bundle_is_opened_while_another_one_answers(tiny_tower: Path, calls: Calls) -> None:
    answering = GpuAudioTower(tiny_tower, provider_config=choose("cuda"))
    opened = threading.Event()

    def answer() -> int:
        count = 0
        while not opened.is_set():
            count += len(answering.embed(*clips(1)))
        return count

    with ThreadPoolExecutor(2) as pool:
        answers = pool.submit(answer)
        try:
            for _ in range(20):
                GpuAudioTower(tiny_tower, provider_config=choose("cuda")).close()
        finally:
            opened.set()
        assert answers.result() > 0
    answering.close()
    assert not calls.counts()["refused"]


def test_a_closed_tower_gives_everything_back(tiny_tower: Path, calls: Calls) -> None:
    GpuAudioTower(tiny_tower, provider_config=choose("cuda")).close()  # what ONNX Runtime keeps for the process
    calls = Calls(Path(os.environ[LOG]))
    tower = GpuAudioTower(tiny_tower, provider_config=choose("cuda"))
    assert sum(calls.held().values()) > len(BUCKETS)
    tower.close()
    del tower
    gc.collect()
    assert not any(calls.held().values())


def test_the_number_of_a_gpu_counts(tiny_tower: Path, monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
    monkeypatch.setenv(DEVICES, "2")
    tower = GpuAudioTower(tiny_tower, provider_config=choose("cuda", options={"device_id": "1"}))
    tower.embed(*clips(1))
    tower.close()
    assert {call["device"] for call in calls.named("cudaMalloc")} == {1}


def test_the_service_shares_runs_and_counts_them(engine: Engine, calls: Calls) -> None:
    metrics = Metrics()
    model = Model("demo", engine, metrics)
    tower = model.tower(alone=True)
    warmed = metrics.registry.get_sample_value("clapedge_batch_clips_count")
    with ThreadPoolExecutor(4) as pool:
        calls = Calls(Path(os.environ[LOG]))
        features, is_longer = np.zeros((3, 4, 1001, 64), np.float32), np.zeros(3, np.bool_)
        done = [pool.submit(tower.embed, features, is_longer) for _ in range(4)]
        assert [len(rows.result()) for rows in done] == [3] * 4
    runs = calls.counts()[REPLAY]
    assert metrics.registry.get_sample_value("clapedge_batch_clips_count") == (warmed or 0) + runs
    assert -(-12 // SHARED_BATCH) <= runs <= 4
    model.close()
