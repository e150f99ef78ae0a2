"""Sessions: where they run, with how many threads, and what is said when they do not start."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from clapedge.engine import Engine
from clapedge.errors import BundleError, ClapEdgeWarning, GpuLostError, ProviderError
from clapedge.model import providers, sessions
from clapedge.model.bundle import Bundle, demo_directory
from clapedge.model.gpu_session import DeviceSession
from clapedge.model.precision import preferred_variant
from clapedge.model.providers import ProviderConfig, choose
from clapedge.model.sessions import open_session, session_options, strays


@pytest.fixture(scope="module")
def model() -> Path:
    bundle = Bundle.open()
    return bundle.path(bundle.file("audio", "fp32"))


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, *, missing: str | None) -> None:
    """Pretend that ONNX Runtime has CUDA and the machine a GPU, but that a library is missing, or none."""
    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(providers, "_cuda_unavailable_reason", lambda: None)
    monkeypatch.setattr(sessions, "missing_library", lambda _: missing)


def test_threads_are_always_explicit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "usable_cores", lambda: 3)
    assert session_options(None, spinning=True, batch=None).intra_op_num_threads == 3
    assert session_options(2, spinning=True, batch=None).intra_op_num_threads == 2
    assert session_options(2, spinning=True, batch=None).inter_op_num_threads == 1


def test_idle_threads_spin_unless_they_are_told_not_to() -> None:
    entry = "session.intra_op.allow_spinning"
    assert session_options(1, spinning=False, batch=None).get_session_config_entry(entry) == "0"
    with pytest.raises(RuntimeError):  # not set: ONNX Runtime spins
        session_options(1, spinning=True, batch=None).get_session_config_entry(entry)


def test_the_engine_passes_spinning_on_to_both_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAPEDGE_CACHE", "")
    seen, real = [], sessions.session_options

    def note(threads: int | None, *, spinning: bool, batch: int | None) -> onnxruntime.SessionOptions:
        seen.append(spinning)
        return real(threads, spinning=spinning, batch=batch)

    monkeypatch.setattr(sessions, "session_options", note)
    with pytest.warns(ClapEdgeWarning), Engine.load(provider="cpu", threads=1, spinning=False) as engine:
        engine.embed_text(["rain"])
    assert seen == [False, False]


def test_a_batch_size_closes_the_symbolic_size_of_a_graph(model: Path) -> None:
    session = open_session(model, choose("cpu"), threads=1, batch=8)
    assert [node.shape[0] for node in session.get_inputs()] == [8, 8]


def test_nodes_on_another_provider_are_counted_by_operator(model: Path) -> None:
    options = session_options(1, spinning=True, batch=1)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    assert not strays(session, "CPUExecutionProvider")
    if not hasattr(session, "get_provider_graph_assignment_info"):
        pytest.skip(f"ONNX Runtime {onnxruntime.__version__} does not tell where a node runs")
    found = strays(session, "CUDAExecutionProvider")
    assert found["LayerNormalization"] > 10
    assert found["Gelu"] == found["Softmax"] > 0


def test_a_gpu_session_with_nodes_on_the_cpu_is_refused_with_their_operators(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    session = open_session(model, choose("cpu"), threads=1)
    monkeypatch.setattr(sessions, "strays", lambda *_: Counter(MatMulInteger=18, Pad=1))
    fault = sessions._stray_nodes(session, ProviderConfig("cuda"))
    assert "19 nodes would run elsewhere (18 MatMulInteger, 1 Pad)" in str(fault)


@pytest.mark.parametrize("entry", ["session.record_ep_graph_assignment_info", "session.disable_cpu_ep_fallback"])
def test_both_checks_of_where_nodes_run_are_set_in_every_version(
    monkeypatch: pytest.MonkeyPatch, model: Path, entry: str
) -> None:
    """The record is blind to half nodes in some versions, and the refusal names no node in any."""
    asked: list[onnxruntime.SessionOptions] = []

    def refuse(_: Path, options: onnxruntime.SessionOptions, **__: object) -> None:
        asked.append(options)
        raise RuntimeError("CUDA failure 999: unknown error")

    monkeypatch.setattr(sessions, "missing_library", lambda _: None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(GpuLostError):
        open_session(model, ProviderConfig("cuda", {"enable_cuda_graph": "1"}), batch=1)
    assert asked[0].get_session_config_entry(entry) == "1"


class WithoutGraph(onnxruntime.InferenceSession):  # type: ignore[misc]  # it publishes no types
    """A session on a GPU that lacks kernels: it refuses a CUDA graph, and runs its nodes on the CPU."""

    def __init__(self, model: Path, options: Any, *, providers: list[Any], **_: Any) -> None:  # noqa: ANN401
        if providers[0][1]["enable_cuda_graph"] == "1":
            raise RuntimeError("This session cannot use the graph capture feature as requested by the user  as all")
        super().__init__(model, options, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_a_refused_cuda_graph_is_told_by_the_nodes_in_its_way(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    if not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        pytest.skip(f"ONNX Runtime {onnxruntime.__version__} does not tell where a node runs")
    pretend_gpu(monkeypatch, missing=None)
    monkeypatch.setattr(onnxruntime, "InferenceSession", WithoutGraph)
    with pytest.raises(ProviderError, match=r"nodes would run elsewhere \(.* Gelu"):
        open_session(model, choose("cuda"), batch=1)


def test_openvino_gets_its_threads_by_an_option_of_its_own(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    asked: list[tuple[str, dict[str, str]]] = []

    class Session:
        def __init__(self, *_: object, providers: list[tuple[str, dict[str, str]]], **__: object) -> None:
            asked.extend(providers)

        def disable_fallback(self) -> None:
            pass

        def get_providers(self) -> list[str]:
            return [asked[-1][0]]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    open_session(model, ProviderConfig("openvino", {"device_type": "CPU"}), threads=3)
    open_session(model, ProviderConfig("openvino", {"num_of_threads": "2"}), threads=3)
    assert [options["num_of_threads"] for _, options in asked] == ["3", "2"]


def test_auto_takes_fp32_for_openvino_which_has_no_operators_for_int8() -> None:
    assert preferred_variant(Bundle.open(demo_directory()), "audio", "openvino") == "fp32"
    assert preferred_variant(Bundle.open(demo_directory()), "audio", "cpu") == "int8"


def test_a_gpu_that_fails_while_it_runs_is_an_error_of_the_provider(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    bound = DeviceSession(model, choose("cpu"), batch=1)
    said = "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 9"

    def fail(_: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(bound._graphs[0]._session, "run_with_iobinding", fail)
    with pytest.raises(ProviderError, match="provider cpu failed: the memory of the GPU is full"):
        bound.run({name: np.zeros(shape, np.float32) for name, shape in bound.input_shapes.items()})


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_onnx_runtime_does_not_take_is_an_error_and_not_a_fallback(
    monkeypatch: pytest.MonkeyPatch, model: Path
) -> None:
    pretend_gpu(monkeypatch, missing="libcublasLt.so.13: cannot open shared object file: No such file or directory")
    with pytest.raises(ProviderError) as caught:
        open_session(model, choose("cuda"), threads=1)
    assert str(caught.value) == (
        "provider cuda did not start: the library libcublasLt.so.13 is missing; "
        "run: pip install 'clapedge[gpu]', or use --provider cpu"
    )
    assert caught.value.exit_code == 4


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_runs_on_the_cpu_and_says_why_when_the_gpu_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, missing="libcudart.so.13: cannot open shared object file: No such file or directory")
    with pytest.warns(ClapEdgeWarning) as said, Engine.load(threads=1) as engine:
        assert engine.embed_audio([np.zeros(48_000, np.float32)]).shape[0] == 1
    assert (engine.provider_config.provider, engine.variant) == ("cpu", "int8")
    reasons = [str(warning.message) for warning in said if "libcudart.so.13" in str(warning.message)]
    assert len(reasons) == 1
    assert reasons[0].startswith("running on the CPU: provider cuda did not start")


def test_an_explicit_gpu_that_does_not_start_is_an_error_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, missing=None)
    with pytest.warns(), pytest.raises(ProviderError, match="provider cuda did not start"):
        Engine.load(provider="cuda", threads=1)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("libnvinfer.so.10: cannot open shared object file", "TensorRT is missing (libnvinfer.so.10)"),
        (
            "Could not find module 'C:\\x\\onnxruntime_providers_cuda.dll' (or one of its dependencies)",
            "cuda.dll is missing",
        ),
        ("cuda_call.cc CUDA failure 35: CUDA driver version is insufficient", "the NVIDIA driver is too old"),
        ("CUDA failure 2: out of memory ; GPU=0", "the memory of the GPU is full"),
        ("CUDA failure 36: API call is not supported in the installed CUDA driver", "the NVIDIA driver is too old"),
        ("CUDA failure 101: invalid device ordinal", "no GPU of this number; check nvidia-smi and"),
        ("CUDA failure 209: no kernel image is available", "holds no code for this GPU; install a build that does"),
        ("CUDA failure 900: operation not permitted", "spoilt a CUDA graph; use --provider-option"),
        ("CUDA failure 901: operation failed due to", "spoilt a CUDA graph; use --provider-option"),
        (
            "CUDA failure 719: unspecified launch failure",
            "the GPU stopped working (CUDA failure 719); start",
        ),
        ("CUBLAS failure 3: x", "the memory of the GPU is full"),
        (
            "Status Message: cuDNN is unavailable for CUDA: libcudnn.so: cannot open",
            "cuDNN is missing",
        ),
        ("CUDA failure 201: invalid device context", "CUDA failure 201: invalid device context; use --provider cpu"),
        ('Parse Unknown provider option: "nonsense".', "knows no option nonsense"),
        ("fallback to CPU EP has been explicitly disabled by the user", "cannot run every operator"),
    ],
)
def test_what_onnx_runtime_says_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, said: str, expected: str
) -> None:
    monkeypatch.setattr(sessions, "missing_library", lambda _: None)
    assert expected in str(sessions.explained(ProviderConfig("cuda"), "failed", said))


def test_a_missing_provider_library_is_named_by_the_systems_loader() -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("the installed ONNX Runtime brings the library")
    assert "onnxruntime_providers_cuda" in (sessions.missing_library("cuda") or "")


def test_a_file_that_is_no_graph_is_the_bundles_fault(tmp_path: Path) -> None:
    (tmp_path / "audio.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match="export it again"):
        open_session(tmp_path / "audio.onnx", choose("cpu"))


def test_bound_buffers_give_what_a_plain_run_gives(model: Path) -> None:
    bound = DeviceSession(model, choose("cpu"), batch=2)
    features = np.random.default_rng(0).normal(-40, 15, (2, 4, 1001, 64)).astype(np.float32)
    inputs = {"input_features": features, "is_longer": np.array([True, False])}
    plain = open_session(model, choose("cpu"), threads=1, batch=2)
    first = bound.run(inputs)
    bound.run({**inputs, "input_features": features[::-1]})
    np.testing.assert_array_equal(first, plain.run(None, inputs)[0])  # a copy: later runs do not change it
    assert bound.input_shapes == {"input_features": (2, 4, 1001, 64), "is_longer": (2,)}


def test_a_graph_of_a_fixed_batch_is_refused_for_another() -> None:
    bundle = Bundle.open()
    with pytest.raises(BundleError, match="takes batches of 1, not 8"):
        DeviceSession(bundle.path(bundle.file("audio", "int8")), choose("cpu"), batch=8)
