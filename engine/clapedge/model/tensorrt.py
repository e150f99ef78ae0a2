"""TensorRT's engines on disk: where they lie, and how they are built before they are needed.

None of this has run on hardware yet. An engine serves one GPU, one TensorRT, one ONNX Runtime, one graph and one set
of options; all of these name its directory, so that a change of any builds anew instead of loading what does not fit.
"""

import ctypes
import hashlib
import os
import re
import shutil
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import onnxruntime

from clapedge.cache_dir import default_directory
from clapedge.errors import ProviderError, ProviderWarning
from clapedge.model.bundle import sha256
from clapedge.model.providers import Gpu, ProviderConfig, describe_gpu
from clapedge.model.sessions import open_session, preload_libraries

CONTEXT_NAME = "context.onnx"
"""A graph of one EPContext node that names the engine beside it; ONNX Runtime opens it without parsing the model."""

LIBRARIES = ("nvinfer_10.dll",) if sys.platform == "win32" else ("libnvinfer.so.10", "libnvinfer.so.8")
"""TensorRT's library: version 10 is what ONNX Runtime from 1.19 on links, 8 what 1.18 does."""


def locate(model: Path, provider_config: ProviderConfig, *, batch: int) -> tuple[Path, ProviderConfig]:
    """Return what to open for a batch size, and how: a built engine where there is one, else the model itself.

    Plans of other providers than TensorRT stay as they are, and all do where the cache is switched off.
    """
    directory = _directory(model, provider_config, batch) if provider_config.provider == "tensorrt" else None
    if directory is None:
        return model, provider_config
    paths = {"trt_engine_cache_path": str(directory), "trt_timing_cache_path": str(directory.parent)}
    provider_config = replace(provider_config, options={**paths, **provider_config.options})
    if (directory / CONTEXT_NAME).is_file():
        return directory / CONTEXT_NAME, provider_config
    if not any(directory.glob("*.engine")):
        warnings.warn(
            f"TensorRT builds its engine for batches of {batch} now, which takes a minute or more; "
            "clapedge bundle compile does it beforehand",
            ProviderWarning,
            stacklevel=2,
        )
    return model, provider_config


def build(model: Path, provider_config: ProviderConfig, *, batch: int) -> Path:
    """Build the engine of a batch size and keep it; takes a minute or more.

    Args:
        model: path of the exported tower.
        provider_config: of the provider `tensorrt`.
        batch: rows of every run.

    Returns:
        The graph that names the engine.

    Raises:
        ProviderError: TensorRT cannot be used, or the cache is switched off.
    """
    directory = _directory(model, provider_config, batch)
    if directory is None:
        raise ProviderError("there is no place to keep an engine; set CLAPEDGE_CACHE to a directory")
    building = directory.with_name(f"{directory.name}.{os.getpid()}.tmp")
    try:
        building.mkdir(parents=True)
        open_session(
            model,
            replace(provider_config, options={**provider_config.options, **context_options(building)}),
            batch=batch,
        )
        if not (building / CONTEXT_NAME).is_file():
            raise ProviderError(f"ONNX Runtime {onnxruntime.__version__} kept no engine; it builds one at each start")
        shutil.rmtree(directory, ignore_errors=True)
        building.replace(directory)
    except OSError as error:
        raise ProviderError(f"{directory} cannot be written ({error.strerror}); set CLAPEDGE_CACHE") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return directory / CONTEXT_NAME


def context_options(directory: Path) -> dict[str, str]:
    """Return TensorRT's options for keeping an engine and the graph that names it in a directory."""
    return {
        "trt_dump_ep_context_model": "1",
        "trt_ep_context_embed_mode": "0",
        "trt_ep_context_file_path": str(directory / CONTEXT_NAME),
        # relative to the graph: ONNX Runtime accepts nothing else here
        "trt_engine_cache_path": ".",
        "trt_timing_cache_path": str(directory.parent),
    }


def cache_name(model_sha256: str, options: Mapping[str, str], *, onnx_runtime: str, tensorrt: str, gpu: Gpu) -> str:
    """Return the name of the directory that holds the engines of one model on one device.

    Args:
        model_sha256: of the exported tower.
        options: of the provider.
        onnx_runtime: version.
        tensorrt: version.
        gpu: the device.
    """
    product = re.sub(r"[^a-z0-9]+", "-", gpu.name.lower()).strip("-")
    capability = "".join(str(part) for part in gpu.compute_capability)
    listed = "\n".join(f"{key}={value}" for key, value in sorted(options.items()))
    settings = hashlib.sha256(listed.encode()).hexdigest()[:8]
    return f"{model_sha256[:16]}-ort{onnx_runtime}-trt{tensorrt}-{product}-sm{capability}-{settings}"


def _directory(model: Path, provider_config: ProviderConfig, batch: int) -> Path | None:
    """Return the directory of the engine of a batch size; each has its own, as TensorRT names all of them alike."""
    root = default_directory()
    if root is None:
        return None
    name = cache_name(
        sha256(model),
        provider_config.options,
        onnx_runtime=onnxruntime.__version__,
        tensorrt=_tensorrt_version(),
        gpu=describe_gpu(provider_config.device_id),
    )
    return root / "tensorrt" / name / f"batch-{batch}"


def _tensorrt_version() -> str:
    """Return the version number of TensorRT's library (101601 is 10.16.1), or `unknown`.

    What pip installed is loaded first: the system's loader would not find it.
    """
    preload_libraries("tensorrt")
    for library in LIBRARIES:
        try:
            return str(ctypes.CDLL(library).getInferLibVersion())
        except (OSError, AttributeError):
            continue
    return "unknown"
