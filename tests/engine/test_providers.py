"""Providers: what is chosen, what is refused, and that nothing falls back without a word."""

import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

import onnxruntime
import pytest

from clapedge.errors import ProviderError, UsageError
from clapedge.model import cpu, providers
from clapedge.model.cpu import usable_cores
from clapedge.model.providers import Gpu, ProviderConfig, choose, describe_gpu, unavailable_reason

CPU_ONLY = ["CPUExecutionProvider"]
WITH_CUDA = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]


def pretend(monkeypatch: pytest.MonkeyPatch, compiled_in: list[str], cuda_unavailable_reason: str | None) -> None:
    """Pretend that ONNX Runtime was built with some providers, and that the GPU has an unavailable_reason or none."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: compiled_in)
    monkeypatch.setattr(providers, "_cuda_unavailable_reason", lambda: cuda_unavailable_reason)


def test_cpu_is_usable_everywhere() -> None:
    assert unavailable_reason("cpu") is None
    assert choose("cpu").onnx_runtime_name == "CPUExecutionProvider"


def test_auto_takes_the_gpu_where_it_is_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, WITH_CUDA, None)
    assert choose("auto").provider == "cuda"


def test_auto_says_why_it_passed_over_a_gpu_package_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, WITH_CUDA, "no NVIDIA driver was found")
    provider_config = choose("auto")
    assert provider_config.provider == "cpu"
    assert provider_config.fallback_reasons == ("provider cuda passed over: no NVIDIA driver was found",)


def test_auto_says_why_it_passed_over_a_gpu_with_the_cpu_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, CPU_ONLY, None)
    (reason,) = choose("auto").fallback_reasons
    assert "pip install 'clapedge[gpu]'" in reason


def test_auto_is_quiet_on_a_machine_without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, CPU_ONLY, "no NVIDIA driver was found")
    assert choose("auto").fallback_reasons == ()


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


def test_a_missing_gpu_is_named_before_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, CPU_ONLY, "no NVIDIA driver was found")
    assert unavailable_reason("cuda") == "no NVIDIA driver was found"  # another package would not help


def test_options_of_the_user_override_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, WITH_CUDA, None)
    options = choose("cuda", options={"use_tf32": "1", "device_id": "1"}).options
    assert (options["use_tf32"], options["device_id"]) == ("1", "1")
    assert options["cudnn_conv_algo_search"] == "HEURISTIC"
    assert choose("cuda").options["use_tf32"] == "0"


def test_options_for_a_cpu_are_refused_where_it_was_asked_for_and_said_where_it_was_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, CPU_ONLY, "no NVIDIA driver was found")
    with pytest.raises(UsageError, match="takes no options, found use_tf32; leave"):
        choose("cpu", options={"use_tf32": "1"})
    provider_config = choose("auto", options={"use_tf32": "1", "device_id": "1"})
    assert provider_config.options == {}
    assert provider_config.fallback_reasons == (
        "provider cpu takes no options: use_tf32, device_id of provider_options not used",
    )


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
    assert cpu._cgroup_quota(tmp_path) == cores


def test_the_tightest_quota_above_a_cgroup_counts(tmp_path: Path) -> None:
    service = tmp_path / "system.slice" / "listener.service"
    service.mkdir(parents=True)
    (service / "cpu.max").write_text("300000 100000\n")
    (service.parent / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cpu._cgroup_quota(tmp_path, "system.slice/listener.service") == 1.5
    assert cpu._cgroup_quota(tmp_path, "not/seen/from/within/the/container") is None


@pytest.mark.parametrize(
    ("listing", "group"),
    [("0::/system.slice/x.service\n", "system.slice/x.service"), ("4:cpu:/a\n0::/\n", ""), ("4:cpu:/a\n", "")],
)
def test_the_own_cgroup_is_that_of_version_2(tmp_path: Path, listing: str, group: str) -> None:
    (tmp_path / "cgroup").write_text(listing)
    assert cpu._own_cgroup(tmp_path / "cgroup") == group
    assert cpu._own_cgroup(tmp_path / "absent") == ""


def test_two_hardware_threads_of_one_core_count_once(tmp_path: Path) -> None:
    for number, siblings in enumerate(["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"]):
        topology = tmp_path / f"cpu{number}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{siblings}\n")
    assert cpu._physical_cores(range(8), tmp_path) == 4
    assert cpu._physical_cores([0, 4, 5], tmp_path) == 2
    assert cpu._physical_cores([0, 8, 9], tmp_path) == 3  # what Linux does not tell counts as a core


def test_a_quota_cuts_the_usable_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_physical_cores", lambda *_: 6)
    for quota, cores in ((0.5, 1), (2.9, 2), (64.0, 6), (None, 6)):
        monkeypatch.setattr(cpu, "_cgroup_quota", lambda *_, quota=quota: quota)
        assert usable_cores() == cores


Out: TypeAlias = Any
"""What a driver fills in: a reference made by ctypes."""


class Driver:
    """Answers as the CUDA driver of a machine with one GPU does."""

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's own names
        return flags

    def cuDeviceGet(self, handle: Out, device: int) -> int:  # noqa: N802
        handle._obj.value = device
        return 0 if device == 0 else 101  # CUDA_ERROR_INVALID_DEVICE

    def cuDeviceGetName(self, name: Out, length: int, _handle: Out) -> int:  # noqa: N802
        name.value = b"NVIDIA Something"[:length]
        return 0

    def cuDeviceTotalMem_v2(self, total: Out, _handle: Out) -> int:  # noqa: N802
        total._obj.value = 8 << 30
        return 0

    def cuDeviceGetAttribute(self, value: Out, attribute: int, _handle: Out) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 6}[attribute]
        return 0


def test_a_gpu_is_described_by_its_driver() -> None:
    driver: Any = Driver()
    assert describe_gpu(driver=driver) == Gpu("NVIDIA Something", (8, 6), 8 << 30)
    with pytest.raises(ProviderError, match="no GPU 1; check nvidia-smi"):
        describe_gpu(1, driver=driver)


def test_a_gpu_is_named_by_a_number() -> None:
    assert ProviderConfig("cuda").device_id == 0
    assert ProviderConfig("cuda", {"device_id": "3"}).device_id == 3
    with pytest.raises(ProviderError, match='"device_id": "first"} is not a number'):
        _ = ProviderConfig("cuda", {"device_id": "first"}).device_id


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "CUDA_DRIVER", "libcuda-of-nobody.so.1")
    with pytest.raises(ProviderError, match="libcuda-of-nobody"):
        describe_gpu()
    assert "libcuda-of-nobody" in (providers._cuda_unavailable_reason.__wrapped__() or "")


def test_the_gpu_check_says_in_one_line_that_there_is_no_gpu(tmp_path: Path) -> None:
    if unavailable_reason("cuda") is None:
        pytest.skip("this machine has a GPU: make gpu-check")
    script = Path(__file__).parents[2] / "bench" / "gpu_check.py"
    if not script.exists():
        pytest.skip("the script is part of the source alone")
    done = subprocess.run(
        [sys.executable, script, "--out", tmp_path / "gpu.json"], capture_output=True, check=False, text=True
    )
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (4, "", 1)
    assert "provider cuda cannot be used here" in done.stderr
    assert list(tmp_path.iterdir()) == []
