import ctypes
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from onnxruntime.capi import build_and_package_info

from clapedge.diagnostics import cuda
from clapedge.diagnostics.cuda import CudaParts, Library, check_cuda, explain, find_library, find_parts
from clapedge.model.providers import CUDA_DRIVER

FITTING = CudaParts(
    "1.31.1",
    (13, 0),
    "580.159.04",
    (13, 0),
    (
        Library("libcudart", "libcudart.so.13", "13.0", "/site/nvidia/cu13/lib/libcudart.so.13"),
        Library("libcublas", "libcublas.so.13", "13.1.0", "/site/nvidia/cu13/lib/libcublas.so.13"),
        Library("libcudnn", "libcudnn.so.9", "9.19.0"),
    ),
)


def lines(parts: CudaParts) -> list[tuple[str, str, str]]:
    return [(finding.name, finding.state, finding.detail) for finding in explain(parts)]


def test_parts_that_fit_are_told_by_version_and_place() -> None:
    assert lines(FITTING) == [
        ("NVIDIA driver", "ok", "580.159.04 runs CUDA up to 13.0"),
        ("libcudart", "ok", "13.0, /site/nvidia/cu13/lib/libcudart.so.13"),
        ("libcublas", "ok", "13.1.0, /site/nvidia/cu13/lib/libcublas.so.13"),
        ("libcudnn", "ok", "9.19.0, libcudnn.so.9"),
    ]


def test_a_driver_older_than_the_build_of_onnx_runtime_is_told_with_both_versions() -> None:
    parts = CudaParts("1.31.1", (13, 0), "570.86.10", (12, 8))
    ((name, state, detail),) = lines(parts)
    assert (name, state) == ("NVIDIA driver", "bad")
    assert detail == (
        "570.86.10 runs CUDA up to 12.8, but ONNX Runtime 1.31.1 is built for CUDA 13.0; update the driver to 580 "
        "or newer, or run: pip install 'onnxruntime-gpu[cuda,cudnn]<1.27', which is built for CUDA 12"
    )


@pytest.mark.parametrize(
    ("supports", "built_for"),
    [((13, 0), (12, 8)), ((12, 4), (12, 8)), ((13, 0), (13, 5)), ((12, 0), None)],
    ids=["newer major", "older minor", "older minor of 13", "a build that does not say"],
)
def test_a_driver_of_the_same_major_or_newer_fits(supports: tuple[int, int], built_for: tuple[int, int] | None) -> None:
    assert explain(CudaParts("1.31.1", built_for, "580", supports))[0].state == "ok"


def test_a_missing_driver_is_no_fault() -> None:
    (finding,) = explain(CudaParts("1.31.1", (13, 0), "", None))
    assert (finding.state, "not found" in finding.detail) == ("off", True)


def test_a_library_of_another_cuda_is_told_beside_the_one_that_is_missing() -> None:
    other = Library("libcublas", "libcublas.so.13", packages=("nvidia-cublas-cu12 12.9.3.13",))
    *_, finding = explain(CudaParts("1.31.1", (13, 0), "580", (13, 0), (other,)))
    assert finding.state == "bad"
    assert finding.detail == (
        "libcublas.so.13 not found (installed: nvidia-cublas-cu12 12.9.3.13), which ONNX Runtime 1.31.1 for CUDA 13.0 "
        "loads; run: pip install 'clapedge[gpu]'"
    )


def test_cudnn_is_not_needed() -> None:
    *_, finding = explain(CudaParts("1.31.1", (13, 0), "580", (13, 0), (Library("libcudnn", "libcudnn.so.9"),)))
    assert finding.state == "off"


def writing(*values: int) -> Callable[..., int]:
    """Return a function of C that writes values through its last argument, one a call."""
    rest = list(values)

    def call(*arguments: Any) -> int:  # noqa: ANN401 - byref's object has no type to name
        arguments[-1]._obj.value = rest.pop(0)
        return 0

    return call


class FakeLibrary:
    """A loaded library with functions of C."""

    def __init__(self, **functions: Callable[..., int]) -> None:
        vars(self).update(functions)


def cudnn_version() -> int:
    """Return what cuDNN 9.19.0 calls itself."""
    return 91900


def test_versions_are_asked_of_driver_and_libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    libraries = {
        CUDA_DRIVER: FakeLibrary(cuDriverGetVersion=writing(13000)),
        "libcudart.so.13": FakeLibrary(cudaRuntimeGetVersion=writing(13010)),
        "libcudnn.so.9": FakeLibrary(cudnnGetVersion=cudnn_version),
        "libcublas.so.13": FakeLibrary(cublasGetProperty=writing(13, 1, 0)),
    }
    monkeypatch.setattr(ctypes, "CDLL", libraries.__getitem__)
    monkeypatch.setattr(build_and_package_info, "cuda_version", "13.0", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(cuda, "preload_libraries", lambda _: None)
    monkeypatch.setattr(cuda, "KERNEL_MODULE", tmp_path / "version")
    monkeypatch.setattr(cuda, "MAPS", tmp_path / "maps")
    said = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build"
    cuda.KERNEL_MODULE.write_text(said)
    cuda.MAPS.write_text("7f00-7f01 r-xp 00000000 fd:00 123   /some where/libcublas.so.13\n7f02-7f03 rw-p 0 0:0 0\n")
    found = find_parts()
    assert (found.built_for, found.release, found.supports) == ((13, 0), "580.159.04", (13, 0))
    assert [(library.name, library.version, library.path) for library in found.libraries] == [
        ("libcudart", "13.1", ""),
        ("libcublas", "13.1.0", "/some where/libcublas.so.13"),
        ("libcudnn", "9.19.0", ""),
    ]


def test_a_library_that_cannot_be_loaded_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(build_and_package_info, "cuda_version", "12.8", raising=False)
    monkeypatch.setattr(cuda, "preload_libraries", lambda _: None)
    found = find_parts()
    assert found.supports is None
    assert [(library.file, library.version) for library in found.libraries] == [
        ("libcudart.so.12", None),
        ("libcublas.so.12", None),
        ("libcudnn.so.9", None),
    ]


def test_a_library_that_does_not_tell_its_version_was_found_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: FakeLibrary())
    library = find_library("libcublas", 13, lambda loaded: str(loaded.cublasGetProperty))
    assert library.version == "of unknown version"


def test_an_onnx_runtime_without_cuda_has_nothing_to_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    assert check_cuda() == ()
