"""`clapedge score`: recordings and labels to ranked scores."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import click

from clapedge.cli.options import (
    HEARING,
    STANDARD_INPUT,
    decision_options,
    engine_options,
    hearing_options,
    label_options,
    load_engine,
    read_decision,
    read_labels,
)
from clapedge.errors import AudioError, UsageError
from clapedge.shown import shown

if TYPE_CHECKING:
    from clapedge.audio import AudioSource
    from clapedge.labels import EmbeddedLabels

EXAMPLES = """\b
Examples:
  clapedge score kitchen.wav -l "kettle whistle" -l "smoke alarm"
  clapedge score *.flac --labels labels/home.toml --format csv > scores.csv
  clapedge score street.wav --labels labels/city.toml --multi --threshold 0.25 --explain
  clapedge score long.mp3 -l "dog barking,rain" --start 75 --duration 10
  arecord -d 10 -f S16_LE -r 48000 -t wav | clapedge score - -l "dry bearing squeal,steady fan hum"

\b
Exit codes: 0 all scored, 1 some recordings failed, 2 usage, 3 bundle, 4 provider.
"""


@click.command(epilog=EXAMPLES)
@click.argument("recordings", metavar="AUDIO...", nargs=-1, required=True)
@label_options
@engine_options
@hearing_options
@decision_options
@click.option("--explain", is_flag=True, help="Say under each table what decided it, what was heard, what to mind.")
@click.option("--top-k", type=click.IntRange(min=1), help="Report only the best K labels.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="Form of the results on stdout.",
)
@click.pass_context
def score(  # noqa: PLR0913 - one parameter an option is click's way
    ctx: click.Context,
    /,
    *,
    recordings: Sequence[str],
    words: Sequence[str],
    label_file: str | None,
    template: str | None,
    threads: int | None,
    multi: bool,
    threshold: float | None,
    unsure_margin: float | None,
    explain: bool,
    top_k: int | None,
    output_format: str,
    **options: object,
) -> None:
    """Score recordings (AUDIO..., - for standard input) against labels, best first."""
    from clapedge import writers  # noqa: PLC0415 - keeps --help fast
    from clapedge.audio.sources import shown_name  # noqa: PLC0415

    engine_of = cache(lambda: load_engine(options, threads=threads))
    hearing: Any = {name: options[name] for name in HEARING}  # click has checked the choices
    decision = read_decision(multi=multi, threshold=threshold, unsure_margin=unsure_margin)
    if explain and output_format != "table":
        raise UsageError("--explain goes with --format table; the other formats carry what it says in their fields")
    labels = read_labels(engine_of, words, label_file, template)
    _note_lone_label(labels, multi=multi)
    failed = False
    written = "explained" if explain else output_format
    with writers.open_writer(written, sys.stdout, top_k=top_k, decision=decision) as writer:
        for name in recordings:
            try:
                result = engine_of().score(_source(name), labels, decision=decision, **hearing)
            except AudioError as error:
                failed = True
                click.echo(f"error: {shown(str(error))}", err=True)
                writer.fail(name, str(error))
                continue
            for sentence in result.warnings:
                click.echo(f"note: {shown_name(name)}: {sentence}", err=True)
            writer.write(replace(result, file=name))
    ctx.exit(1 if failed else 0)


def _note_lone_label(labels: "EmbeddedLabels", *, multi: bool) -> None:
    """Say that a probability says nothing where there is nothing to share it with."""
    if len(labels.label_set.labels) == 1 and not multi:
        click.echo("note: a lone label takes all of the probability; name others beside it, or use --multi", err=True)


def _source(name: str) -> "AudioSource":
    """Return what a name on the command line means: a path, or standard input."""
    if name != STANDARD_INPUT:
        return name
    if sys.stdin is None:
        raise AudioError("standard input is closed; name a file, or pipe a recording in")
    return sys.stdin.buffer
