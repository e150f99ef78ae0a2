"""Which front end makes the log-mels of an engine: NumPy, or the GPU on which its tower runs."""

from pathlib import Path
from typing import Literal

from clapedge.errors import BundleError, ProviderError
from clapedge.model.bundle import Bundle
from clapedge.model.providers import ProviderConfig, describe_gpu

FrontendWish = Literal["auto", "numpy", "device"]

FAST_FLOAT64 = frozenset({(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)})
"""Compute capabilities of GPUs with float64 at half the rate of float32: P100, V100, A100, H100 and H200, B200. Others
have a 32nd or a 64th (CUDA C++ Programming Guide, throughput of arithmetic instructions), and the transform is in
float64, see `clapedge_export.front_end_graph`."""


def front_end_graph(wish: FrontendWish, bundle: Bundle, provider_config: ProviderConfig) -> Path | None:
    """Return the graph that shall make log-mels on the GPU, or None where NumPy makes them.

    Args:
        wish: `auto` takes the GPU where it is quick at float64.
        bundle: holds the graph, or not.
        provider_config: where the tower runs.

    Raises:
        ProviderError: the GPU is asked for and cannot do it; the message says why.
        BundleDamagedError: the graph is not what the manifest says.
    """
    if wish == "numpy":
        return None
    obstacle = _obstacle(bundle, provider_config)
    if obstacle:
        if wish == "device":
            raise ProviderError(f'frontend="device" cannot be used: {obstacle}; use frontend="auto"')
        return None
    if wish == "auto" and describe_gpu(provider_config.device_id).compute_capability not in FAST_FLOAT64:
        return None
    return bundle.path(bundle.file("frontend", provider="cuda"))


def _obstacle(bundle: Bundle, provider_config: ProviderConfig) -> str | None:
    """Return what stands against log-mels on the GPU, or None."""
    if provider_config.provider != "cuda":
        return f"the tower runs on {provider_config.provider}, and the front end of a bundle is for cuda"
    try:
        file = bundle.file("frontend", provider="cuda")
    except BundleError as error:
        return str(error)
    front_end = bundle.manifest.front_end
    made = ("batch", front_end.channels, front_end.clip_frames, front_end.n_mels)
    if [tensor.shape for tensor in file.outputs] != [made]:
        return f"{file.path} of this bundle does not make what its tower takes; export it again"
    return None
