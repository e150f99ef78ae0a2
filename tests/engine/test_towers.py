"""Towers: which batches clips are run in, and that none depends on its neighbours."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clapedge.errors import BundleError, ProviderError
from clapedge.model import towers
from clapedge.model.bundle import Bundle, demo_directory
from clapedge.model.gpu_session import DeviceSession
from clapedge.model.providers import ProviderConfig, choose
from clapedge.model.towers import BUCKETS, AudioTower, TextTower, split


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{}", b"no JSON"])
def test_a_tokenizer_that_is_none_is_one_line(content: bytes) -> None:
    bundle = Bundle.open(demo_directory())
    path = bundle.path(bundle.file("text", "fp32"))
    with pytest.raises(BundleError, match=r"the tokenizer beside .* is none .*; copy the bundle again"):
        TextTower(path, content, max_tokens=77)


@pytest.mark.parametrize(
    ("count", "batches"),
    [
        (0, []),
        (1, [1]),
        (3, [1, 1, 1]),
        (4, [8]),
        (9, [8, 1]),
        (15, [8, 8]),
        (16, [32]),
        (39, [32, 8]),
        (128, [32, 32, 32, 32]),
    ],
)
def test_a_batch_is_taken_if_half_of_it_is_filled(count: int, batches: list[int]) -> None:
    assert [batch for _, _, batch in split(count)] == batches


@given(st.integers(0, 500))
def test_every_clip_is_run_once_and_in_order(count: int) -> None:
    runs = list(split(count))
    assert [clip for start, stop, _ in runs for clip in range(start, stop)] == list(range(count))
    assert all(batch in BUCKETS and batch <= 2 * (stop - start) <= 2 * batch for start, stop, batch in runs)


@pytest.fixture
def device_tower(monkeypatch: pytest.MonkeyPatch) -> AudioTower:
    """Return a tower that goes the way of a GPU, on the CPU: buckets of 1 and 2, bound buffers."""

    def on_cpu(model: Path, _plan: ProviderConfig, *, batch: int) -> DeviceSession:
        return DeviceSession(model, choose("cpu"), batch=batch)

    monkeypatch.setattr(towers, "DeviceSession", on_cpu)
    monkeypatch.setattr(towers, "split", lambda count: split(count, (2, 1)))
    bundle = Bundle.open()
    return AudioTower(bundle.path(bundle.file("audio", "fp32")), provider_config=ProviderConfig("cuda"))


def test_a_device_gives_each_clip_what_it_gives_it_alone(device_tower: AudioTower) -> None:
    features = np.random.default_rng(1).normal(-40, 15, (3, 4, 1001, 64)).astype(np.float32)
    is_longer = np.array([True, False, True])
    together = device_tower.embed(features, is_longer)
    swapped = device_tower.embed(features[[0, 2, 1]], is_longer[[0, 2, 1]])
    np.testing.assert_array_equal(together[0], swapped[0])  # beside another neighbour
    alone = AudioTower(device_tower._model).embed(features, is_longer)
    np.testing.assert_allclose(together, alone, atol=2e-6)  # another batch size may sum in another order


def test_embeddings_that_are_no_numbers_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = Bundle.open()
    tower = AudioTower(bundle.path(bundle.file("audio", "fp32")))
    monkeypatch.setattr(tower, "_run", lambda *_: np.full((1, 256), np.nan, np.float32))
    with pytest.raises(ProviderError, match=r"audio\.fp32\.onnx gives no numbers on cpu"):
        tower.embed(np.zeros((1, 4, 1001, 64), np.float32), np.zeros(1, bool))


def test_a_tower_opens_one_session_a_batch_size(device_tower: AudioTower) -> None:
    assert device_tower.channels == 4
    assert list(device_tower._on_device) == [1]
    features, is_longer = np.zeros((2, 4, 1001, 64), np.float32), np.zeros(2, bool)
    device_tower.embed(features, is_longer)
    device_tower.embed(features, is_longer)
    assert sorted(device_tower._on_device) == [1, 2]
