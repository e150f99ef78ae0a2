"""Fixtures of tests that run ONNX Runtime's CUDA provider over stand-ins of NVIDIA's libraries."""

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from tests.cuda_standin.calls import Calls

from clapedge.errors import ClapEdgeWarning
from clapedge.model import providers
from clapedge.model.bundle import Bundle, demo_directory

LOG = "CUDA_STANDIN_LOG"
FAIL = "CUDA_STANDIN_FAIL"
DEVICES = "CUDA_STANDIN_DEVICES"

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the stand-ins where the process was not started over them."""
    if LOG in os.environ:
        return
    skip = pytest.mark.skip(reason="needs stand-ins of NVIDIA's libraries: make test-cuda-standin")
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Leave out what is said of the demo model, and forget what the driver said and what was opened in another test."""
    gc.collect()
    providers._cuda_unavailable_reason.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClapEdgeWarning)
        yield
    providers._cuda_unavailable_reason.cache_clear()


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep what a stand-in does not reproduce out of the cache of this machine, and of the next test."""
    monkeypatch.setenv("CLAPEDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def calls() -> Calls:
    """Return what is asked of NVIDIA's libraries from now on."""
    return Calls(Path(os.environ[LOG]))


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what makes calls fail from now on, as PATTERN:CODE[:N], see standin.h; an empty text heals them."""
    return lambda failures: monkeypatch.setenv(FAIL, failures)


@pytest.fixture(scope="session")
def demo_tower() -> Path:
    """Return the audio tower of the demo model."""
    bundle = Bundle.open(demo_directory())
    return bundle.path(bundle.file("audio", "fp32"))


@pytest.fixture(scope="session")
def tiny_tower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a graph with the inputs and output of a tower, and clips of 1 × 2 × 4 numbers: a copy costs nothing."""
    path = tmp_path_factory.mktemp("tiny") / "audio.fp32.onnx"
    onnx.save(graph_of([helper.make_node("MatMul", ["rows", "weights"], ["embeddings"])]), path)
    return path


def graph_of(nodes: list[onnx.NodeProto]) -> onnx.ModelProto:
    """Return a tower that flattens its clips to `rows` and goes on with some nodes to `embeddings`."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 8])
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [8, 4], [0.5] * 32)
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["input_features", "shape"], ["rows"]), *nodes],
        "tower",
        [helper.make_tensor_value_info("input_features", TensorProto.FLOAT, ["batch", 1, 2, 4])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", 4])],
        [shape, weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
