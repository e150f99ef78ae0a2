"""`clapedge bundle`: look into a bundle and check it."""

import sys

import click

from clapedge.errors import BundleDamagedError


@click.group()
def bundle() -> None:
    """Look into a bundle and check it."""


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
