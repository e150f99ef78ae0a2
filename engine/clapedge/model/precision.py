"""Which variant of a tower is run where none is asked for: the fastest one on each provider."""

from typing import Literal

from clapedge.errors import BundleError
from clapedge.model.bundle import Bundle, Variant
from clapedge.model.providers import Provider

PrecisionWish = Literal["auto", "fp32", "fp16", "int8"]

PREFERRED: dict[Provider, tuple[Variant, ...]] = {
    "cpu": ("int8", "fp32", "fp16"),
    "openvino": ("fp32",),
    "qnn": ("fp32", "fp16"),
    "tensorrt-rtx": ("fp32", "fp16"),
    "webgpu": ("fp32", "fp16"),
    "plugin": ("fp32", "fp16"),
    "cuda": ("fp16", "fp32"),
    "tensorrt": ("fp16", "fp32"),
}
"""The variants that `auto` means, best first. The operators of `int8` are those of ONNX Runtime on a CPU alone."""


def preferred_variant(
    bundle: Bundle, role: Literal["audio", "text"], provider: Provider, *, like: Variant | None = None
) -> Variant:
    """Return the variant of a tower that `auto` means on a provider, see `preferred_variants`."""
    return preferred_variants(bundle, role, provider, like=like)[0]


def preferred_variants(
    bundle: Bundle, role: Literal["audio", "text"], provider: Provider, *, like: Variant | None = None
) -> tuple[Variant, ...]:
    """Return the variants of a tower that a provider runs, best first: that of its twin (`like`), then the fastest.

    Raises:
        BundleError: the bundle holds none that the provider runs.
    """
    present = bundle.variants(role)
    wanted = dict.fromkeys((like, *PREFERRED[provider]))
    if found := tuple(variant for variant in wanted if variant is not None and variant in present):
        return found
    raise BundleError(
        f"bundle {bundle.directory} holds no {role} tower that provider {provider} runs; "
        f'export it again with precision="{PREFERRED[provider][0]}"'
    )
