"""The parts of CUDA by name and version: the driver, the build of ONNX Runtime, and the libraries that it loads."""

import ctypes
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import onnxruntime
from onnxruntime.capi import build_and_package_info

from clapedge.diagnostics.finding import Finding
from clapedge.model.providers import CUDA_DRIVER, ONNX_RUNTIME_NAMES
from clapedge.model.sessions import preload_libraries

OLDEST_DRIVER = {12: "525", 13: "580"}
"""Oldest Linux driver for each major version of CUDA, by the release notes of NVIDIA's CUDA Toolkit."""

PACKAGES = {
    "libcudart": ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12"),
    "libcublas": ("nvidia-cublas", "nvidia-cublas-cu12"),
    "libcudnn": ("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
}
"""pip's packages of each library: for CUDA 13, and for CUDA 12."""

CUDNN_MAJOR = 9
"""Of every ONNX Runtime for CUDA since 1.19."""

KERNEL_MODULE = Path("/proc/driver/nvidia/version")
MAPS = Path("/proc/self/maps")


@dataclass(frozen=True)
class Library:
    """A library of NVIDIA that ONNX Runtime loads.

    Attributes:
        name: such as `libcublas`.
        file: what is loaded, such as `libcublas.so.13`.
        version: what the library says of itself; None where it was not found.
        path: where it lies.
        packages: pip's packages of it that are installed, with their versions.
    """

    name: str
    file: str
    version: str | None = None
    path: str = ""
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class CudaParts:
    """What has to fit together.

    Attributes:
        runtime: the version of ONNX Runtime.
        built_for: the CUDA it was built for, such as (13, 0); None where it does not say.
        release: the driver's release, such as `580.159.04`; empty where it does not say.
        supports: the newest CUDA that the driver runs; None without a driver.
        libraries: what ONNX Runtime loads.
    """

    runtime: str
    built_for: tuple[int, int] | None
    release: str
    supports: tuple[int, int] | None
    libraries: tuple[Library, ...] = ()


def check_cuda() -> tuple[Finding, ...]:
    """Report the parts of CUDA; nothing where ONNX Runtime has no part for it."""
    if ONNX_RUNTIME_NAMES["cuda"] not in onnxruntime.get_available_providers():
        return ()
    return explain(find_parts())


def explain(parts: CudaParts) -> tuple[Finding, ...]:
    """Return a line for the driver and each library: whether it fits this ONNX Runtime, or what to do."""
    return (_driver_finding(parts), *(_library_finding(parts, library) for library in parts.libraries))


def find_parts() -> CudaParts:
    """Ask the driver, ONNX Runtime and the libraries for their versions; no context is opened on a GPU."""
    built = re.match(r"(\d+)\.(\d+)", getattr(build_and_package_info, "cuda_version", None) or "")
    built_for = (int(built[1]), int(built[2])) if built else None
    libraries: tuple[Library, ...] = ()
    if sys.platform == "linux" and built_for:
        preload_libraries("cuda")
        libraries = (
            find_library("libcudart", built_for[0], _runtime_version),
            find_library("libcublas", built_for[0], _cublas_version),
            find_library("libcudnn", CUDNN_MAJOR, _cudnn_version),
        )
    return CudaParts(onnxruntime.__version__, built_for, _driver_release(), _driver_supports(), libraries)


def find_library(name: str, major: int, ask: Callable[[ctypes.CDLL], str]) -> Library:
    """Load a library as ONNX Runtime does.

    Args:
        name: such as `libcublas`.
        major: the version in the name of its file.
        ask: returns the version that a loaded library gives.
    """
    file, packages = f"{name}.so.{major}", tuple(_installed(PACKAGES[name]))
    try:
        loaded = ctypes.CDLL(file)
    except OSError:
        return Library(name, file, packages=packages)
    try:
        version = ask(loaded)
    except AttributeError:  # a library in its place that does not have the function
        version = "of unknown version"
    return Library(name, file, version, _path_of(file), packages)


def _driver_finding(parts: CudaParts) -> Finding:
    """Report whether the driver runs what ONNX Runtime was built for."""
    name = "NVIDIA driver"
    if parts.supports is None:
        return Finding(name, "off", f"not found ({CUDA_DRIVER}); install it, or start the container with --gpus all")
    detail = f"{parts.release} runs CUDA up to {_dotted(parts.supports)}".strip()
    if parts.built_for is None or parts.supports[0] >= parts.built_for[0]:
        return Finding(name, "ok", detail)
    oldest = OLDEST_DRIVER.get(parts.built_for[0])
    newer = f" to {oldest} or newer" if oldest else ""
    return Finding(
        name,
        "bad",
        f"{detail}, but ONNX Runtime {parts.runtime} is built for CUDA {_dotted(parts.built_for)}; update the driver"
        f"{newer}, or run: pip install 'onnxruntime-gpu[cuda,cudnn]<1.27', which is built for CUDA 12",
    )


def _library_finding(parts: CudaParts, library: Library) -> Finding:
    """Report whether a library was found."""
    if library.version is not None:
        return Finding(library.name, "ok", f"{library.version}, {library.path or library.file}")
    built = f"ONNX Runtime {parts.runtime}" + (f" for CUDA {_dotted(parts.built_for)}" if parts.built_for else "")
    found = f" (installed: {', '.join(library.packages)})" if library.packages else ""
    if library.name == "libcudnn":  # which no kernel of the exported towers takes
        return Finding(library.name, "off", f"{library.file} not found{found}: the towers of a bundle need none")
    return Finding(
        library.name, "bad", f"{library.file} not found{found}, which {built} loads; run: pip install 'clapedge[gpu]'"
    )


def _installed(packages: tuple[str, ...]) -> list[str]:
    """Return those packages that are installed, with their versions."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def _driver_release() -> str:
    """Return the release of the kernel's driver, empty where it does not say."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+\.[\d.]+)", KERNEL_MODULE.read_text())
    except OSError:
        return ""
    return found[1] if found else ""


def _driver_supports() -> tuple[int, int] | None:
    """Return the newest CUDA that the driver runs, None without a driver."""
    version = ctypes.c_int()
    try:
        failed = ctypes.CDLL(CUDA_DRIVER).cuDriverGetVersion(ctypes.byref(version))
    except OSError:
        return None
    return None if failed else (version.value // 1000, version.value % 1000 // 10)


def _runtime_version(library: ctypes.CDLL) -> str:
    """Return the version of CUDA's runtime."""
    version = ctypes.c_int()
    library.cudaRuntimeGetVersion(ctypes.byref(version))
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def _cublas_version(library: ctypes.CDLL) -> str:
    """Return the version of cuBLAS: major, minor and patch are properties 0 to 2."""
    numbers = []
    for part in range(3):
        value = ctypes.c_int()
        library.cublasGetProperty(part, ctypes.byref(value))
        numbers.append(value.value)
    return ".".join(map(str, numbers))


def _cudnn_version(library: ctypes.CDLL) -> str:
    """Return the version of cuDNN, which since 9 counts 10000 for a major, 100 for a minor and 1 for a patch."""
    library.cudnnGetVersion.restype = ctypes.c_size_t
    version = library.cudnnGetVersion()
    return f"{version // 10000}.{version % 10000 // 100}.{version % 100}"


def _path_of(file: str) -> str:
    """Return where a loaded library lies, empty where the system does not say."""
    try:
        lines = MAPS.read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(maxsplit=5)[5] for line in lines if line.endswith(f"/{file}")), "")


def _dotted(version: tuple[int, int]) -> str:
    """Return a version as it is written."""
    return f"{version[0]}.{version[1]}"
