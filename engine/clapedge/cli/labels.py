"""`clapedge labels`: prepare label sets."""

from collections.abc import Sequence
from pathlib import Path

import click

from clapedge.cli.options import label_options, read_labels
from clapedge.errors import UsageError


@click.group()
def labels() -> None:
    """Prepare label sets."""


@labels.command()
@label_options
@click.option("-o", "--output", required=True, type=click.Path(), help="Where to write, ending in .npz.")
@click.option("--bundle", type=click.Path(), help="Bundle whose text tower embeds; the default is that of score.")
def embed(
    *, words: Sequence[str], label_file: str | None, template: str | None, output: str, bundle: str | None
) -> None:
    """Embed a label set once, so that a device needs no text tower to score with it.

    \b
    Examples:
      clapedge labels embed --labels labels/kitchen.toml -o kitchen.npz
      clapedge labels embed -l "dog barking,rain" -o outside.npz --bundle bundles/clap-htsat-fused
    """  # noqa: D301 - click reads the control character
    from clapedge.engine import Engine  # noqa: PLC0415 - keeps --help fast

    target = Path(output)
    if target.suffix != ".npz":
        raise UsageError(f"{output} does not end in .npz; name the file NAME.npz")
    if not target.parent.is_dir():
        raise UsageError(f"directory {target.parent} does not exist; make it first")
    embedded = read_labels(lambda: Engine.load(bundle), words, label_file, template)
    embedded.save(target)
    click.echo(f"{target}: {len(embedded.label_set.labels)} labels, {len(embedded.label_set.prompts)} prompts")
