"""A bundle and a target machine to one archive that installs without a network."""

import json
import logging
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from clapedge.errors import ClapEdgeWarning, UsageError
from clapedge.kit import selftest
from clapedge.kit.bundle_subset import copy_clips, copy_subset, default_precision
from clapedge.kit.sbom import sbom, write_licences
from clapedge.kit.tarball import write_archive, write_checksums
from clapedge.kit.targets import MIN_GLIBC, TARGETS, Target, TargetName
from clapedge.kit.wheel import Wheel
from clapedge.kit.wheelhouse import (
    WheelRequest,
    checkout_constraints,
    collect_wheels,
    engine_wheel,
    requirements_of,
)
from clapedge.model.bundle import Bundle, Variant

log = logging.getLogger(__name__)

FILES = Path(__file__).parent / "files"
"""Files that every kit contains unchanged: the installer, the units, a README."""


@dataclass(frozen=True, kw_only=True)
class KitOptions:
    """What a kit contains.

    Attributes:
        target: the machine.
        python: its Python, such as 3.11; None means that of the target's system.
        extras: extras of clapedge; one of them brings ONNX Runtime, unless its wheel is given.
        precisions: variants of the audio tower; empty means what `auto` means on the target.
        labels: label sets of the bundle, or label files.
        text: whether to include the text tower.
        clips: recordings of the self-test; empty means the demo clips.
        wheel: wheel of clapedge; None builds it from the checkout.
        runtime_wheel: wheel of ONNX Runtime that the vendor of the machine built.
        constraints: files that pin versions; empty means the checkout's own.
        find_links: folder of wheels that replaces the package index.
    """

    target: TargetName
    python: str | None = None
    extras: Sequence[str] = ()
    precisions: Sequence[Variant] = ()
    labels: Sequence[str] = ()
    text: bool = False
    clips: Sequence[Path] = ()
    wheel: Path | None = None
    runtime_wheel: Path | None = None
    constraints: Sequence[Path] = ()
    find_links: Path | None = None


@dataclass(frozen=True)
class Kit:
    """A packed kit.

    Attributes:
        path: the archive.
        sha256: of the archive.
        bytes: size of the archive.
        wheels: size of the wheels in it, in bytes.
        bundle: size of the bundle in it, in bytes.
    """

    path: Path
    sha256: str
    bytes: int
    wheels: int
    bundle: int


def pack(bundle: Bundle, target: Path, options: KitOptions) -> Kit:
    """Make a kit; the steps are logged.

    Args:
        bundle: the model, of which the device gets a part.
        target: the archive.
        options: what goes into it.

    Raises:
        BundleError: the bundle lacks a requested part.
        UsageError: options contradict each other, or no wheels fit.
        StorageError: the archive cannot be written.
    """
    machine, python, extras = _resolve(options)
    gpu = options.runtime_wheel is not None or "gpu" in extras
    precisions = options.precisions or (default_precision(bundle, gpu=gpu),)
    with TemporaryDirectory(prefix="clapedge-kit-") as scratch:
        engine = engine_wheel(options.wheel, Path(scratch, "engine"))
        kit = Path(scratch, f"clapedge-kit-{Wheel.read(engine).version}-{options.target}-py{python}")
        log.info("copying the bundle ...")
        subset = copy_subset(bundle, kit / "bundle", precisions=precisions, labels=options.labels, text=options.text)
        log.info("scoring the clips of the self-test ...")
        selftest.record(kit, copy_clips(options.clips, kit / "selftest"))
        log.info("collecting wheels ...")
        constraints = options.constraints or checkout_constraints()
        if not constraints and not options.find_links:
            warnings.warn(
                "no versions are pinned, so the newest are taken; name those that were tested: "
                'constraints="constraints.txt" of the checkout',
                ClapEdgeWarning,
                stacklevel=2,
            )
        request = WheelRequest(
            target=machine,
            python=python,
            extras=extras,
            constraints=constraints,
            find_links=options.find_links,
            engine=engine,
            runtime=options.runtime_wheel,
        )
        wheels = collect_wheels(request, kit / "wheels")
        log.info("writing the archive ...")
        _describe(kit, wheels, subset, request, options.target)
        digest = write_archive(kit, target)
        sizes = (sum(path.stat().st_size for path in (kit / part).rglob("*")) for part in ("wheels", "bundle"))
        return Kit(target, digest, target.stat().st_size, *sizes)


def _resolve(options: KitOptions) -> tuple[Target, str, Sequence[str]]:
    """Return the machine, its Python and the extras; raise if options contradict each other."""
    target = TARGETS[options.target]
    python = options.python or target.python
    if python is None:
        raise UsageError(f'which Python does the {options.target} device have? Name it, for example python="3.11"')
    if target.vendor_runtime and options.runtime_wheel is None and not {"cpu"} & set(options.extras):
        raise UsageError(f"{target.vendor_runtime}; the extra cpu makes a kit that does not use the GPU")
    if options.runtime_wheel is not None and {"cpu", "gpu"} & set(options.extras):
        raise UsageError(
            "the runtime wheel brings ONNX Runtime, and so do the extras cpu and gpu; leave one of them out"
        )
    if options.runtime_wheel is None and not {"cpu", "gpu"} & set(options.extras):
        return target, python, ("cpu", *options.extras)
    return target, python, tuple(options.extras)


def _describe(kit: Path, wheels: Sequence[Wheel], bundle: Bundle, request: WheelRequest, target: TargetName) -> None:
    """Write the files that describe a kit, then those that every kit contains, and the checksums last."""
    engine = next(wheel for wheel in wheels if wheel.name == "clapedge")
    manifest = bundle.manifest
    facts = {
        "clapedge": engine.version,
        "target": target,
        "machine": request.target.machine,
        "python": request.python,
        "glibc": f"2.{MIN_GLIBC}",
        "extras": list(request.extras),
        "model": manifest.model,
        "weights": manifest.weights,
        "audio": list(bundle.variants("audio")),
        "text": list(bundle.variants("text")),
        "labels": [file.path for file in bundle.files("labels")],
    }
    (kit / "kit.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (kit / "sbom.cdx.json").write_text(sbom(kit.name, engine.version, wheels, bundle), encoding="utf-8")
    (kit / "requirements.txt").write_text(requirements_of(wheels), encoding="utf-8")
    write_licences(wheels, kit / "licences")
    shutil.copyfile(FILES / "install.sh", kit / "install.sh")
    shutil.copyfile(FILES / "README.txt", kit / "README.txt")
    shutil.copytree(FILES / "systemd", kit / "systemd")
    write_checksums(kit)
