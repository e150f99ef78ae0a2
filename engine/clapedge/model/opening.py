"""An audio tower that is opened where it was asked for, and that reproduces its bundle's model there."""

import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from clapedge.errors import ClapEdgeWarning, ParityError, ProviderError
from clapedge.model.bundle import Bundle, Variant
from clapedge.model.front_end_graph import FrontendWish, front_end_graph
from clapedge.model.precision import PrecisionWish, preferred_variants
from clapedge.model.proof import VariantCheck, misses
from clapedge.model.providers import ProviderConfig, ProviderOptions, ProviderWish, choose
from clapedge.model.towers import AudioTowers


@dataclass(frozen=True, kw_only=True)
class TowerWish:
    """Which audio tower is asked for.

    Attributes:
        provider: where to run; `auto` takes a GPU where one is usable.
        provider_options: options of ONNX Runtime for the provider.
        precision: variant; `auto` takes the fastest that the provider runs and that reproduces the model there.
        threads: threads within an operator; None means every usable core.
        spinning: whether idle threads wait busily.
        self_check: whether a variant has to reproduce the model.
        frontend: what shall make log-mels, see `front_end_graph`.
    """

    provider: ProviderWish
    provider_options: ProviderOptions | None
    precision: PrecisionWish
    threads: int | None
    spinning: bool
    self_check: bool
    frontend: FrontendWish = "auto"


@dataclass(frozen=True, eq=False)
class OpenedTowers:
    """The sessions of an audio tower, and how they came to be."""

    wish: TowerWish
    towers: AudioTowers
    provider_config: ProviderConfig
    variant: Variant
    check: VariantCheck


def open_audio_towers(bundle: Bundle, wish: TowerWish, *, stacklevel: int) -> OpenedTowers:
    """Open the audio tower of a bundle on the provider that was asked for.

    Args:
        bundle: holds it.
        wish: what was asked for.
        stacklevel: of the caller's caller, whom warnings shall name.

    Raises:
        BundleError: the bundle is damaged or lacks the precision.
        ParityError: no variant that was asked for reproduces the model on this machine.
        ProviderError: the provider cannot be used.
    """
    config = choose(wish.provider, options=wish.provider_options)
    for reason in config.fallback_reasons:
        warnings.warn(reason, ClapEdgeWarning, stacklevel=stacklevel + 1)
    if note := bundle.manifest.caution:
        warnings.warn(note, ClapEdgeWarning, stacklevel=stacklevel + 1)
    try:
        return _open_on(bundle, config, wish, stacklevel=stacklevel + 1)
    except (ProviderError, ParityError) as error:
        if wish.provider != "auto" or config.provider == "cpu":
            raise
        warnings.warn(f"running on the CPU: {error}", ClapEdgeWarning, stacklevel=stacklevel + 1)
    return _open_on(bundle, choose("cpu"), wish, stacklevel=stacklevel + 1)


def _open_on(bundle: Bundle, config: ProviderConfig, wish: TowerWish, *, stacklevel: int) -> OpenedTowers:
    """Open the first variant on a provider that reproduces the model there."""
    named = wish.precision != "auto"
    variants = (wish.precision,) if wish.precision != "auto" else preferred_variants(bundle, "audio", config.provider)
    fault = ""
    for variant in variants:
        if fault:
            warnings.warn(f"{fault}; taking {variant}", ClapEdgeWarning, stacklevel=stacklevel + 1)
        check = VariantCheck(bundle, bundle.file("audio", variant, provider=config.provider), config)
        known = check.recall() if wish.self_check else None
        if known is None or known.holds:
            with ExitStack() as undo:
                towers = _open(bundle, check, config, wish)
                undo.callback(towers.close)
                found = known or (check.measure_audio(towers.alone) if wish.self_check else None)
                if found is None or found.holds:
                    undo.pop_all()
                    return OpenedTowers(wish, towers, config, variant, check)
                known = found
        fault = misses(check.file, config.provider, known)
    advice = "take another precision" if named else "export the bundle again"
    raise ParityError(f"{fault}; {advice}, or use it all the same with self_check=False")


def _open(bundle: Bundle, check: VariantCheck, config: ProviderConfig, wish: TowerWish) -> AudioTowers:
    """Open the sessions of a file."""
    opening = partial(
        AudioTowers,
        provider_config=config,
        threads=wish.threads,
        spinning=wish.spinning,
        front_end=front_end_graph(wish.frontend, bundle, config),
        spare_front_end=wish.frontend == "auto",
    )
    return bundle.opened(check.file, opening)
