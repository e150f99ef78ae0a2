"""`clapedge labels`: prepare label sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clapedge.cli.hints import note
from clapedge.cli.options import label_options, read_labels
from clapedge.cli.progress import StepProgress
from clapedge.terminal import counted, printable

if TYPE_CHECKING:
    from clapedge.arrays import Float32Array
    from clapedge.labels import EmbeddedLabels, LabelSet
    from clapedge.labels.lint import Advice


@click.group()
def labels() -> None:
    """Prepare label sets."""


@labels.command()
@label_options
@click.option("-o", "--output", required=True, type=click.Path(), help="Where to write, ending in .npz.")
@click.option("--force", is_flag=True, help="Replace the file.")
@click.option("--bundle", type=click.Path(), help="Bundle whose text tower embeds; the default is that of score.")
def embed(
    *, words: Sequence[str], label_file: str | None, template: str | None, output: str, force: bool, bundle: str | None
) -> None:
    """Embed a label set once, so that a device needs no text tower to score with it.

    \b
    Examples:
      clapedge labels embed --labels home -o kitchen.npz
      clapedge labels embed -l "dog barking,rain" -o outside.npz --bundle bundles/clap-htsat-fused
    """  # noqa: D301 - click reads the control character
    from clapedge.atomic_file import check_target
    from clapedge.engine import Engine

    target = Path(output)
    check_target(target, force=force, suffixes=(".npz",))
    embedded = read_labels(lambda: Engine.load(bundle), words, label_file, template)
    embedded.save(target)
    label_set = embedded.label_set
    counts = f"{counted(len(label_set.labels), 'label')}, {counted(len(label_set.prompts), 'prompt')}"
    click.echo(f"{printable(output)}: {counts}")


@labels.command()
@click.argument("label_file", metavar="FILE|NAME")
@click.option("--bundle", type=click.Path(), help="Bundle whose text tower judges; the default is that of score.")
@click.option("--strict", is_flag=True, help="End with exit code 1 if there is any advice.")
@click.pass_context
def check(ctx: click.Context, /, *, label_file: str, bundle: str | None, strict: bool) -> None:
    """Look for what keeps labels from being distinguished, and advise on better words.

    The labels are those of a FILE, or of a set of that NAME that comes with clapedge.

    \b
    Examples:
      clapedge labels check industrial
      clapedge labels check kitchen.csv --bundle bundles/clap-htsat-fused --strict
    """  # noqa: D301 - click reads the control character
    from clapedge.labels import EmbeddedLabels
    from clapedge.labels.loader import load_labels

    loaded = load_labels(label_file)
    label_set = loaded.label_set if isinstance(loaded, EmbeddedLabels) else loaded
    found = _advice_on_file(loaded) if isinstance(loaded, EmbeddedLabels) else _advice(loaded, bundle)
    for number, advice in enumerate(found, 1):
        concerned = ", ".join(repr(name) for name in advice.labels) or "the whole set"
        click.echo(printable(f"{number}. {concerned}: {advice.found}"))
        click.echo(f"   why: {advice.reason}")
        click.echo(printable(f"   better: {advice.better}"))
    pieces = counted(len(found), "piece of advice", nouns="pieces of advice") if found else "no advice"
    click.echo(f"{printable(label_file)}: {counted(len(label_set.labels), 'label')}, {pieces}")
    ctx.exit(1 if strict and found else 0)


def _advice_on_file(labels: "EmbeddedLabels") -> "tuple[Advice, ...]":
    """Check labels with the embeddings that their file holds, and those that clips taught with their clips."""
    from clapedge.labels import lint
    from clapedge.teaching.advice import check_taught

    calibrated = labels.rejection is not None
    by_words = lint.check(labels.label_set, embeddings=labels.embeddings, calibrated=calibrated)
    return (*by_words, *check_taught(labels))


def _advice(label_set: "LabelSet", bundle: str | None) -> "tuple[Advice, ...]":
    """Check a label set with a bundle, or by its words alone where the bundle has no text tower."""
    from clapedge.engine import Engine
    from clapedge.labels import lint

    with Engine.load(bundle) as engine, StepProgress() as progress:
        if not engine.bundle.files("text"):
            note("the bundle has no text tower: labels that nearly coincide are not looked for")
            return lint.check(label_set)
        parts: list[Float32Array] = []
        for part in lint.embed_parts(engine, label_set):
            parts.append(part)
            progress("labels", sum(map(len, parts)), len(label_set.labels))
        return lint.check_with(engine, label_set, embeddings=parts)
