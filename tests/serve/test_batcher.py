"""Micro-batches: clips of several threads run together, and no result depends on who shared a batch."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.serve.staging import PATIENCE

from clapedge.arrays import BoolArray, Float32Array
from clapedge.errors import ProviderError
from clapedge.serve.batcher import Batcher
from clapedge.serve.metrics import Metrics


class Tower:
    """Embeds a clip to its mean and the batch to its size, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.begin = threading.Event()
        self.begin.set()

    def embed(self, features: Float32Array, is_longer: BoolArray) -> Float32Array:
        assert self.begin.wait(PATIENCE)
        self.batches.append(len(features))
        if np.isnan(features).any():
            raise ProviderError("no numbers; use another provider")
        return np.stack([features.mean(axis=(1, 2)), is_longer.astype(np.float32)], axis=1)


def clips(count: int, value: float) -> tuple[Float32Array, BoolArray]:
    """Return clips of one value, the odd ones longer."""
    return np.full((count, 2, 3), value, np.float32), np.arange(count) % 2 == 1


@pytest.fixture
def tower() -> Tower:
    """Return a tower."""
    return Tower()


def test_wishes_that_wait_together_run_together_and_get_their_own_rows(tower: Tower) -> None:
    metrics = Metrics()
    batcher = Batcher(tower, metrics, size=8, gather=0.2)
    tower.begin.clear()
    with ThreadPoolExecutor(6) as pool:
        wishes = [pool.submit(batcher.embed, *clips(count, float(count))) for count in (1, 2, 1, 3, 1, 2)]
        tower.begin.set()
        rows = [wish.result(PATIENCE) for wish in wishes]
    batcher.close()
    for row, count in zip(rows, (1, 2, 1, 3, 1, 2), strict=True):
        assert row[:, 0].tolist() == [float(count)] * count
        assert row[:, 1].tolist() == [float(index % 2) for index in range(count)]
    assert set(tower.batches) == {8}, "every batch has one size, so that a result does not depend on company"
    assert len(tower.batches) < 6
    assert metrics.registry.get_sample_value("clapedge_batch_clips_sum") == 10


def test_more_clips_than_a_batch_holds_run_in_several(tower: Tower) -> None:
    batcher = Batcher(tower, Metrics(), size=8, gather=0.0)
    features = np.arange(20, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)
    rows = batcher.embed(features, np.zeros(20, np.bool_))
    batcher.close()
    assert rows[:, 0].tolist() == list(range(20))
    assert tower.batches == [8, 8, 8]


def test_a_run_that_fails_fails_for_those_who_shared_it_alone(tower: Tower) -> None:
    batcher = Batcher(tower, Metrics(), size=8, gather=0.0)
    with pytest.raises(ProviderError, match="no numbers"):
        batcher.embed(*clips(1, np.nan))
    assert batcher.embed(*clips(1, 4.0))[0, 0] == 4.0
    batcher.close()


def test_what_waits_is_run_before_the_end(tower: Tower) -> None:
    batcher = Batcher(tower, Metrics(), size=8, gather=PATIENCE)
    with ThreadPoolExecutor(1) as pool:
        wish = pool.submit(batcher.embed, *clips(2, 1.0))
        while not batcher._waiting:
            pass
        batcher.close()
        assert wish.result(PATIENCE)[:, 0].tolist() == [1.0, 1.0]
