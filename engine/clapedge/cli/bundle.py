"""`clapedge bundle`: look into a bundle, check it, prepare it for a device."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clapedge.cli.options import parse_provider_options, provider_option
from clapedge.errors import BundleDamagedError, MissingExtraError
from clapedge.terminal import counted, printable

if TYPE_CHECKING:
    from clapedge.kit.pack import Options, Packed
    from clapedge.model.precision import PrecisionWish
    from clapedge.model.providers import Provider, ProviderWish


@click.group()
def bundle() -> None:
    """Look into a bundle, check it, prepare it for a device."""


@bundle.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def info(directory: str | None, *, as_json: bool) -> None:
    """Show what a bundle is and holds (DIR, else $CLAPEDGE_BUNDLE, else the built-in demo model).

    \b
    Examples:
      clapedge bundle info
      clapedge bundle info bundles/clap-htsat-fused --json
    """  # noqa: D301 - click reads the control character
    import msgspec

    from clapedge.model.bundle import Bundle

    opened = Bundle.open(directory)
    manifest = opened.manifest
    if as_json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        return
    hears = "fused beyond" if manifest.front_end.fusion else "cut at"
    rows = {
        "bundle": opened.directory,
        "model": f"{manifest.model}{f' at {manifest.revision}' if manifest.revision else ''}",
        "weights": manifest.weights,
        "licence": manifest.licence,
        "hears": f"{manifest.front_end.clip_seconds:g} s clips at {manifest.front_end.sample_rate} Hz, {hears} that",
        "embeddings": f"{manifest.embedding_size} numbers, logit scale {manifest.logit_scale:.3f}",
    }
    for name, value in rows.items():
        click.echo(f"{name:11} {printable(str(value))}")
    for file in manifest.files:
        checks = "  ".join(f"{printable(name)} {_figure(value)}" for name, value in file.checks.items())
        click.echo(f"  {printable(file.path):24} {file.bytes / 1e6:8.1f} MB  {checks}".rstrip())
    for note in manifest.notes:
        click.echo(f"note: {printable(note)}")


def _figure(value: float) -> str:
    """Return a figure with three digits, or as many as keep a cosine below 1 from being rounded to it."""
    digits = next((count for count in range(3, 17) if value == 1 or float(f"{value:.{count}g}") != 1), 17)
    return f"{value:.{digits}g}"


@bundle.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path())
def verify(directory: str | None) -> None:
    """Check every file of a bundle against its manifest (size and SHA-256); exit 3 if one differs.

    \b
    Example:
      clapedge bundle verify bundles/clap-htsat-fused
    """  # noqa: D301 - click reads the control character
    from clapedge.model.bundle import Bundle

    opened = Bundle.open(directory)
    faults = opened.faults()
    for fault in faults[1:]:
        click.echo(f"error: {printable(fault)}", err=True)
    if faults:
        raise BundleDamagedError(f"{faults[0]}; copy the bundle again, or export it again")
    click.echo(
        f"{printable(str(opened.directory))}: {counted(len(opened.manifest.files), 'file')}, as the manifest says"
    )


@bundle.command("compile")
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path())
@click.option("--provider", type=click.Choice(["tensorrt"]), required=True, help="Whose engines to build.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "fp16"]),
    default="auto",
    show_default=True,
    help="Variant of the audio tower; auto takes fp16 where it is present.",
)
@click.option(
    "--provider-option", "provider_options", multiple=True, metavar="KEY=VALUE", help="ONNX Runtime option; repeats."
)
def compile_engines(
    directory: str | None, *, provider: "Provider", precision: "PrecisionWish", provider_options: Sequence[str]
) -> None:
    """Build a provider's engines on this device, so that no later start waits for it.

    They are kept in the cache ($CLAPEDGE_CACHE, else the user's cache directory) and serve this GPU alone. A score
    with other options of the provider needs engines of its own.

    \b
    Example:
      clapedge bundle compile bundles/clap-htsat-fused --provider tensorrt
    """  # noqa: D301 - click reads the control character
    from clapedge.model.bundle import Bundle
    from clapedge.model.precision import preferred_variant
    from clapedge.model.providers import choose
    from clapedge.model.tensorrt import build
    from clapedge.model.towers import BUCKETS

    opened = Bundle.open(directory)
    provider_config = choose(provider, options=parse_provider_options(provider_options))
    variant = preferred_variant(opened, "audio", provider) if precision == "auto" else precision
    model = opened.path(opened.file("audio", variant))
    for number, batch in enumerate(sorted(BUCKETS), start=1):
        if sys.stderr.isatty():
            click.echo(f"building {variant} for batches of {batch} ({number} of {len(BUCKETS)}) ...", err=True)
        began = time.perf_counter()
        path = build(model, provider_config, batch=batch)
        click.echo(f"batch {batch:2}  {time.perf_counter() - began:6.1f} s  {path}")


@bundle.command()
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="KIT.tar.gz", help="The archive to write."
)
@click.option(
    "--target",
    type=click.Choice(["linux-x86_64", "linux-aarch64", "jetson-jp6", "jetson-jp7"]),
    required=True,
    help="The machine.",
)
@click.option("--python", metavar="VERSION", help="Its Python, such as 3.11. [default: that of the target's system]")
@click.option("--extra", "extras", multiple=True, help="Extra of clapedge to bring along; repeats. [default: cpu]")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Variant of the audio tower; repeats. [default: what auto takes on the target]",
)
@click.option(
    "--labels",
    multiple=True,
    metavar="NAME|FILE",
    help="Label set: one of the bundle, a file, or one that comes with clapedge; repeats.",
)
@click.option("--text", is_flag=True, help="Bring the text tower, for words that nobody thought of yet.")
@click.option(
    "--clip", "clips", multiple=True, type=click.Path(path_type=Path), help="Recording of the self-test; repeats."
)
@click.option("--wheel", "engine", type=click.Path(path_type=Path), help="Wheel of clapedge. [default: built here]")
@click.option(
    "--runtime-wheel", "runtime", type=click.Path(path_type=Path), help="ONNX Runtime as the vendor built it."
)
@click.option(
    "--constraint",
    "constraints",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File that pins versions, as for pip; repeats.",
)
@click.option(
    "--find-links",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take wheels from this folder alone, not from the network.",
)
@click.option("--force", is_flag=True, help="Replace the archive.")
def pack(directory: str, *, output: Path, force: bool, **options: Any) -> None:  # noqa: ANN401 - click's values, checked by it
    """Pack bundle DIR and all that it needs into one archive, which installs on a device without a network.

    Wheels come from the package index that pip uses. Prints the archive's SHA-256: compare it on the device.

    \b
    Examples:
      clapedge bundle pack bundles/clap-htsat-fused -o kit.tar.gz --target linux-aarch64 --python 3.11
      clapedge bundle pack bundles/shop -o jetson.tar.gz --target jetson-jp6 --precision fp16 \\
        --runtime-wheel onnxruntime_gpu-1.23.0-cp310-cp310-linux_aarch64.whl
    """  # noqa: D301 - click reads the control character
    from clapedge.atomic_file import check_target
    from clapedge.model.bundle import Bundle

    make, made_of = _packing()
    check_target(output, force=force)
    told = (lambda doing: click.echo(f"{doing} ...", err=True)) if sys.stderr.isatty() else (lambda _: None)
    packed = make(Bundle.open(directory), output, made_of(**options), told=told)
    parts = f"wheels {packed.wheels / 1e6:.1f} MB, bundle {packed.bundle / 1e6:.1f} MB"
    click.echo(f"{packed.path}: {packed.bytes / 1e6:.1f} MB ({parts})", err=True)
    click.echo(f"{packed.sha256}  {packed.path}")


@bundle.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@provider_option
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def selftest(directory: Path, *, provider: "ProviderWish", as_json: bool) -> None:
    """Score the clips of a kit (DIR: unpacked or installed) and compare with the record; exit 3 if one differs.

    \b
    Example:
      clapedge bundle selftest /opt/clapedge/current
    """  # noqa: D301 - click reads the control character
    from clapedge.kit.selftest import compare

    began = time.perf_counter()
    findings = []
    for found in compare(directory, provider=provider):
        findings.append(found)
        line = f"{found.variant} on {found.provider}  {found.file:24} {found.top:20}"
        figures = f"cosine {found.cosine:.6f}  largest difference {found.difference:.1e}  {found.seconds:6.2f} s"
        if not as_json:
            click.echo(f"{'ok ' if found.holds else 'bad'} {line} {figures}")
    if as_json:
        click.echo(json.dumps([asdict(found) for found in findings], indent=2))
    failed = dict.fromkeys(found.file for found in findings if not found.holds)
    if failed:
        names = ", ".join(failed)
        raise BundleDamagedError(f"{names}: not as recorded; do not trust scores of this machine, see clapedge doctor")
    click.echo(f"as recorded, in {time.perf_counter() - began:.1f} s", err=True)


def _packing() -> tuple[Callable[..., "Packed"], type["Options"]]:
    """Import what packs, or name the extra that it needs."""
    try:
        from clapedge.kit.pack import Options, pack
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "packaging":
            raise MissingExtraError("bundle pack", "kit") from error
        raise
    return pack, Options
