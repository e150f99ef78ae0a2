"""`clapedge bundle`: look into a bundle, check it, prepare it for a device."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from clapedge.cli.options import parse_provider_options
from clapedge.errors import BundleDamagedError

if TYPE_CHECKING:
    from clapedge.providers import Provider
    from clapedge.variants import PrecisionWish


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
    import msgspec  # noqa: PLC0415 - keeps --help fast

    from clapedge.bundle import Bundle  # noqa: PLC0415 - keeps --help fast

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
        "hears": f"{manifest.front_end.clip_seconds:g} s clips at {manifest.front_end.sampling_rate} Hz, {hears} that",
        "embeddings": f"{manifest.embedding_size} numbers, logit scale {manifest.logit_scale:.3f}",
    }
    for name, value in rows.items():
        click.echo(f"{name:11} {value}")
    for file in manifest.files:
        checks = "  ".join(f"{name} {value:.3g}" for name, value in file.checks.items())
        click.echo(f"  {file.path:24} {file.bytes / 1e6:8.1f} MB  {checks}".rstrip())
    for note in manifest.notes:
        click.echo(f"note: {note}")


@bundle.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path())
def verify(directory: str | None) -> None:
    """Check every file of a bundle against its manifest (size and SHA-256); exit 3 if one differs.

    \b
    Example:
      clapedge bundle verify bundles/clap-htsat-fused
    """  # noqa: D301 - click reads the control character
    from clapedge.bundle import Bundle  # noqa: PLC0415 - keeps --help fast

    opened = Bundle.open(directory)
    faults = opened.faults()
    for fault in faults[1:]:
        click.echo(f"error: {fault}", err=True)
    if faults:
        raise BundleDamagedError(f"{faults[0]}; copy the bundle again, or export it again")
    click.echo(f"{opened.directory}: {len(opened.manifest.files)} files are as the manifest says")


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
    from clapedge.bundle import Bundle  # noqa: PLC0415 - keeps --help fast
    from clapedge.providers import choose  # noqa: PLC0415
    from clapedge.tensorrt import build  # noqa: PLC0415
    from clapedge.towers import BUCKETS  # noqa: PLC0415
    from clapedge.variants import preferred_variant  # noqa: PLC0415

    opened = Bundle.open(directory)
    plan = choose(provider, options=parse_provider_options(provider_options))
    variant = preferred_variant(opened, "audio", provider) if precision == "auto" else precision
    model = opened.path(opened.file("audio", variant))
    for number, batch in enumerate(sorted(BUCKETS), start=1):
        if sys.stderr.isatty():
            click.echo(f"building {variant} for batches of {batch} ({number} of {len(BUCKETS)}) ...", err=True)
        began = time.perf_counter()
        path = build(model, plan, batch=batch)
        click.echo(f"batch {batch:2}  {time.perf_counter() - began:6.1f} s  {path}")
