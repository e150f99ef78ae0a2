"""The extra `gpu` on every Python that is supported: which ONNX Runtime, and libraries of which CUDA."""

import importlib
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

TOML = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

PROJECT = TOML.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
PYTHONS = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]


def gpu_packages(python: str) -> dict[str, Requirement]:
    """Return what the extra `gpu` asks for on a Python, by name."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    asked = [Requirement(line) for line in PROJECT["optional-dependencies"]["gpu"]]
    applying = [line for line in asked if line.marker is None or line.marker.evaluate(environment)]
    found = {line.name: line for line in applying}
    assert len(found) == len(applying), "a package is asked for twice"
    return found


def test_the_pythons_are_those_that_are_classified() -> None:
    assert PYTHONS == ["3.10", "3.11", "3.12", "3.13"]


def test_python_3_10_gets_the_last_onnx_runtime_that_has_a_wheel_for_it_and_cuda_12() -> None:
    packages = gpu_packages("3.10")
    assert set(packages) == {"onnxruntime-gpu", "nvidia-cublas-cu12"}
    assert packages["onnxruntime-gpu"].specifier.contains("1.23.2")
    assert not packages["onnxruntime-gpu"].specifier.contains("1.26.0")
    assert not packages["nvidia-cublas-cu12"].specifier.contains("13.0.0")


@pytest.mark.parametrize("python", [python for python in PYTHONS if python != "3.10"])
def test_a_newer_python_gets_an_onnx_runtime_for_cuda_13_and_its_cublas(python: str) -> None:
    packages = gpu_packages(python)
    assert set(packages) == {"onnxruntime-gpu", "nvidia-cublas"}
    runtime, cublas = packages["onnxruntime-gpu"].specifier, packages["nvidia-cublas"].specifier
    assert runtime.contains("1.31.1")
    assert not runtime.contains("1.26.0")  # built for CUDA 12
    assert not runtime.contains("1.27.0")  # its extras name packages that hold nothing
    assert (cublas.contains("13.1.0.3"), cublas.contains("12.9.1.4"), cublas.contains("14.0.0")) == (True, False, False)


@pytest.mark.parametrize("python", PYTHONS)
def test_onnx_runtime_brings_its_libraries_along(python: str) -> None:
    assert gpu_packages(python)["onnxruntime-gpu"].extras == {"cuda", "cudnn"}
