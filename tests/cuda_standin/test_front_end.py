"""Log-mels on a GPU: what is captured, what is copied, and what happens where a GPU or a bundle cannot make them."""

import os
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.cuda_standin.calls import CAPTURE, REPLAY, Calls
from tests.cuda_standin.conftest import LOG

from clapedge.arrays import Float32Array
from clapedge.engine import Engine
from clapedge.errors import ClapEdgeWarning, ProviderError
from clapedge.features.front_end import FrontEnd
from clapedge.model import front_end_graph, gpu_memory
from clapedge.model.bundle import Bundle, Tensor, demo_directory, describe, write_manifest
from clapedge.model.gpu_memory import LENT_ROWS
from clapedge.model.gpu_tower import BUCKETS, GpuAudioTower
from clapedge.model.providers import Gpu, choose
from clapedge_export.front_end_graph import export_front_end

SAMPLE_RATE = 48_000
CLIP_BYTES = 4 * 480_000
LOG_MEL_BYTES = 4 * 4 * 1001 * 64
"""Of the four channels of the demo model, a fusion model."""
EMBEDDING_BYTES = 4 * 256
EVERY_CALL_OF_A_RUN = {"cudaMemcpy", "cudaStreamSynchronize", REPLAY}


def bundle_with(graph: onnx.ModelProto, directory: Path, shape: tuple[int | str, ...]) -> Path:
    """Write a bundle of the demo model with a front end for CUDA, which makes arrays of a shape."""
    shutil.copytree(demo_directory(), directory)
    onnx.save(graph, directory / "frontend.onnx")
    made = Tensor(name="log_mels", dtype="float32", shape=shape)
    entry = describe(directory, "frontend.onnx", role="frontend", providers=("cuda",), outputs=(made,))
    manifest = Bundle.open(directory).manifest
    write_manifest(directory, msgspec.structs.replace(manifest, files=(*manifest.files, entry)))
    return directory


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bundle with the front end that an export makes."""
    graph = export_front_end(Bundle.open(demo_directory()).manifest.front_end)
    return bundle_with(graph, tmp_path_factory.mktemp("front-end") / "bundle", ("batch", 4, 1001, 64))


@pytest.fixture
def engine(directory: Path) -> Iterator[Engine]:
    """Return an engine over it."""
    with Engine.load(directory, provider="cuda", precision="fp32", self_check=False) as engine:
        yield engine


def sound(seconds: float) -> Float32Array:
    """Return noise."""
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * SAMPLE_RATE)).astype(np.float32)


def test_it_is_captured_with_its_tower_before_the_first_clip_and_by_the_same_thread(directory: Path) -> None:
    calls = Calls(Path(os.environ[LOG]))
    with Engine.load(directory, provider="cuda", precision="fp32", self_check=False) as engine:
        assert engine.frontend == engine.provenance.frontend == "device"
        assert calls.counts()[CAPTURE] == 2 * len(BUCKETS)
        assert [call["bytes"] for call in calls.named("cudaHostRegister")] == [LENT_ROWS * CLIP_BYTES]
        since = Calls(Path(os.environ[LOG]))
        engine.embed_audio([sound(1)])
        engine.embed_stream(sound(35), window="slide", hop=5.0).collect()
        engine.embed_audio([sound(1)] * 20)
        assert set(since.counts()) == EVERY_CALL_OF_A_RUN
    assert len(calls.threads(CAPTURE, REPLAY, "cudaMemcpy", "cudaHostRegister", "cudaHostUnregister")) == 1
    assert not calls.held()["cudaHostRegister"]


def test_a_clip_costs_a_copy_of_its_samples_and_one_of_its_embedding(engine: Engine, calls: Calls) -> None:
    recording = engine.embed_stream(sound(10)).collect()
    assert recording.frontend == "device"
    assert calls.copied() == {"HtoD": CLIP_BYTES + 1, "DtoH": EMBEDDING_BYTES}  # one byte: it is not longer
    assert calls.counts()[REPLAY] == 2


def test_numpy_makes_them_where_that_is_asked_for(directory: Path) -> None:
    with Engine.load(directory, provider="cuda", precision="fp32", frontend="numpy", self_check=False) as engine:
        calls = Calls(Path(os.environ[LOG]))
        recording = engine.embed_stream(sound(10)).collect()
        assert (engine.frontend, recording.frontend) == ("numpy", "numpy")
        assert calls.copied() == {"HtoD": LOG_MEL_BYTES + 1, "DtoH": EMBEDDING_BYTES}
        assert calls.counts()[REPLAY] == 1


def test_a_fused_recording_takes_those_of_numpy_and_says_so(engine: Engine, calls: Calls) -> None:
    fused = engine.embed_stream(sound(25), window="fuse").collect()
    assert calls.copied() == {"HtoD": LOG_MEL_BYTES + 1, "DtoH": EMBEDDING_BYTES}
    labels = engine.embed_labels(["rain", "siren"])
    results = [engine.score(sound(25), labels, window=window).to_dict() for window in ("fuse", "first")]
    assert [result.get("frontend", "numpy") for result in results] == [fused.frontend, "device"] == ["numpy", "device"]


def test_auto_leaves_it_to_numpy_beside_a_gpu_that_is_slow_at_float64(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_end_graph, "describe_gpu", lambda _: Gpu("Stand-in L4", (8, 9), 1 << 34))
    with Engine.load(directory, provider="cuda", precision="fp32", self_check=False) as engine:
        assert engine.frontend == "numpy"
    with Engine.load(directory, provider="cuda", precision="fp32", frontend="device", self_check=False) as engine:
        assert engine.frontend == "device"


def test_a_bundle_without_one_takes_numpy_unless_the_gpu_is_asked_for(tmp_path: Path) -> None:
    with Engine.load(provider="cuda", precision="fp32", self_check=False) as engine:
        assert engine.frontend == "numpy"
    with pytest.raises(ProviderError, match=r'frontend="device" cannot be used: bundle .* holds no frontend file'):
        Engine.load(provider="cuda", precision="fp32", frontend="device", self_check=False)
    graph = export_front_end(FrontEnd(fusion=False))
    old = bundle_with(graph, tmp_path / "old", ("batch", 1001, 64))
    with Engine.load(old, provider="cuda", precision="fp32", self_check=False) as engine:
        assert engine.frontend == "numpy"
    with pytest.raises(ProviderError, match=r"does not make what its tower takes; export it again; use frontend="):
        Engine.load(old, provider="cuda", precision="fp32", frontend="device", self_check=False)


def test_one_that_a_gpu_cannot_run_is_named_and_auto_goes_on_without(tmp_path: Path) -> None:
    graph = export_front_end(Bundle.open(demo_directory()).manifest.front_end)
    graph.graph.node.append(helper.make_node("StringNormalizer", ["words"], ["normalised"]))
    graph.graph.input.append(helper.make_tensor_value_info("words", TensorProto.STRING, [1]))
    graph.graph.output.append(helper.make_tensor_value_info("normalised", TensorProto.STRING, [1]))
    directory = bundle_with(graph, tmp_path / "bundle", ("batch", 4, 1001, 64))
    with pytest.raises(ProviderError, match="runs only part of the graph: 1 nodes"):
        Engine.load(directory, provider="cuda", precision="fp32", frontend="device", self_check=False)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ClapEdgeWarning)
        with Engine.load(directory, provider="cuda", precision="fp32", self_check=False) as engine:
            assert (engine.frontend, engine.provider_config.provider) == ("numpy", "cuda")
    assert sum("log-mels are made on the CPU: " in str(warning.message) for warning in said) == 1


def test_memory_that_cannot_be_pinned_is_done_without(
    directory: Path, monkeypatch: pytest.MonkeyPatch, calls: Calls
) -> None:
    monkeypatch.setenv("CUDA_STANDIN_FAIL", "cudaHostRegister:2")
    with Engine.load(directory, provider="cuda", precision="fp32", self_check=False) as engine:
        assert engine.embed_audio([sound(1)] * 3).shape == (3, 256)
    assert not calls.named("cudaHostUnregister")


@pytest.fixture
def tiny_front_end(tmp_path: Path) -> Path:
    """Return a front end for the tiny tower: eight samples a clip."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [4], [-1, 1, 2, 4])
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["halves", "shape"], ["log_mels"]),
            helper.make_node("Mul", ["samples", "half"], ["halves"]),
        ][::-1],
        "front_end",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("log_mels", TensorProto.FLOAT, ["batch", 1, 2, 4])],
        [shape, helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "frontend.onnx"
    )
    return tmp_path / "frontend.onnx"


