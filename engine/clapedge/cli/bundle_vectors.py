"""`clapedge bundle vectors`: what a port to another language is compared with."""

from pathlib import Path

import click

from clapedge.terminal import printable


@click.command()
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path())
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), metavar="FILE.npz", help="The file to write."
)
@click.option("--force", is_flag=True, help="Replace the file.")
def vectors(directory: str | None, *, output: Path, force: bool) -> None:
    """Write test vectors of a bundle: recordings by a formula, log-mels, embeddings and scores of every variant.

    A port to another language that reproduces them has the same embedding space. The file describes itself
    (its member vectors.json); every language that reads zip archives, JSON and NumPy's arrays reads it.

    \b
    Example:
      clapedge bundle vectors bundles/clap-htsat-fused -o clap-htsat-fused.npz
    """  # noqa: D301 - click reads the control character
    from clapedge.atomic_file import check_target
    from clapedge.kit.vectors import write_vectors
    from clapedge.model.bundle import Bundle

    check_target(output, force=force, suffixes=(".npz",))
    opened = Bundle.open(directory)
    names = write_vectors(opened, output)
    spaces = ", ".join(opened.manifest.spaces.values())
    click.echo(f"{printable(str(output))}: {output.stat().st_size / 1e6:.1f} MB, {', '.join(names)} in {spaces}")
