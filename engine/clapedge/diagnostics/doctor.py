"""What works on this device, and why the rest does not."""

import platform
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from itertools import islice
from typing import get_args

import numpy as np

from clapedge.arrays import Float32Array
from clapedge.diagnostics.cuda import check_cuda
from clapedge.diagnostics.finding import Finding
from clapedge.engine import Engine
from clapedge.errors import BundleError, ClapEdgeWarning, ProviderError
from clapedge.model.bundle import Bundle, Variant
from clapedge.model.collapse import likeness
from clapedge.model.cpu import usable_cores
from clapedge.model.plugins import ANY
from clapedge.model.precision import PREFERRED
from clapedge.model.proof_inputs import PROMPTS, recordings
from clapedge.model.providers import Provider, installed_packages, unavailable_reason

PACKAGES = ("clapedge", "numpy", "soxr", "soundfile", "tokenizers", "msgspec", "click", "av")
"""Packages that are looked for; only the last is optional."""

SHORT_RECORDINGS = 3
"""Recordings of a proof that differ within their first 10 s; the one after them begins with the last of these."""


@dataclass(frozen=True)
class Diagnosis:
    """Findings about packages and machine, the bundle, every provider, and every variant where it runs."""

    packages: tuple[Finding, ...]
    bundle: tuple[Finding, ...]
    providers: tuple[Finding, ...]
    variants: tuple[Finding, ...]


def diagnose(bundle: str | None = None) -> Diagnosis:
    """Examine this device.

    Args:
        bundle: directory of a bundle; None means that of `Engine.load`.
    """
    providers = tuple(_check_provider(provider, bundle) for provider in get_args(Provider) if provider != ANY)
    return Diagnosis(
        packages=(*_check_packages(), _check_runtime(), *check_cuda()),
        bundle=_check_bundle(bundle),
        providers=providers,
        variants=tuple(_check_variants(bundle)),
    )


def _check_packages() -> list[Finding]:
    """Report Python, the machine and the packages."""
    findings = [
        Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        Finding("cores", "ok", f"{usable_cores()} usable"),
    ]
    for name in PACKAGES:
        try:
            findings.append(Finding(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            if name == "av":
                detail = "not installed: M4A, WebM and the like cannot be read; pip install 'clapedge[formats]'"
                findings.append(Finding(name, "off", detail))
            else:
                findings.append(Finding(name, "bad", f"not installed; pip install {name}"))
    return findings


def _check_runtime() -> Finding:
    """Report which ONNX Runtime packages are installed, and whether they overwrite each other."""
    packages = installed_packages()
    versions = ", ".join(f"{name} {version}" for name, version in packages.items()) or "built by hand, no package"
    if len(packages) > 1:
        fix = f"they overwrite each other's files; run: pip uninstall -y {' '.join(packages)}, then install one of them"
        return Finding("onnxruntime packages", "bad", f"{versions}: {fix}")
    return Finding("onnxruntime packages", "ok", versions)


def _check_bundle(directory: str | None) -> tuple[Finding, ...]:
    """Report the bundle, and each of its files that differs from its manifest."""
    try:
        bundle = Bundle.open(directory)
    except BundleError as error:
        return (Finding("bundle", "bad", str(error)),)
    faults = bundle.faults()
    if faults:
        return tuple(Finding("bundle", "bad", fault) for fault in faults)
    manifest, variants = bundle.manifest, ", ".join(bundle.variants("audio"))
    detail = f"{bundle.directory}: {manifest.model}, {manifest.weights} weights, {variants}"
    spaces = (Finding("embedding space", "ok", space) for space in manifest.spaces.values())
    return (Finding("bundle", "ok", detail), *spaces, *_check_towers(bundle))


def _check_towers(bundle: Bundle) -> Iterator[Finding]:
    """Yield whether the towers, and stored label sets, distinguish different inputs: a collapsed model does not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClapEdgeWarning)  # of weights and variants that other findings name
            engine = Engine.load(bundle.directory, prompt_cache=False, self_check=False)
    except (BundleError, ProviderError):
        return  # which is the finding of a provider
    with engine:
        sounds = list(islice(recordings(bundle.manifest.front_end), SHORT_RECORDINGS))
        yield _check_distinction("audio tower", partial(engine.embed_audio, sounds))
        if bundle.files("text"):
            yield _check_distinction("text tower", partial(engine.embed_text, PROMPTS))
        for name in bundle.label_sets:
            yield _check_distinction(f"labels {name}", partial(_stored_embeddings, engine, name))


def _stored_embeddings(engine: Engine, name: str) -> Float32Array:
    """Return the embeddings of a label set of the bundle."""
    return engine.stored_labels(name).embeddings


def _check_distinction(name: str, embed: Callable[[], Float32Array]) -> Finding:
    """Report how alike the embeddings of different inputs are."""
    try:
        alike = likeness(embed())
    except (BundleError, ProviderError) as error:
        return Finding(name, "bad", str(error))
    if alike.fault:
        return Finding(name, "bad", f"{alike.fault}, so scores mean nothing; export another checkpoint")
    return Finding(name, "ok", f"distinguishes {alike.count} inputs: their highest cosine is {alike.highest:.3f}")


def _check_provider(provider: Provider, directory: str | None) -> Finding:
    """Report whether a session really opens and runs on a provider, by embedding a second of silence."""
    name = f"provider {provider}"
    reason = unavailable_reason(provider)
    if reason:
        return Finding(name, "off", reason)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClapEdgeWarning)  # of silence, and of weights that the report names
            with Engine.load(directory, provider=provider, self_check=False) as engine:
                engine.embed_audio([np.zeros(48_000, np.float32)])
                return Finding(name, "ok", f"a session opens and runs ({engine.variant})")
    except (BundleError, ProviderError) as error:
        return Finding(name, "bad", str(error))


def _check_variants(directory: str | None) -> Iterator[Finding]:
    """Yield whether each audio tower reproduces its model here, on every provider that runs it."""
    try:
        bundle = Bundle.open(directory)
    except BundleError:  # which is a finding already
        return
    if bundle.manifest.proof is None:
        yield Finding(
            "self-check",
            "off",
            "the bundle carries no embeddings to compare with; where it was exported, run: clapedge bundle prove DIR",
        )
        return
    for provider in get_args(Provider):
        if unavailable_reason(provider) is None:
            present = bundle.variants("audio")
            yield from (_check_variant(bundle, provider, each) for each in PREFERRED[provider] if each in present)


def _check_variant(bundle: Bundle, provider: Provider, variant: Variant) -> Finding:
    """Report whether an audio tower reproduces its model on a provider."""
    name = f"{variant} on {provider}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ClapEdgeWarning)
            with Engine.load(bundle.directory, provider=provider, precision=variant, self_check=False) as engine:
                found = engine.check_variant()
    except (BundleError, ProviderError) as error:
        return Finding(name, "bad", str(error))
    if found is None:
        return Finding(name, "off", "this version cannot make the inputs that the bundle was checked with; upgrade")
    if found.holds:
        return Finding(name, "ok", f"reproduces its model: {found}")
    return Finding(name, "bad", f"does not reproduce its model here: {found}; auto takes another")
