"""`clapedge bundle pull` and `bundle push`: a bundle from elsewhere, and to elsewhere."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from clapedge.errors import UsageError
from clapedge.terminal import counted, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clapedge.model.bundle import Variant


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where to put it. [default for hf: the cache, where --bundle SOURCE finds it]",
)
@click.option("--revision", help="Branch, tag or commit of a repository.")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Take this precision alone; repeats. [default: all]",
)
@click.option("--no-text", is_flag=True, help="Leave out the text tower: labels are those of the bundle's sets.")
@click.option("--sha256", metavar="HEX", help="SHA-256 that an archive must have, as bundle pack prints it.")
@click.option("--list", "only_list", is_flag=True, help="Show what would be fetched, and stop.")
@click.option("--force", is_flag=True, help="Replace a bundle at DIR.")
def pull(
    source: str,
    *,
    output: Path | None,
    revision: str | None,
    variants: "Sequence[Variant]",
    no_text: bool,
    sha256: str | None,
    only_list: bool,
    force: bool,
) -> None:
    """Fetch a bundle, or bring the kept copy of a repository up to date.

    SOURCE is a repository of the Hugging Face hub (hf:ORG/NAME), the https address of a packed bundle (.tar.gz), or
    such a file. A download that breaks off goes on where it was when the command is run again. Every file is
    checked before the bundle appears.

    \b
    Examples:
      clapedge bundle pull hf:someone/clap-htsat-fused --variant int8
      clapedge bundle pull hf:someone/clap-htsat-fused --list
      clapedge bundle pull https://example.org/kit.tar.gz -o bundles/shop
    """  # noqa: D301 - click reads the control character
    from clapedge.model.transfer import pull as pulling

    if only_list:
        _list(source, revision=revision, variants=variants, text=not no_text)
        return
    bundle = pulling.pull(
        source, output, revision=revision, sha256=sha256, variants=variants, text=not no_text, force=force
    )
    size = sum(file.bytes for file in bundle.manifest.files)
    count = counted(len(bundle.manifest.files), "file")
    click.echo(f"{printable(str(bundle.directory))}: {count}, {size / 1e6:.1f} MB, as the manifest says")


def _list(source: str, *, revision: str | None, variants: "Sequence[Variant]", text: bool) -> None:
    """Print the files of a bundle, and which of them would be fetched."""
    from clapedge.model.transfer.download import Download
    from clapedge.model.transfer.pull import MAX_BYTES, listing

    if "://" in source:
        download = Download(url=source, limit=MAX_BYTES)
        size = download.check()
        known = "of unknown size" if size is None else f"of {size / 1e6:.1f} MB"
        click.echo(f"{printable(download.name)}: one archive {known}, which is fetched as a whole")
        return
    with TemporaryDirectory(prefix="clapedge-pull-") as scratch:
        found = listing(source, Path(scratch), revision=revision, variants=variants, text=text)
    for mark, files in (("fetch", found.chosen), ("leave", found.left_out)):
        for file in files:
            click.echo(f"{mark}  {file.bytes / 1e6:8.1f} MB  {printable(file.path)}")
    click.echo(f"{sum(file.bytes for file in found.chosen) / 1e6:.1f} MB of {printable(found.model)} to fetch")


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path())
@click.argument("repository", metavar="hf:ORG/NAME")
@click.option("--private", is_flag=True, help="Make a new repository private.")
@click.option("--message", help="Of the commit.")
def push(directory: str, repository: str, *, private: bool, message: str | None) -> None:
    """Put bundle DIR into a repository of the Hugging Face hub, in one commit; the repository is made if need be.

    The token is that of HF_TOKEN or of `hf auth login`. See to it that the licence of the weights allows it.

    \b
    Example:
      clapedge bundle push bundles/clap-htsat-fused hf:someone/clap-htsat-fused
    """  # noqa: D301 - click reads the control character
    from clapedge.model.bundle import Bundle
    from clapedge.model.transfer import hub

    if directory.startswith(hub.PREFIX):
        raise UsageError(f"{directory} is a repository; name the directory of a bundle first")
    target = hub.Repository.parse(repository)
    commit = hub.push(Bundle.open(directory), target, private=private, message=message)
    click.echo(f"{target} is at {commit}; fetch it with: clapedge bundle pull {target}@{commit}")
