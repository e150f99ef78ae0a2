"""TensorRT's engines on disk: their place, and what is opened. No engine is built here: that takes a GPU."""

import ctypes
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from clapedge.cli.bundle import bundle
from clapedge.errors import ProviderError, ProviderWarning
from clapedge.model import providers, sessions, tensorrt
from clapedge.model.bundle import demo_directory
from clapedge.model.gpu_tower import BUCKETS
from clapedge.model.providers import DEFAULT_OPTIONS, Gpu, ProviderConfig
from clapedge.model.tensorrt import CONTEXT_NAME, build, cache_name, context_options, locate

GPU = Gpu("NVIDIA Jetson Orin (nvgpu)", (8, 7), 8 << 30)
PLAN = ProviderConfig("tensorrt", DEFAULT_OPTIONS["tensorrt"])


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file in place of a tower, on a machine that pretends to have a GPU and TensorRT."""
    monkeypatch.setenv("CLAPEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tensorrt, "describe_gpu", lambda _: GPU)
    monkeypatch.setattr(tensorrt, "_tensorrt_version", lambda: "101601")
    path = tmp_path / "audio.fp16.onnx"
    path.write_bytes(b"a graph")
    return path


def test_a_directory_of_engines_is_named_by_all_that_an_engine_depends_on() -> None:
    def name(model: str = "5eed" * 16, ort: str = "1.31.1", trt: str = "101601", gpu: Gpu = GPU, **options: str) -> str:
        return cache_name(model, options, onnx_runtime=ort, tensorrt=trt, gpu=gpu)

    assert name().startswith("5eed5eed5eed5eed-ort1.31.1-trt101601-nvidia-jetson-orin-nvgpu-sm87-")
    assert name(a="1", b="2") == name(b="2", a="1")
    others = [
        name(model="f00d" * 16),
        name(ort="1.31.2"),
        name(trt="101700"),
        name(gpu=Gpu(GPU.name, (8, 6), GPU.memory)),
        name(gpu=Gpu("Another", (8, 7), GPU.memory)),
        name(trt_builder_optimization_level="5"),
    ]
    assert len({name(), *others}) == 1 + len(others)


def test_other_providers_open_the_model_itself(model: Path) -> None:
    provider_config = ProviderConfig("cuda", {"device_id": "0"})
    assert locate(model, provider_config, batch=8) == (model, provider_config)


def test_without_a_built_engine_the_model_is_opened_and_the_wait_is_announced(model: Path) -> None:
    with pytest.warns(ProviderWarning, match="batches of 8 now, which takes a minute"):
        path, provider_config = locate(model, PLAN, batch=8)
    directory = Path(provider_config.options["trt_engine_cache_path"])
    assert (path, directory.name) == (model, "batch-8")
    assert provider_config.options["trt_timing_cache_path"] == str(directory.parent)
    assert provider_config.options["trt_fp16_enable"] == "0"


def test_a_built_engine_is_opened_instead_of_the_model(model: Path, tmp_path: Path) -> None:
    with pytest.warns(ProviderWarning):
        directory = Path(locate(model, PLAN, batch=1)[1].options["trt_engine_cache_path"])
    directory.mkdir(parents=True)
    (directory / CONTEXT_NAME).touch()
    assert locate(model, PLAN, batch=1)[0] == directory / CONTEXT_NAME
    assert directory.is_relative_to(tmp_path / "cache" / "tensorrt")


def test_a_changed_model_does_not_find_the_old_engine(model: Path) -> None:
    places = set()
    for content in (b"a graph", b"another graph"):
        model.write_bytes(content)
        with pytest.warns(ProviderWarning):
            places.add(locate(model, PLAN, batch=1)[1].options["trt_engine_cache_path"])
    assert len(places) == 2


def test_options_of_the_user_outweigh_the_places_of_the_cache(model: Path) -> None:
    with pytest.warns(ProviderWarning):
        provider_config = locate(model, ProviderConfig("tensorrt", {"trt_timing_cache_path": "mine"}), batch=1)[1]
    assert provider_config.options["trt_timing_cache_path"] == "mine"


def test_a_cache_that_is_switched_off_leaves_plans_alone(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAPEDGE_CACHE", "")
    assert locate(model, PLAN, batch=1) == (model, PLAN)
    with pytest.raises(ProviderError, match="set CLAPEDGE_CACHE"):
        build(model, PLAN, batch=1)


def test_an_engine_is_named_relative_to_its_graph(tmp_path: Path) -> None:
    options = context_options(tmp_path / "batch-8.1.tmp")
    assert options["trt_engine_cache_path"] == "."  # an absolute path would not survive the move, and is refused
    assert options["trt_ep_context_embed_mode"] == "0"


def test_a_build_appears_whole_or_not_at_all(model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def keep(_model: Path, provider_config: ProviderConfig, *, batch: int) -> None:
        Path(provider_config.options["trt_ep_context_file_path"]).write_text(f"batch {batch}")

    monkeypatch.setattr(tensorrt, "open_session", lambda *_, **__: None)
    with pytest.raises(ProviderError, match="kept no engine"):
        build(model, PLAN, batch=8)
    assert not list((tmp_path / "cache").rglob("batch-*"))
    monkeypatch.setattr(tensorrt, "open_session", keep)
    for _ in range(2):  # a second build replaces the first
        assert build(model, PLAN, batch=8).read_text() == "batch 8"
    assert locate(model, PLAN, batch=8)[0].name == CONTEXT_NAME
    assert [path.name for path in (tmp_path / "cache").rglob("batch-*")] == ["batch-8"]


def test_compile_builds_an_engine_for_every_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def note(model: Path, provider_config: ProviderConfig, *, batch: int) -> Path:
        built.append((model.name, provider_config.options["trt_builder_optimization_level"], batch))
        return model

    monkeypatch.setattr(providers, "unavailable_reason", lambda _: None)
    monkeypatch.setattr(tensorrt, "build", note)
    option = ["--provider-option", "trt_builder_optimization_level=5"]
    done = CliRunner().invoke(bundle, ["compile", str(demo_directory()), "--provider", "tensorrt", *option])
    assert (done.exit_code, len(done.stdout.splitlines())) == (0, len(BUCKETS))
    assert built == [("audio.fp32.onnx", "5", batch) for batch in sorted(BUCKETS)]


def test_compile_without_a_gpu_ends_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "unavailable_reason", lambda _: "no NVIDIA driver was found")
    done = CliRunner().invoke(bundle, ["compile", str(demo_directory()), "--provider", "tensorrt"])
    assert isinstance(done.exception, ProviderError)
    assert done.exception.exit_code == 4


def test_tensorrt_is_asked_for_its_version_after_the_library_of_pip_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else engines of every version lie under "unknown", and outlive an update."""
    (tmp_path / "tensorrt.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    sessions.preload_libraries.cache_clear()

    class Library:
        def __init__(self, _name: str) -> None:
            if "tensorrt" not in sys.modules:
                raise OSError("cannot open shared object file: No such file or directory")

        def getInferLibVersion(self) -> int:  # noqa: N802 - TensorRT's own name
            return 101601

    monkeypatch.setattr(ctypes, "CDLL", Library)
    assert tensorrt._tensorrt_version() == "101601"
    sessions.preload_libraries.cache_clear()
    sys.modules.pop("tensorrt")
