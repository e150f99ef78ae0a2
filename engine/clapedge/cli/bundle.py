"""`clapedge bundle`: inspect a bundle, check it, prepare it for a device."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clapedge.cli import log_to_stderr
from clapedge.cli.bundle_transfer import pull, push
from clapedge.cli.bundle_vectors import vectors
from clapedge.cli.hints import report_error
from clapedge.cli.options import parse_provider_options, provider_option
from clapedge.errors import BundleDamagedError, MissingExtraError
from clapedge.terminal import counted, printable

if TYPE_CHECKING:
    from clapedge.model.precision import PrecisionWish
    from clapedge.model.providers import Provider, ProviderWish

KIT_PACKAGES = frozenset({"packaging", "cyclonedx", "packageurl"})
"""Imported by `clapedge.kit.pack`; the extra `kit` installs them."""


@click.group()
def bundle() -> None:
    """Inspect a bundle, check it, prepare it for a device."""


for command in (pull, push, vectors):
    bundle.add_command(command)


@bundle.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def info(directory: str | None, *, as_json: bool) -> None:
    """Show a bundle and its files (DIR, else $CLAPEDGE_BUNDLE, else the built-in demo model).

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
    longer = "fused beyond" if manifest.front_end.fusion else "cut at"
    rows = {
        "bundle": opened.directory,
        "model": f"{manifest.model}{f' at {manifest.revision}' if manifest.revision else ''}",
        "weights": manifest.weights,
        "licence": manifest.licence,
        "input": f"{manifest.front_end.clip_seconds:g} s clips at {manifest.front_end.sample_rate} Hz, {longer} that",
        "embeddings": f"{manifest.embedding_size} numbers, logit scale {manifest.logit_scale:.3f}",
        "spaces": ", ".join(manifest.spaces.values()),
    }
    for name, value in rows.items():
        click.echo(f"{name:11} {printable(str(value))}")
    for file in manifest.files:
        checks = "  ".join(f"{printable(name)} {_figure(value)}" for name, value in file.checks.items())
        click.echo(f"  {printable(file.path):24} {file.bytes / 1e6:8.1f} MB  {checks}".rstrip())
    for note in manifest.notes:
        click.echo(f"note: {printable(note)}")


def _figure(value: float) -> str:
    """Return a figure with three digits, or with as many as a cosine below 1 needs not to be rounded to 1."""
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
        report_error(fault)
    if faults:
        raise BundleDamagedError(f"{faults[0]}; copy the bundle again, or export it again")
    click.echo(
        f"{printable(str(opened.directory))}: {counted(len(opened.manifest.files), 'file')}, as the manifest says"
    )


@bundle.command()
@click.argument("directory", metavar="DIR", type=click.Path())
def prove(directory: str) -> None:
    """Add to a bundle what its float32 towers give for a few inputs, so that its variants can be checked anywhere.

    The export does it by itself; this is for bundles that were exported before. Run it where the bundle was exported.

    \b
    Example:
      clapedge bundle prove bundles/clap-htsat-fused
    """  # noqa: D301 - click reads the control character
    from clapedge.model.bundle import Bundle
    from clapedge.model.proving import prove as add_proof

    opened = add_proof(Bundle.open(directory))
    click.echo(f"{printable(str(opened.directory))}: its variants are checked on every machine that opens them")


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

    They are kept in the cache ($CLAPEDGE_CACHE, else the user's cache directory) and serve this GPU only. Other
    options of the provider need engines of their own.

    \b
    Example:
      clapedge bundle compile bundles/clap-htsat-fused --provider tensorrt
    """  # noqa: D301 - click reads the control character
    from clapedge.model.bundle import Bundle
    from clapedge.model.gpu_tower import BUCKETS
    from clapedge.model.precision import preferred_variant
    from clapedge.model.providers import choose
    from clapedge.model.tensorrt import build

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
@click.option("--extra", "extras", multiple=True, help="Extra of clapedge to include; repeats. [default: cpu]")
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
@click.option("--text", is_flag=True, help="Include the text tower, for labels that are chosen later.")
@click.option(
    "--clip", "clips", multiple=True, type=click.Path(path_type=Path), help="Recording of the self-test; repeats."
)
@click.option("--wheel", type=click.Path(path_type=Path), help="Wheel of clapedge. [default: the one that packs]")
@click.option("--runtime-wheel", type=click.Path(path_type=Path), help="Wheel of ONNX Runtime that the vendor built.")
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
    help="Take wheels from this folder only, not from the network.",
)
@click.option("--force", is_flag=True, help="Replace the archive.")
def pack(directory: str, *, output: Path, force: bool, **options: Any) -> None:  # noqa: ANN401 - click's values, checked by it
    """Pack bundle DIR and all that it needs into one archive that installs on a device without a network.

    Wheels come from the package index of pip. Prints the archive's SHA-256: compare it on the device.

    \b
    Examples:
      clapedge bundle pack bundles/clap-htsat-fused -o kit.tar.gz --target linux-aarch64 --python 3.11
      clapedge bundle pack bundles/shop -o jetson.tar.gz --target jetson-jp6 --precision fp16 \\
        --runtime-wheel onnxruntime_gpu-1.23.0-cp310-cp310-linux_aarch64.whl
    """  # noqa: D301 - click reads the control character
    from clapedge.atomic_file import check_target
    from clapedge.model.bundle import Bundle

    try:
        from clapedge.kit import pack as packing
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in KIT_PACKAGES:
            raise MissingExtraError("bundle pack", "kit") from error
        raise
    check_target(output, force=force)
    if sys.stderr.isatty():
        log_to_stderr()
    kit = packing.pack(Bundle.open(directory), output, packing.KitOptions(**options))
    parts = f"wheels {kit.wheels / 1e6:.1f} MB, bundle {kit.bundle / 1e6:.1f} MB"
    click.echo(f"{kit.path}: {kit.bytes / 1e6:.1f} MB ({parts})", err=True)
    click.echo(f"{kit.sha256}  {kit.path}")


@bundle.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@provider_option
@click.option("--json", "as_json", is_flag=True, help="Print the comparisons as JSON.")
def selftest(directory: Path, *, provider: "ProviderWish", as_json: bool) -> None:
    """Score the clips of a kit (DIR: unpacked or installed) and compare with the record; exit 3 if one differs.

    \b
    Example:
      clapedge bundle selftest /opt/clapedge/current
    """  # noqa: D301 - click reads the control character
    from clapedge.kit.selftest import compare

    began = time.perf_counter()
    comparisons = []
    for one in compare(directory, provider=provider):
        comparisons.append(one)
        line = f"{one.variant} on {one.provider}  {one.file:24} {one.top:20}"
        figures = f"cosine {one.cosine:.6f}  largest difference {one.difference:.1e}  {one.seconds:6.2f} s"
        if not as_json:
            click.echo(f"{'ok ' if one.holds else 'bad'} {line} {figures}")
    if as_json:
        click.echo(json.dumps([asdict(one) for one in comparisons], indent=2))
    failed = dict.fromkeys(one.file for one in comparisons if not one.holds)
    if failed:
        names = ", ".join(failed)
        raise BundleDamagedError(f"{names}: not as recorded; do not trust scores of this machine, see clapedge doctor")
    click.echo(f"as recorded, in {time.perf_counter() - began:.1f} s", err=True)
