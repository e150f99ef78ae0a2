"""Providers: what is chosen, what is refused, and that nothing falls back without a word."""

from pathlib import Path

import onnxruntime
import pytest

from clapedge import providers
from clapedge.errors import ProviderError
from clapedge.providers import choose, obstacle, usable_cores

CPU_ONLY = ["CPUExecutionProvider"]
WITH_CUDA = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def pretend(monkeypatch: pytest.MonkeyPatch, compiled_in: list[str], cuda_obstacle: str | None) -> None:
    """Pretend that ONNX Runtime was built with some providers, and that the GPU has an obstacle or none."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: compiled_in)
    monkeypatch.setattr(providers, "_cuda_obstacle", lambda: cuda_obstacle)


def test_cpu_is_usable_everywhere() -> None:
    assert obstacle("cpu") is None
    assert choose("cpu").onnx_runtime_name == "CPUExecutionProvider"


def test_auto_takes_the_gpu_where_it_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, WITH_CUDA, None)
    assert choose("auto").provider == "cuda"


def test_auto_says_why_it_passed_over_a_gpu_package_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, WITH_CUDA, "no NVIDIA driver was found")
    plan = choose("auto")
    assert plan.provider == "cpu"
    assert plan.passed_over == ("provider cuda passed over: no NVIDIA driver was found",)


def test_auto_says_why_it_passed_over_a_gpu_with_the_cpu_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, CPU_ONLY, None)
    (reason,) = choose("auto").passed_over
    assert "pip install onnxruntime-gpu" in reason


def test_auto_is_quiet_on_a_machine_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, CPU_ONLY, "no NVIDIA driver was found")
    assert choose("auto").passed_over == ()


@pytest.mark.parametrize("wish", ["cuda", "tensorrt", "openvino"])
def test_an_explicit_wish_that_cannot_be_honoured_is_an_error(monkeypatch: pytest.MonkeyPatch, wish: str) -> None:
    pretend(monkeypatch, CPU_ONLY, None)
    with pytest.raises(ProviderError, match=f"provider {wish} cannot be used: .*pip install") as caught:
        choose(wish)  # type: ignore[arg-type]
    assert caught.value.exit_code == 4


def test_cuda_without_a_gpu_is_an_error_before_onnx_runtime_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, WITH_CUDA, "the NVIDIA driver sees no GPU")
    with pytest.raises(ProviderError, match="sees no GPU"):
        choose("cuda")


def test_options_of_the_user_override_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, WITH_CUDA, None)
    options = choose("cuda", options={"use_tf32": "1", "device_id": "1"}).options
    assert (options["use_tf32"], options["device_id"]) == ("1", "1")
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"
    assert choose("cuda").options["use_tf32"] == "0"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "200000 100000\n"}, 2.0),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_containers_quota_is_read_from_either_version_of_cgroups(
    tmp_path: Path, files: dict[str, str], cores: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert providers._cgroup_quota(tmp_path) == cores


def test_a_quota_cuts_the_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_cgroup_quota", lambda _: 0.5)
    assert usable_cores() == 1
    monkeypatch.setattr(providers, "_cgroup_quota", lambda _: None)
    assert usable_cores() >= 1
