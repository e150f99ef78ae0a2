"""`clapedge listen`: live sound to events, for months."""

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from clapedge.cli import log_to_stderr
from clapedge.cli.listen_options import sink_options, source_options, window_options
from clapedge.cli.options import (
    MOST_THREADS,
    STANDARD_INPUT,
    bundle_options,
    event_options,
    label_options,
    load_engine,
)
from clapedge.errors import UsageError

if TYPE_CHECKING:
    from clapedge.engine import Engine
    from clapedge.live.records import EventSink
    from clapedge.live.sinks.json_lines import JsonLinesSink
    from clapedge.live.status import Status

EXPLAIN = "explain"
"""First argument for why there was an alarm, or none."""

EXAMPLES = """\b
Examples:
  arecord -q -t raw -f S16_LE -r 16000 -c 2 | clapedge listen - --rate 16000 --channels 2 --labels city
  clapedge listen mic --labels home --window 2.5 --on-event './notify.sh'
  clapedge listen rtsp://camera.local/stream --labels city --mqtt mqtt://broker/yard --spool spool
  clapedge listen --config post.toml
  clapedge listen night.wav --speed 20 --began 2026-01-31T22:00:00Z -l owl -l fox --gate -50
  clapedge listen mic --labels home --alarms alarms.toml --on-alarm ./wake.sh --journal journal
  clapedge listen explain journal --at 03:12

\b
Exit codes: 0 ended, 1 the source failed, 2 usage, 3 bundle, 4 provider.
"""


