"""A bundle and a machine to one archive that installs without a network."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from clapedge.errors import UsageError
from clapedge.kit import selftest
from clapedge.kit.bundle_subset import copy_clips, cut, default_precision
from clapedge.kit.sbom import bill, write_licences
from clapedge.kit.tarball import write_archive, write_checksums
from clapedge.kit.targets import LEAST_GLIBC, TARGETS, Target, TargetName
from clapedge.kit.wheelhouse import Wanted, Wheel, collect, own_constraints, own_wheel, requirements_of
from clapedge.model.bundle import Bundle, Variant

FILES = Path(__file__).parent / "files"
"""What every kit holds as it is: the installer, the units, a word to the reader."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a kit is made of.

    Attributes:
        target: the machine.
        python: its Python, such as 3.11; None means that of the target's system.
        extras: extras of clapedge; one of them brings ONNX Runtime, unless the runtime is given.
        precisions: variants of the audio tower; none given: what `auto` means on the target.
        labels: label sets of the bundle, or label files.
        text: whether the text tower comes along.
        clips: recordings of the self-test; none given: the demo clips.
        engine: wheel of clapedge; None builds it of the checkout.
        runtime: wheel of ONNX Runtime that the machine's vendor built.
        constraints: files that pin versions; none given: the checkout's own.
        find_links: folder of wheels to take instead of those of the package index.
    """

    target: TargetName
    python: str | None = None
    extras: Sequence[str] = ()
    precisions: Sequence[Variant] = ()
    labels: Sequence[str] = ()
    text: bool = False
    clips: Sequence[Path] = ()
    engine: Path | None = None
    runtime: Path | None = None
    constraints: Sequence[Path] = ()
    find_links: Path | None = None


@dataclass(frozen=True)
class Packed:
    """A kit.

    Attributes:
        path: the archive.
        sha256: of the archive.
        bytes: of the archive.
        wheels: bytes of the wheels in it.
        bundle: bytes of the bundle in it.
    """

    path: Path
    sha256: str
    bytes: int
    wheels: int
    bundle: int


def pack(bundle: Bundle, target: Path, options: Options, *, told: Callable[[str], None] = lambda _: None) -> Packed:
    """Make a kit.

    Args:
        bundle: the model, of which the device gets a part.
        target: the archive.
        options: what goes into it.
        told: is told what is being done.

    Raises:
        BundleError: the bundle does not hold what is asked of it.
        UsageError: options contradict each other, or no wheels fit.
        StorageError: the archive cannot be written.
    """
    machine, python, extras = _resolve(options)
    precisions = options.precisions or (default_precision(bundle, gpu=options.runtime is not None or "gpu" in extras),)
    with TemporaryDirectory(prefix="clapedge-kit-") as scratch:
        engine = own_wheel(options.engine, Path(scratch, "engine"))
        kit = Path(scratch, f"clapedge-kit-{Wheel.read(engine).version}-{options.target}-py{python}")
        told("cutting the bundle")
        cut_bundle = cut(bundle, kit / "bundle", precisions=precisions, labels=options.labels, text=options.text)
        told("scoring the clips of the self-test")
        selftest.record(kit, copy_clips(options.clips, kit / "selftest"))
        told("collecting wheels")
        wanted = Wanted(
            target=machine,
            python=python,
            extras=extras,
            constraints=options.constraints or own_constraints(),
            find_links=options.find_links,
            engine=engine,
            runtime=options.runtime,
        )
        wheels = collect(wanted, kit / "wheels")
        told("writing the archive")
        _write_rest(kit, wheels, cut_bundle, wanted, options.target)
        digest = write_archive(kit, target)
        sizes = (sum(path.stat().st_size for path in (kit / part).rglob("*")) for part in ("wheels", "bundle"))
        return Packed(target, digest, target.stat().st_size, *sizes)


def _resolve(options: Options) -> tuple[Target, str, Sequence[str]]:
    """Return the machine, its Python and the extras, or say what contradicts."""
    target = TARGETS[options.target]
    python = options.python or target.python
    if python is None:
        raise UsageError(f"which Python does the {options.target} device have? Name it, for example --python 3.11")
    if target.vendor_runtime and options.runtime is None and not {"cpu"} & set(options.extras):
        raise UsageError(f"{target.vendor_runtime}; --extra cpu makes a kit that leaves the GPU alone")
    if options.runtime is not None and {"cpu", "gpu"} & set(options.extras):
        raise UsageError("--runtime-wheel brings ONNX Runtime, and so do the extras cpu and gpu; leave one of them out")
    if options.runtime is None and not {"cpu", "gpu"} & set(options.extras):
        return target, python, ("cpu", *options.extras)
    return target, python, tuple(options.extras)


def _write_rest(kit: Path, wheels: Sequence[Wheel], bundle: Bundle, wanted: Wanted, target: TargetName) -> None:
    """Write what describes the parts of a kit, and the checksums last."""
    engine = next(wheel for wheel in wheels if wheel.name == "clapedge")
    manifest = bundle.manifest
    facts = {
        "clapedge": engine.version,
        "target": target,
        "machine": wanted.target.machine,
        "python": wanted.python,
        "glibc": f"2.{LEAST_GLIBC}",
        "extras": list(wanted.extras),
        "model": manifest.model,
        "weights": manifest.weights,
        "audio": list(bundle.variants("audio")),
        "text": list(bundle.variants("text")),
        "labels": [file.path for file in bundle.files("labels")],
    }
    (kit / "kit.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (kit / "sbom.cdx.json").write_text(bill(kit.name, engine.version, wheels, bundle), encoding="utf-8")
    (kit / "requirements.txt").write_text(requirements_of(wheels), encoding="utf-8")
    write_licences(wheels, kit / "licences")
    shutil.copyfile(FILES / "install.sh", kit / "install.sh")
    shutil.copyfile(FILES / "README.txt", kit / "README.txt")
    shutil.copytree(FILES / "systemd", kit / "systemd")
    write_checksums(kit)