def test_calls_from_sixteen_threads_leave_a_gpu_as_the_first_left_it(
    tiny_tower: Path, tiny_front_end: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clapedge.model.gpu_session.LARGE_BYTES", 1)  # every row is copied from where it lies
    tower = GpuAudioTower(tiny_tower, provider_config=choose("cuda"), front_end=tiny_front_end)
    before = Calls(Path(os.environ[LOG]))
    tower.embed(np.zeros((1, 8), np.float32), np.zeros(1, np.bool_))
    first = before.held(), before.counts()[CAPTURE], set(before.counts())

    def work(thread: int) -> None:
        draw = np.random.default_rng(thread)
        for count in draw.integers(1, 41, 150):
            embed = tower.embed if draw.integers(2) else tower.shared.embed
            shape = (8,) if draw.integers(2) else (1, 2, 4)
            assert embed(np.zeros((count, *shape), np.float32), np.zeros(count, np.bool_)).shape == (count, 4)

    with ThreadPoolExecutor(16) as pool:
        for done in [pool.submit(work, thread) for thread in range(16)]:
            done.result()
    assert (before.held(), before.counts()[CAPTURE], set(before.counts())) == first
    assert len(before.threads(*EVERY_CALL_OF_A_RUN)) == 1
    assert sorted(tower._lent_rows._free) == list(range(gpu_memory.LENT_ROWS))
    tower.close()
