"""What goes wrong on a GPU: a sentence says what to do, and afterwards the engine works, or says that it does not."""

import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.cuda_standin.conftest import FAIL, graph_of

from clapedge.engine import Engine
from clapedge.errors import ClapEdgeWarning, GpuLostError, GpuMemoryError, ProviderError
from clapedge.model import providers
from clapedge.model.gpu_tower import GpuAudioTower
from clapedge.model.providers import choose

CLIP = np.zeros((1, 1, 2, 4), np.float32), np.zeros(1, np.bool_)
LOST = "cuda*:700"
"""What a driver answers to everything after a kernel read or wrote where it may not."""

AT_OPENING = {
    "no GPU, says the driver": ("cuInit:100", ProviderError, "the NVIDIA driver sees no GPU; check nvidia-smi"),
    "a broken driver": ("cuInit:999", ProviderError, "the NVIDIA driver does not start (cuInit returned 999); check"),
    "no GPU, says the runtime": ("cuda[A-Z]*:100", ProviderError, "the NVIDIA driver sees no GPU; check nvidia-smi"),
    "an old driver": ("cuda[A-Z]*:35", ProviderError, "the NVIDIA driver is too old for this ONNX Runtime; update it"),
    "another GPU": (
        "cudaSetDevice:101",
        ProviderError,
        "no GPU of this number; check nvidia-smi and",
    ),
    "no memory": ("cudaMalloc:2", GpuMemoryError, "the memory of the GPU is full; end other programs on it"),
    "memory for the first size alone": ("cudaMalloc:2:2", GpuMemoryError, "the memory of the GPU is full; end other"),
    "memory without a graph": ("cudaGraphInstantiate:2", GpuMemoryError, "the memory of the GPU is full; end other"),
    "no memory for cuBLAS": ("cublasCreate:3", GpuMemoryError, "the memory of the GPU is full; end other programs"),
    "no code for the GPU": (
        "cudaLaunchKernel*:209,cuda*LastError:209",
        ProviderError,
        "holds no code for this GPU; install a build",
    ),
    "cuBLAS": ("cublas*gemm*:13", ProviderError, "CUBLAS failure 13: the function failed; use --provider cpu"),
    "a capture that is refused": (
        "cudaStreamBeginCapture:900",
        ProviderError,
        "spoilt a CUDA graph; use --provider",
    ),
    "a capture that is spoilt": ("cudaStreamEndCapture:901", ProviderError, "spoilt a CUDA graph; use --provider"),
    "a lost GPU": (
        "cudaLaunchKernel:719,cuda*Error:719",
        GpuLostError,
        "the GPU stopped working (cudaErrorLaunchFailure); start",
    ),
}


@pytest.fixture
def tower(tiny_tower: Path) -> Iterator[GpuAudioTower]:
    """Return an open tower."""
    tower = GpuAudioTower(tiny_tower, provider_config=choose("cuda"))
    yield tower
    tower.close()


@pytest.mark.parametrize("fault", AT_OPENING)
def test_a_gpu_that_cannot_be_opened_says_why_and_what_to_do(plant: Callable[[str], None], fault: str) -> None:
    planted, kind, sentence = AT_OPENING[fault]
    plant(planted)
    with pytest.raises(ProviderError) as caught:
        Engine.load(provider="cuda", precision="fp32")
    assert (type(caught.value), sentence in str(caught.value)) == (kind, True), str(caught.value)
    plant("")
    providers._cuda_unavailable_reason.cache_clear()
    with Engine.load(provider="cuda", precision="fp32", self_check=False) as engine:  # nothing is left of it
        assert engine.embed_audio([np.ones(48_000, np.float32)]).shape == (1, 256)


@pytest.mark.parametrize("fault", ["an old driver", "no memory", "a capture that is refused", "no code for the GPU"])
def test_auto_says_why_it_takes_the_cpu(plant: Callable[[str], None], fault: str) -> None:
    planted, _, sentence = AT_OPENING[fault]
    plant(planted)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ClapEdgeWarning)
        with Engine.load(precision="fp32") as engine:
            assert engine.provider_config.provider == "cpu"
    assert [sentence in str(warning.message) for warning in said].count(True) == 1


@pytest.mark.parametrize("planted", ["cudaMemcpy:2", "cudaGraphLaunch:2"])
def test_a_full_memory_is_told_and_the_tower_goes_on(
    tower: GpuAudioTower, plant: Callable[[str], None], planted: str
) -> None:
    plant(planted)
    for embed in (tower.embed, tower.shared.embed):
        with pytest.raises(GpuMemoryError, match="provider cuda failed: the memory of the GPU is full; end other"):
            embed(*CLIP)
    plant("")
    assert tower.embed(*CLIP).shape == tower.shared.embed(*CLIP).shape == (1, 4)


@pytest.mark.parametrize(
    "planted", [LOST, "cudaGraphLaunch:700", "cudaMemcpy:719", "cudaMemcpy:700:2", "cudaStreamSynchronize:999"]
)
def test_a_lost_gpu_is_told_to_everybody_who_waits_and_comes_later(
    tower: GpuAudioTower, plant: Callable[[str], None], planted: str
) -> None:
    plant(planted)
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(embed, *CLIP) for embed in (tower.embed, tower.shared.embed) * 4]
        for call in waiting:
            with pytest.raises(GpuLostError, match=r"the GPU stopped working \(CUDA failure \d+\); start this program"):
                call.result(60)
    plant("")
    with pytest.raises(GpuLostError, match=r"failed before and is closed: .* stopped working .*; start this program"):
        tower.embed(*CLIP)