class _Listen(click.Command):
    """The command, with another one below it, which a group could not have beside SOURCE."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,  # noqa: ANN401 - click's
    ) -> click.Context:
        """Return the context of the command that the arguments name."""
        if args[:1] != [EXPLAIN]:
            return super().make_context(info_name, args, parent, **extra)
        from clapedge.cli.listen_explain import explain

        return explain.make_context(f"{info_name} {EXPLAIN}", args[1:], parent, **extra)


@click.command(cls=_Listen, epilog=EXAMPLES)
@click.argument("source", metavar="[SOURCE]", required=False, envvar="CLAPEDGE_SOURCE")
@label_options
@source_options
@window_options
@event_options(min_duration=0.0, merge_gap=0.0)
@sink_options
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Listen to several sources with one model: all other options stand in the file, which is read again when it "
    "changes.",
)
@click.option("--config-schema", is_flag=True, help="Print the JSON schema of that file.")
@click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), default=1, show_default=True, help="Threads of an operator."
)
@click.option("--spinning", is_flag=True, help="Let idle threads spin: quicker, and hot.")
@bundle_options
@click.pass_context
def listen(
    ctx: click.Context,
    /,
    *,
    config: Path | None,
    config_schema: bool,
    **options: Any,  # noqa: ANN401 - click's
) -> None:
    """Listen all day, and report events as JSON Lines: a line when one begins, goes on or ends.

    SOURCE is - for samples on standard input (raw or WAV), mic or mic:DEVICE for a sound card, an address (rtsp://,
    http://) for a stream, or a recording. Give an address with a password in $CLAPEDGE_SOURCE: arguments are visible
    to every user.

    `clapedge listen explain JOURNAL` says why there was an alarm, or none; see `clapedge listen explain --help`.
    """
    if config_schema:
        from clapedge.cli.post_file import schema

        click.echo(json.dumps(schema(ctx.command), indent=2, ensure_ascii=False))
        return
    log_to_stderr("note: %(message)s")
    if config is not None:
        _check_alone(ctx)
        _listen_to_several(config, ctx.command)
        return
    if options["source"] is None:
        raise UsageError("no source is named; give -, mic, mic:DEVICE, an address (rtsp://, http://) or a recording")
    _listen_to_one(options)


def _listen_to_one(options: Mapping[str, Any]) -> None:
    """Listen to one source until it ends."""
    from clapedge.cli.home_assistant import check_link
    from clapedge.cli.sessions import prepare
    from clapedge.live.sinks.json_lines import JsonLinesSink

    engine_of, output = _engine_of(options), JsonLinesSink(sys.stdout)
    if options["home_assistant"]:
        _run_post(options, engine_of, output, lambda: {_shown_name(options["source"]): options}, None)
        return
    check_link(options)
    prepared = prepare(options, engine_of)
    status_file = Path(options["status"]) if options["status"] else None
    session = prepared.open(engine_of(), [output], status_file=status_file)
    name = session.status().source
    with _metrics(options, lambda: {name: session.status()}), _stopped_by_signals(session.stop):
        session.run()
    for line in session.status().summary():
        click.echo(line, err=True)
    if failure := session.failure or output.failure:
        raise failure


def _shown_name(source: str) -> str:
    """Return what a source that has no name is called."""
    from clapedge.live.addresses import without_password
    from clapedge.live.sources.network import is_address

    if is_address(source):
        return without_password(source)
    return "standard input" if source == STANDARD_INPUT else source


def _listen_to_several(path: Path, command: click.Command) -> None:
    """Listen to the sources of a file until all have ended."""
    from clapedge.cli.post_file import read_post
    from clapedge.live.sinks.json_lines import JsonLinesSink

    first = read_post(path, command)

    def read() -> Mapping[str, Mapping[str, Any]]:
        settings = read_post(path, command)
        if settings.engine != first.engine:
            raise UsageError(f"{path} has other settings of the whole process, as its bundle; start listening again")
        return settings.sources

    _run_post(first.engine, _engine_of(first.engine), JsonLinesSink(sys.stdout), read, path)


def _run_post(
    options: Mapping[str, Any],
    engine_of: "Callable[[], Engine]",
    output: "JsonLinesSink",
    read: Callable[[], Mapping[str, Mapping[str, Any]]],
    path: Path | None,
) -> None:
    """Listen to sources until all have ended.

    Args:
        options: of the whole process.
        engine_of: loads the engine, once.
        output: takes the records of all sources.
        read: returns the options of each source by its name, as they are now.
        path: the file that says so, or None.
    """
    from clapedge.cli.home_assistant import open_link, switched_sources
    from clapedge.live.post import Post
    from clapedge.live.status_file import StatusFile

    link = open_link(options, engine_of, path.parent if path else Path())
    outputs: tuple[EventSink, ...] = (output, link) if link else (output,)
    status_file = StatusFile(Path(options["status"]) if options["status"] else None)
    paused = link.memory.paused if link else ()
    post = Post(
        lambda: switched_sources(path, read(), engine_of, outputs, link), path, output, status_file, paused=paused
    )
    with ExitStack() as stack:
        if link:
            stack.enter_context(link.linked(post))
        stack.enter_context(_metrics(options, post.statuses))
        stack.enter_context(_stopped_by_signals(post.stop, reload=post.reload))
        post.run()
    for line in post.summary():
        click.echo(line, err=True)
    if failure := post.failure:
        raise failure


def _metrics(
    options: Mapping[str, Any], statuses: "Callable[[], Mapping[str, Status]]"
) -> AbstractContextManager[object]:
    """Return what gives metrics while listening lasts, if they are asked for."""
    if options["metrics"] is None:
        return nullcontext()
    from clapedge.live.metrics import MetricsServer

    server = MetricsServer(options["metrics"], statuses)
    click.echo(f"note: metrics at port {server.port}", err=True)
    return server


def _engine_of(options: Mapping[str, Any]) -> "Callable[[], Engine]":
    """Return what loads the engine, once."""
    threads, spinning = options["threads"], options["spinning"]
    return cache(lambda: load_engine({**options, "fusion": "long"}, threads=threads, spinning=spinning))


def _check_alone(ctx: click.Context) -> None:
    """Raise if options stand beside --config, which holds them."""
    for name in ctx.params:
        if name != "config" and ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"{name.replace('_', '-')} is given beside --config; write it into the file")


@contextmanager
def _stopped_by_signals(stop: Callable[[], None], reload: Callable[[], None] | None = None) -> Iterator[None]:
    """Call `stop` at the first SIGINT or SIGTERM, and `reload` at SIGHUP; the second one ends the process as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    if reload is not None and (hangup := getattr(signal, "SIGHUP", None)) is not None:  # Windows has none
        before[hangup] = signal.getsignal(hangup)

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
        ends = number in {signal.SIGINT, signal.SIGTERM}
        if ends:
            restore()
        # in a thread of its own: the main thread may hold the lock that stopping takes
        threading.Thread(target=stop if ends else reload, daemon=True).start()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
