"""`clapedge score`: recordings and labels to ranked scores."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import click

from clapedge.cli.options import STANDARD_INPUT, engine_options, label_options, parse_provider_options, read_labels
from clapedge.errors import AudioError

if TYPE_CHECKING:
    from clapedge.audio import AudioSource
    from clapedge.engine import Engine

EXAMPLES = """\b
Examples:
  clapedge score kitchen.wav -l "kettle whistle" -l "smoke alarm"
  clapedge score *.flac --labels labels/kitchen.toml --format csv > scores.csv
  clapedge score long.mp3 -l "dog barking,rain" --start 75 --duration 10
  arecord -d 10 -f S16_LE -r 48000 -t wav | clapedge score - -l "dry bearing squeal,steady fan hum"

\b
Exit codes: 0 all scored, 1 some recordings failed, 2 usage, 3 bundle, 4 provider.
"""


@click.command(epilog=EXAMPLES)
@click.argument("recordings", metavar="AUDIO...", nargs=-1, required=True)
@label_options
@engine_options
@click.option("--start", type=float, default=0.0, show_default=True, help="Where to begin, in seconds.")
@click.option("--duration", type=float, help="Seconds to hear at most.")
@click.option(
    "--window",
    type=click.Choice(["first", "slide", "fuse"]),
    default="first",
    show_default=True,
    help="What is heard of a long recording: its first 10 s, all in sliding clips, or all in one fused input.",
)
@click.option("--hop", type=float, default=10.0, show_default=True, help="Seconds from one sliding clip to the next.")
@click.option(
    "--pad",
    type=click.Choice(["repeatpad", "repeat", "zero"]),
    default="repeatpad",
    show_default=True,
    help="How a short recording fills 10 s: whole copies then zeros, copies to the end, or zeros.",
)
@click.option(
    "--fusion",
    type=click.Choice(["long", "always"]),
    default="long",
    show_default=True,
    help="Fuse long recordings only, or always (what transformers does to a lone short clip).",
)
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
    bundle: str | None,
    provider: str,
    provider_options: Sequence[str],
    precision: str,
    threads: int | None,
    fusion: str,
    top_k: int | None,
    output_format: str,
    **hearing: object,
) -> None:
    """Score recordings (AUDIO..., - for standard input) against labels, best first."""
    from clapedge import writers  # noqa: PLC0415 - keeps --help fast

    @cache
    def engine_of() -> "Engine":
        from clapedge.engine import Engine  # noqa: PLC0415 - keeps --help fast

        return Engine.load(  # click has checked the choices that the types ask for
            bundle,
            provider=provider,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            fusion=fusion,  # type: ignore[arg-type]
            threads=threads,
            provider_options=parse_provider_options(provider_options),
        )

    labels = read_labels(engine_of, words, label_file, template)
    failed = False
    with writers.open_writer(output_format, sys.stdout, top_k=top_k) as writer:
        for name in recordings:
            try:
                result = engine_of().score(_source(name), labels, **hearing)  # type: ignore[arg-type]
            except AudioError as error:
                failed = True
                click.echo(f"error: {error}", err=True)
                writer.fail(name, str(error))
                continue
            for sentence in result.warnings:
                click.echo(f"note: {name}: {sentence}", err=True)
            writer.write(replace(result, file=name))
    ctx.exit(1 if failed else 0)


def _source(name: str) -> "AudioSource":
    """Return what a name on the command line means: a path, or standard input."""
    return sys.stdin.buffer if name == STANDARD_INPUT else name