AFTER_A_LOSS = """
import os, sys, warnings
import numpy as np
from clapedge.engine import Engine
from clapedge.errors import GpuLostError
warnings.simplefilter("ignore")
engine = Engine.load(provider="cuda", precision="fp32", self_check=False)  # the stand-in computes nothing
os.environ[{fail!r}] = {planted!r}
try:
    engine.embed_audio([np.ones(48_000, np.float32)])
except GpuLostError as error:
    print(error)
{end}
"""


@pytest.mark.parametrize("end", ["engine.close()", "del engine", "sys.exit(4)"])
def test_a_program_that_lost_its_gpu_ends_as_it_means_to(end: str) -> None:
    """ONNX Runtime calls std::terminate where it releases what it held on such a GPU."""
    script = AFTER_A_LOSS.format(fail=FAIL, planted=LOST, end=end)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False, text=True)
    assert (done.returncode, "the GPU stopped working" in done.stdout) == (4 if "exit" in end else 0, True), done.stderr


def opened_without(library: str, directory: Path, tower: Path) -> subprocess.CompletedProcess[str]:
    """Open a tower on the GPU in a process that finds all stand-ins but one."""
    elsewhere = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    if not subprocess.run(
        [sys.executable, "-c", f"__import__('ctypes').CDLL({library!r})"], env=elsewhere, check=False
    ).returncode:
        pytest.skip(f"this machine has a {library} that is not the stand-in's")
    shutil.copytree(os.environ["LD_LIBRARY_PATH"], directory)
    (directory / library).unlink()
    script = OPENED.format(tower=str(tower))
    environment = {**elsewhere, "LD_LIBRARY_PATH": str(directory)}
    return subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False, text=True)


OPENED = """
from clapedge.errors import ProviderError
from clapedge.model.gpu_tower import GpuAudioTower
from clapedge.model.providers import choose
try:
    GpuAudioTower({tower!r}, provider_config=choose("cuda"))
except ProviderError as error:
    print(error)
"""


@pytest.mark.parametrize("library", ["libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10"])
def test_a_missing_library_is_named(tmp_path: Path, tiny_tower: Path, library: str) -> None:
    done = opened_without(library, tmp_path / "rest", tiny_tower)
    assert done.stdout == (
        f"provider cuda did not start: the library {library} is missing; "
        "run: pip install 'clapedge[gpu]', or use --provider cpu\n"
    ), done.stderr


def test_a_missing_driver_is_named(tmp_path: Path, tiny_tower: Path) -> None:
    done = opened_without("libcuda.so.1", tmp_path / "rest", tiny_tower)
    found = 'no NVIDIA driver was found (libcuda.so.1); install it, or use provider="cpu"'
    assert found in done.stdout, done.stderr


def test_a_missing_cudnn_is_named_where_a_graph_needs_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["rows", "tokens"], ["x"]),
        helper.make_node("ReduceMean", ["x", "axes"], ["embeddings"], keepdims=0),
    ]
    graph = graph_of(nodes)
    graph.graph.initializer.append(helper.make_tensor("tokens", TensorProto.INT64, [3], [-1, 2, 4]))
    graph.graph.initializer.append(helper.make_tensor("axes", TensorProto.INT64, [1], [1]))
    onnx.save(graph, tmp_path / "audio.onnx")
    GpuAudioTower(tmp_path / "audio.onnx", provider_config=choose("cuda")).close()
    done = opened_without("libcudnn.so.9", tmp_path / "rest", tmp_path / "audio.onnx")
    assert done.stdout == (
        "provider cuda failed: cuDNN is missing, which this graph needs; "
        "run: pip install 'clapedge[gpu]', or use --provider cpu\n"
    ), done.stderr


@pytest.mark.filterwarnings("ignore:TensorRT builds")
def test_tensorrt_is_named_where_it_is_missing(tiny_tower: Path) -> None:
    with pytest.raises(ProviderError, match=r"TensorRT is missing \(libnvinfer\.so\.10\); run: pip install 'tensorrt"):
        GpuAudioTower(tiny_tower, provider_config=choose("tensorrt"))


def test_a_graph_that_a_gpu_runs_in_part_is_refused_with_the_operators_in_its_way(tmp_path: Path) -> None:
    string = helper.make_node("StringNormalizer", ["words"], ["normalised"])
    graph = graph_of([helper.make_node("MatMul", ["rows", "weights"], ["embeddings"]), string])
    graph.graph.input.append(helper.make_tensor_value_info("words", TensorProto.STRING, [1]))
    graph.graph.output.append(helper.make_tensor_value_info("normalised", TensorProto.STRING, [1]))
    onnx.save(graph, tmp_path / "audio.onnx")
    with pytest.raises(ProviderError, match=r"runs only part of the graph: 1 nodes .* \(1 StringNormalizer\); use"):
        GpuAudioTower(tmp_path / "audio.onnx", provider_config=choose("cuda"))
