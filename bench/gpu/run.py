"""What a phase works on: a bundle, and engines over it."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

from clapedge import Engine
from clapedge.arrays import BoolArray, Float32Array
from clapedge.model.bundle import Bundle, Variant
from clapedge.model.front_end_graph import FrontendWish
from clapedge.model.providers import ProviderWish
from gpu import signals


@dataclass(frozen=True)
class Run:
    """What a phase works on.

    Attributes:
        bundle: with the audio tower in FP32, and in FP16 for a GPU.
        provider: `cuda`; `cpu` tries the checks themselves.
    """

    bundle: Bundle
    provider: ProviderWish

    def engine(
        self, variant: Variant, *, frontend: FrontendWish = "auto", options: Mapping[str, str] | None = None
    ) -> Engine:
        """Open the bundle on the provider that is checked."""
        return self._load(variant, self.provider, frontend, options)

    def reference(self) -> Engine:
        """Open the bundle in FP32 on the CPU."""
        return self._load("fp32", "cpu", "numpy")

    def clips(self) -> tuple[Float32Array, BoolArray]:
        """Return the clips of the checks."""
        return signals.clips(self.bundle.manifest.front_end)

    def _load(
        self, variant: Variant, provider: ProviderWish, frontend: FrontendWish, options: Mapping[str, str] | None = None
    ) -> Engine:
        """Open the bundle without a word about its weights."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Engine.load(
                self.bundle.directory,
                provider=provider,
                precision=variant,
                provider_options=options or None,
                frontend=frontend,
            )
