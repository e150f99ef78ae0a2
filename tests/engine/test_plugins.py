"""Plug-ins of ONNX Runtime: loaded once, on a device of theirs or not at all; a stand-in takes the library's place."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

from clapedge import Bundle, ClapEdgeWarning, Engine, ProviderError
from clapedge.errors import ProviderWarning
from clapedge.model import plugins, sessions
from clapedge.model.bundle import demo_directory
from clapedge.model.precision import preferred_variant
from clapedge.model.providers import Provider, ProviderConfig, choose
from clapedge.model.sessions import open_session

OPENVINO = "OpenVINOExecutionProvider"
PAIR: tuple[Provider, Provider] = ("openvino", "cpu")


def offered(name: str, kind: str) -> SimpleNamespace:
    """Return a device as ONNX Runtime describes it."""
    return SimpleNamespace(ep_name=name, device=SimpleNamespace(type=SimpleNamespace(name=kind)), ep_metadata={})


class Runtime:
    """ONNX Runtime as far as plug-ins are concerned: what it was asked, and what it has."""

    def __init__(self) -> None:
        """Begin with the CPU alone."""
        self.brings = [offered(OPENVINO, "CPU"), offered(OPENVINO, "GPU"), offered(f"{OPENVINO}.AUTO", "CPU")]
        self.devices = [offered("CPUExecutionProvider", "CPU")]
        self.registered: list[str] = []
        self.attached: list[tuple[Any, dict[str, str]]] = []
        self.first = OPENVINO

    def register(self, _name: str, path: str) -> None:
        """Load a library."""
        if "damaged" in path:
            raise RuntimeError("it has no CreateEpFactories\n")
        self.registered.append(path)
        self.devices += self.brings


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """Put a stand-in into the place of what loads plug-ins, and of sessions."""
    fake = Runtime()

    class Options(onnxruntime.SessionOptions):  # type: ignore[misc]  # it has no types
        def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
            (device,) = devices
            fake.attached.append((device, options))

    class Session:
        def __init__(self, _model: Path, _options: Options, **given: object) -> None:
            assert "providers" not in given

        def disable_fallback(self) -> None:
            pass

        def get_providers(self) -> list[str]:
            return [fake.first, "CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", fake.register, raising=False)
    monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda: list(fake.devices), raising=False)
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", SimpleNamespace(get_library_path=lambda: "/ep/lib.so"))
    plugins._register.cache_clear()
    yield fake
    plugins._register.cache_clear()


@pytest.fixture
def model() -> Path:
    """Return a graph."""
    return demo_directory() / "audio.fp32.onnx"


def test_openvinos_plug_in_is_loaded_once_and_computes_in_float32(runtime: Runtime, model: Path) -> None:
    for _ in range(2):
        config = choose("openvino")
        assert config.is_plugin
        assert config.onnx_runtime_name == OPENVINO
        open_session(model, config, threads=3)
    assert runtime.registered == ["/ep/lib.so"]
    device, options = runtime.attached[0]
    assert (device.ep_name, device.device.type.name) == (OPENVINO, "CPU")
    expected = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "3", "NUM_STREAMS": "1"}
    assert json.loads(options.pop("load_config")) == {"CPU": expected}
    assert options == {}


def test_options_choose_the_device_and_reach_the_plug_in(runtime: Runtime, model: Path) -> None:
    own = '{"GPU": {"INFERENCE_PRECISION_HINT": "f16"}}'
    open_session(model, choose("openvino", options={"device_type": "gpu", "load_config": own}))
    device, options = runtime.attached[0]
    assert device.device.type.name == "GPU"
    assert options == {"load_config": own}


def test_an_option_that_openvinos_plug_in_would_pass_over_is_refused(runtime: Runtime, model: Path) -> None:
    with pytest.raises(ProviderError, match=r"has no option num_of_threads; put .* into load_config"):
        open_session(model, choose("openvino", options={"num_of_threads": "2"}))
    assert runtime.attached == []


def test_a_machine_without_a_device_for_it_is_an_error_with_the_reason(runtime: Runtime) -> None:
    runtime.brings = []
    with pytest.raises(ProviderError, match=r"provider openvino cannot be used: .*offers nothing .*Intel's") as caught:
        choose("openvino")
    assert caught.value.exit_code == 4
    plugins._register.cache_clear()
    runtime.brings = [offered(OPENVINO, "CPU")]
    with pytest.raises(ProviderError, match=rf"offers {OPENVINO} on CPU on this machine, not {OPENVINO} on NPU"):
        choose("openvino", options={"device_type": "NPU"})


@pytest.mark.parametrize(
    ("provider", "package"),
    [
        ("openvino", "onnxruntime-ep-openvino"),
        ("qnn", "onnxruntime-qnn"),
        ("tensorrt-rtx", "onnxruntime-ep-nv-tensorrt-rtx"),
        ("webgpu", "onnxruntime-ep-webgpu"),
    ],
)
@pytest.mark.usefixtures("runtime")
def test_a_plug_in_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, provider: Provider, package: str
) -> None:
    monkeypatch.setitem(sys.modules, plugins.PLUGINS[provider].module, None)
    with pytest.raises(ProviderError, match=f"provider {provider} cannot be used: .*pip install {package}"):
        choose(provider)


def test_any_library_comes_in_by_the_same_door(runtime: Runtime, model: Path) -> None:
    runtime.brings, runtime.first = [offered("OtherExecutionProvider", "NPU")], "OtherExecutionProvider"
    config = choose("plugin", options={"library": "/opt/libother.so", "speed": "high"})
    open_session(model, config)
    assert runtime.registered == ["/opt/libother.so"]
    assert runtime.attached == [(runtime.devices[-1], {"speed": "high"})]
    assert config.onnx_runtime_name == "OtherExecutionProvider"
    with pytest.raises(ProviderError, match=r'its library is not named; add provider_options=\{"library"'):
        choose("plugin")


def test_a_library_of_several_providers_is_asked_for_one_by_name(runtime: Runtime, model: Path) -> None:
    runtime.first = f"{OPENVINO}.AUTO"
    open_session(model, choose("openvino", options={"ep_name": f"{OPENVINO}.AUTO"}), threads=1)
    assert runtime.attached[0][0].ep_name == f"{OPENVINO}.AUTO"


@pytest.mark.usefixtures("runtime")
def test_a_library_that_cannot_be_loaded_is_said_in_one_line() -> None:
    with pytest.raises(ProviderError, match=r"/opt/damaged\.so cannot be loaded .*CreateEpFactories\)") as caught:
        choose("qnn", options={"library": "/opt/damaged.so"})
    assert "\n" not in str(caught.value)


def test_a_plug_in_that_the_program_loaded_already_is_used(runtime: Runtime, model: Path) -> None:
    runtime.devices.append(offered("QNNExecutionProvider", "NPU"))
    runtime.first = "QNNExecutionProvider"
    open_session(model, choose("qnn"))
    assert runtime.registered == []


def test_a_session_that_runs_elsewhere_is_an_error(runtime: Runtime, model: Path) -> None:
    runtime.first = "CPUExecutionProvider"
    with pytest.raises(ProviderError, match="ONNX Runtime took CPUExecutionProvider"):
        open_session(model, choose("openvino"))


@pytest.mark.usefixtures("runtime")
def test_nodes_that_are_left_to_the_cpu_are_said(monkeypatch: pytest.MonkeyPatch, model: Path) -> None:
    monkeypatch.setattr(sessions, "strays", lambda *_: Counter({"Gather": 2, "Erf": 1}))
    with pytest.warns(ProviderWarning, match=r"openvino leaves 3 nodes of the graph to the CPU \(2 Gather, 1 Erf\)"):
        open_session(model, choose("openvino"))


def test_an_onnx_runtime_without_plug_ins_asks_for_another(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(onnxruntime, "register_execution_provider_library")
    with pytest.raises(ProviderError, match="takes no plug-ins; run: pip install 'onnxruntime>="):
        choose("openvino")
    assert runtime.registered == []


@pytest.mark.usefixtures("runtime")
def test_the_package_that_was_built_with_openvino_goes_on_working(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_openvino", None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [OPENVINO, "CPUExecutionProvider"])
    config = choose("openvino", options={"num_of_threads": "2"})
    assert not config.is_plugin
    assert config.options == {"device_type": "CPU", "num_of_threads": "2"}
    assert ProviderConfig("openvino").onnx_runtime_name == OPENVINO


def test_auto_takes_fp32_for_every_plug_in() -> None:
    demo = Bundle.open(demo_directory())
    for provider in ("openvino", "qnn", "tensorrt-rtx", "webgpu", "plugin"):
        assert preferred_variant(demo, "audio", provider) == "fp32"


def test_openvinos_real_plug_in_gives_the_embeddings_of_the_cpu() -> None:
    pytest.importorskip("onnxruntime_ep_openvino", reason="the extra openvino is not installed")
    reason = plugins.unavailable_reason("openvino", {})
    if reason:
        pytest.skip(f"OpenVINO cannot be used here: {reason}")
    samples = np.sin(np.arange(48_000, dtype=np.float32) / 10)
    rows = []
    for provider in PAIR:
        with pytest.warns(ClapEdgeWarning, match="demo model"):
            engine = Engine.load(demo_directory(), provider=provider, precision="fp32", threads=1)
        rows.append(engine.embed_audio([samples])[0])
        engine.close()
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-5)  # sums of float32 in another order
