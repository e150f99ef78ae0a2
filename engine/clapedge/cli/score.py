"""`clapedge score`: recordings and labels to ranked scores."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from click.core import ParameterSource

from clapedge.cli.hints import note, report_error, to_flags
from clapedge.cli.options import (
    RECORDING_OPTIONS,
    STANDARD_INPUT,
    check_spreadsheet,
    decision_options,
    engine_options,
    label_options,
    load_engine,
    read_decision,
    read_labels,
    recording_options,
    spreadsheet_option,
)
from clapedge.errors import AudioError, UsageError
from clapedge.terminal import record_name

if TYPE_CHECKING:
    from clapedge.audio import AudioSource
    from clapedge.scoring.decision import Decision
    from clapedge.scoring.result import Result

LOCAL = ("bundle", "provider", "provider_options", "precision", "frontend", "threads", "fusion")
"""Options that are chosen when a service is started."""

EXAMPLES = """\b
Examples:
  clapedge score kitchen.wav -l "kettle whistle" -l "smoke alarm"
  clapedge score *.flac --labels home --format csv > scores.csv
  clapedge score street.wav --labels city --multi --threshold 0.25 --explain
  clapedge score long.mp3 -l "dog barking,rain" --start 75 --duration 10
  arecord -d 10 -f S16_LE -r 48000 -t wav | clapedge score - -l "dry bearing squeal,steady fan hum"
  clapedge score kitchen.wav --labels home --server unix:/run/clapedge/clapedge.sock

\b
Exit codes: 0 all scored, 1 some recordings failed, 2 usage, 3 bundle, 4 provider.
"""


@click.command(epilog=EXAMPLES)
@click.argument("recordings", metavar="AUDIO...", nargs=-1, required=True)
@label_options
@engine_options
@recording_options
@decision_options
@click.option("--explain", is_flag=True, help="Explain under each table what decided it, its span and its warnings.")
@click.option("--top-k", type=click.IntRange(min=1), help="Report only the best K labels.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    default="table",
    show_default=True,
    help="Form of the results on stdout.",
)
@spreadsheet_option
@click.option("--server", metavar="URL", help="Let clapedge serve score: http://HOST:PORT, or unix:PATH.")
@click.pass_context
def score(  # noqa: PLR0913 - one parameter an option is click's way
    ctx: click.Context,
    /,
    *,
    recordings: Sequence[str],
    threshold: float | None,
    multi: bool,
    unsure_margin: float | None,
    explain: bool,
    top_k: int | None,
    output_format: str,
    server: str | None,
    **options: Any,  # noqa: ANN401 - click has checked them
) -> None:
    """Score recordings (AUDIO..., - for standard input) against labels, best first."""
    from clapedge.output.results import WRITERS, begun

    decision = read_decision(multi=multi, threshold=threshold, unsure_margin=unsure_margin)
    if explain and output_format != "table":
        raise UsageError("--explain goes with --format table; the other formats carry what it says in their fields")
    check_spreadsheet(options["spreadsheet"], writes_csv=output_format == "csv")
    failed = False
    writer_class = WRITERS["explained" if explain else output_format]
    with ExitStack() as stack:
        if server is None:
            score_one = _locally(options, decision)
        else:
            _check_remote_options(ctx)
            score_one = _remotely(stack, server, options, decision, threshold)
        writer = writer_class(sys.stdout, top_k=top_k, decision=decision, spreadsheet=options["spreadsheet"])
        stack.enter_context(begun(writer))
        for name in recordings:
            try:
                result = score_one(name)
            except AudioError as error:
                failed = True
                report_error(error)
                writer.fail(record_name(name), to_flags(str(error)))
                continue
            for sentence in result.warnings:
                note(sentence, about=name)
            writer.write(replace(result, file=record_name(name), warnings=tuple(map(to_flags, result.warnings))))
    ctx.exit(1 if failed else 0)


def _locally(options: Mapping[str, Any], decision: "Decision") -> "Callable[[str], Result]":
    """Return what scores a recording with an engine of this process."""
    engine_of = cache(lambda: load_engine(options, threads=options["threads"]))
    given: Any = {name: options[name] for name in RECORDING_OPTIONS}
    labels = read_labels(engine_of, options["words"], options["label_file"], options["template"])
    if labels.rejection is None:
        _note_lone_label(len(labels.label_set.labels), decision)
    return lambda name: engine_of().score(_source(name), labels, decision=decision, **given)


def _remotely(
    stack: ExitStack, server: str, options: Mapping[str, Any], decision: "Decision", threshold: float | None
) -> "Callable[[str], Result]":
    """Return what has a recording scored by a service."""
    from clapedge.cli import remote

    fields, label_file = remote.label_fields(options["words"], options["label_file"], options["template"])
    _note_lone_label(len(",".join(options["words"]).replace("，", ",").split(",")) if options["words"] else 0, decision)
    fields |= {name: options[name] for name in RECORDING_OPTIONS} | remote.decision_fields(
        decision, threshold=threshold
    )
    service = stack.enter_context(remote.Remote(server))

    def score_one(name: str) -> "Result":
        opened = (lambda: nullcontext(_standard_input())) if name == STANDARD_INPUT else remote.opener(name)
        return service.score(name, opened, fields, label_file)

    return score_one


def _check_remote_options(ctx: click.Context) -> None:
    """Raise if an option says how an engine of this process is loaded: the service has chosen its own."""
    for option in LOCAL:
        if ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE:
            name = option.replace("_", "-").removesuffix("s") if option == "provider_options" else option
            raise UsageError(f"--{name} is chosen when a service is started; leave it out with --server")


def _note_lone_label(count: int, decision: "Decision") -> None:
    """Note that the probability of a lone label says nothing."""
    if count == 1 and not decision.multi:
        note("a lone label takes all of the probability; name others beside it, or use --multi")


def _source(name: str) -> "AudioSource":
    """Return what a name on the command line means: a path, or standard input."""
    return _standard_input() if name == STANDARD_INPUT else name


def _standard_input() -> BinaryIO:
    """Return standard input.

    Raises:
        AudioError: it is closed.
    """
    if sys.stdin is None:
        raise AudioError("standard input is closed; name a file, or pipe a recording in")
    return sys.stdin.buffer
