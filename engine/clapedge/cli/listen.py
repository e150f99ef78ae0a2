"""`clapedge listen`: live sound to events, for months."""

import re
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from clapedge.cli import drop_output
from clapedge.cli.options import (
    MOST_THREADS,
    STANDARD_INPUT,
    bundle_options,
    event_options,
    label_options,
    load_engine,
    read_labels,
)
from clapedge.errors import StorageError, UsageError
from clapedge.terminal import printable

if TYPE_CHECKING:
    from clapedge.live.clip_recorder import ClipStore
    from clapedge.live.listener import ListenOptions
    from clapedge.live.records import EventSink
    from clapedge.live.sources.local import Source

MICROPHONE = "mic"

EXAMPLES = """\b
Examples:
  arecord -q -t raw -f S16_LE -r 16000 -c 2 | clapedge listen - --rate 16000 --channels 2 --labels city
  clapedge listen mic --labels home --window 3 --on-event './notify.sh'
  clapedge listen rtsp://camera.local/stream --labels city --mqtt mqtt://broker/yard --spool spool
  clapedge listen night.wav --speed 20 --began 2026-01-31T22:00:00Z -l owl -l fox --gate -50

\b
Exit codes: 0 ended, 1 the source failed, 2 usage, 3 bundle, 4 provider.
"""


def _source_options(command: Any) -> Any:  # noqa: ANN401 - as click's own decorators
    """Add the options that say how sound comes in."""
    for option in (
        click.option(
            "--speed",
            type=float,
            default=1.0,
            show_default=True,
            help="Of a recording; 0 is as fast as it can be heard.",
        ),
        click.option(
            "--began", metavar="TIME", help="When the first sample was heard (ISO 8601); stamps count from it."
        ),
        click.option(
            "--retries", type=click.IntRange(min=0), help="Tries in a row for a lost source. [default: no end]"
        ),
        click.option(
            "--stall", type=float, default=10.0, show_default=True, help="Seconds without sound that end events."
        ),
        click.option(
            "--buffer", type=float, default=30.0, show_default=True, help="Seconds of sound that may wait to be heard."
        ),
        click.option(
            "--channel", type=click.IntRange(min=0), help="Hear this channel, from 0 on. [default: their mean]"
        ),
        click.option(
            "--channels", type=click.IntRange(1, 64), default=1, show_default=True, help="Channels of - and mic."
        ),
        click.option(
            "--format",
            "sample",
            default="s16le",
            show_default=True,
            help="Samples of -: u8, s16le, s24le, s32le, f32le, …",
        ),
        click.option("--rate", type=int, help="Hz of - (must be given) and mic. [default: the microphone's own]"),
    ):
        command = option(command)
    return command


def _hearing_options(command: Any) -> Any:  # noqa: ANN401 - as click's own decorators
    """Add the options that say how sound is heard."""
    for option in (
        click.option(
            "--update",
            type=float,
            default=60.0,
            show_default=True,
            help="Seconds; tell again of events that go on. 0: never.",
        ),
        click.option(
            "--gate", type=float, metavar="DBFS", help="Save power: hear no windows below this level, say -50."
        ),
        click.option("--hop", type=float, default=1.0, show_default=True, help="Seconds between windows, 0.5 to 10."),
        click.option(
            "--window", type=float, help="Seconds that each window hears, at most 10. [default: twice the hop]"
        ),
    ):
        command = option(command)
    return command


def _sink_options(command: Any) -> Any:  # noqa: ANN401 - as click's own decorators
    """Add the options that say where events go."""
    size = click.IntRange(min=4096)
    for option in (
        click.option("--status", type=click.Path(), metavar="FILE", help="Write counts to it every 10 s, as JSON."),
        click.option(
            "--keep-bytes", type=size, default=2**30, show_default=True, help="Room for it; the oldest clips go."
        ),
        click.option("--keep", type=click.Path(), metavar="DIR", help="Keep the sound of events as FLAC."),
        click.option(
            "--spool-sync/--no-spool-sync", default=True, show_default=True, help="Force each message to the disk."
        ),
        click.option(
            "--spool-bytes",
            type=size,
            default=2**26,
            show_default=True,
            help="Room in it for each of --mqtt and --webhook.",
        ),
        click.option("--spool", type=click.Path(), metavar="DIR", help="Where records wait for --mqtt and --webhook."),
        click.option(
            "--webhook", metavar="URL", envvar="CLAPEDGE_WEBHOOK", show_envvar=True, help="Post each record to it."
        ),
        click.option(
            "--mqtt",
            metavar="URL",
            envvar="CLAPEDGE_MQTT",
            show_envvar=True,
            help="Publish each record: mqtt://host:port/topic.",
        ),
        click.option(
            "--on-event-timeout",
            type=click.FloatRange(min=0.1),
            default=30.0,
            show_default=True,
            help="Seconds; then it is killed.",
        ),
        click.option(
            "--on-event-jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Commands at once."
        ),
        click.option("--on-event", metavar="CMD", help="Run for each record, without a shell; JSON on its stdin."),
    ):
        command = option(command)
    return command


@click.command(epilog=EXAMPLES)
@click.argument("source", metavar="SOURCE", envvar="CLAPEDGE_SOURCE")
@label_options
@_source_options
@_hearing_options
@event_options
@_sink_options
@click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), default=1, show_default=True, help="Threads of an operator."
)
@click.option("--spinning", is_flag=True, help="Let idle threads wait busily: quicker, and hot.")
@bundle_options
def listen(
    *,
    source: str,
    words: Sequence[str],
    label_file: str | None,
    template: str | None,
    threads: int,
    spinning: bool,
    **options: Any,  # noqa: ANN401 - click's
) -> None:
    """Listen all day, and tell of events as JSON Lines, one line each time one begins, goes on or ends.

    SOURCE is - for raw samples on standard input, mic or mic:DEVICE for a sound card, an address (rtsp://, http://) for
    a stream, or a recording. Give an address with a password in $CLAPEDGE_SOURCE: arguments are seen by every user.
    """
    from clapedge.live import session

    chosen = _listen_options(options)
    reading = session.Reading(options["buffer"], options["retries"], _time_of(options["began"]))
    opened = _source_of(source, options)
    engine_of = cache(lambda: load_engine({**options, "fusion": "long"}, threads=threads, spinning=spinning))
    labels = read_labels(engine_of, words, label_file, template)
    if not options["multi"] and not any(label.hidden for label in labels.label_set.labels):
        click.echo("note: no label is hidden, so each moment is given to one; add a hidden background", err=True)
    status = Path(options["status"]) if options["status"] else None
    with ExitStack() as closing:
        delivery = session.Delivery(uuid.uuid4().hex[:12], _sinks(options, closing), _clip_store(options), status)
        run = session.Session(engine_of(), labels, opened, chosen, delivery=delivery, say=_say, reading=reading)
        closing.pop_all()  # from here on the session closes them
        with _stopped_by_signals(run.stop):
            run.run()
    for sentence in run.status().sentences():
        click.echo(sentence, err=True)
    if run.failure:
        raise run.failure


def _say(words: str) -> None:
    """Tell people."""
    click.echo(f"note: {printable(words)}", err=True)


def _listen_options(options: Mapping[str, Any]) -> "ListenOptions":
    """Return how sound is heard."""
    from clapedge.events.rules import EventRule
    from clapedge.events.timeline import default_window
    from clapedge.live.listener import ListenOptions

    rule = EventRule(*(options[name] for name in ("on", "off", "min_duration", "merge_gap", "multi")))
    window = default_window(options["hop"]) if options["window"] is None else options["window"]
    names = ("hop", "channel", "gate", "update", "stall")
    return ListenOptions(rule=rule, window=window, **{name: options[name] for name in names})


def _source_of(name: str, options: Mapping[str, Any]) -> "Source":
    """Return the source that a name means."""
    from clapedge.live.sources import local as sources
    from clapedge.live.sources import network, pcm

    if name == STANDARD_INPUT:
        if options["rate"] is None:
            raise UsageError("raw samples do not say how fast they go; give --rate, for example --rate 16000")
        standard = sys.stdin.buffer
        read = getattr(standard, "raw", standard).read  # what is there, without waiting for a buffer to be full
        return sources.PcmSource(read, pcm.PcmFormat(options["rate"], options["channels"], options["sample"]))
    kind, _, device = name.partition(":")
    if kind == MICROPHONE and not Path(name).exists():
        return sources.Microphone(device, rate=options["rate"], channels=options["channels"], patience=options["stall"])
    if network.is_address(name):
        return network.NetworkStream(name, patience=options["stall"])
    return sources.FileSource(name, speed=options["speed"])


def _time_of(text: str | None) -> datetime | None:
    """Return a time; one without a zone is this machine's."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).astimezone()
    except ValueError as error:
        raise UsageError(f"--began {text} is no time ({error}); give one such as 2026-01-31T22:00:00Z") from error


def _sinks(options: Mapping[str, Any], closing: ExitStack) -> "list[EventSink]":
    """Return where records go; what of it was opened is closed if the rest cannot be."""
    from clapedge.live.records import Lines
    from clapedge.live.sinks.command import CommandSink
    from clapedge.live.sinks.delivery import SpooledSink
    from clapedge.live.sinks.mqtt import MqttTransport
    from clapedge.live.sinks.spool import Spool
    from clapedge.live.sinks.webhook import WebhookTransport

    sinks: list[EventSink] = [Lines(_write)]
    if options["on_event"]:
        jobs, timeout = options["on_event_jobs"], options["on_event_timeout"]
        sinks.append(CommandSink(options["on_event"], jobs=jobs, timeout=timeout, say=_say))
        closing.callback(sinks[-1].close)
    for name, carrier_of in (("mqtt", MqttTransport), ("webhook", WebhookTransport)):
        if not options[name]:
            continue
        if not options["spool"]:
            raise UsageError(f"--{name} needs a directory where messages wait until they are taken; give --spool DIR")
        room, sync = options["spool_bytes"], options["spool_sync"]
        spool = Spool(Path(options["spool"]) / name, most_bytes=room, sync=sync, say=_say)
        closing.callback(spool.close)
        sinks.append(SpooledSink(spool, carrier_of(options[name]), say=_say))
        closing.callback(sinks[-1].close)
    return sinks


def _clip_store(options: Mapping[str, Any]) -> "ClipStore | None":
    """Return what keeps the sound of events, if it is kept."""
    from clapedge.live.clip_recorder import ClipStore

    return ClipStore(options["keep"], options["keep_bytes"], say=_say) if options["keep"] else None


def _write(line: bytes) -> None:
    """Write a line through to whoever reads standard output."""
    try:
        sys.stdout.write(line.decode())
        sys.stdout.flush()
    except OSError as error:
        drop_output()
        raise StorageError(f"events cannot be written to standard output ({error.strerror}); start it again") from error


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop, the first time; the second time they end the process as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
        restore()
        # in a thread of its own: the main thread may hold the lock that stopping takes
        threading.Thread(target=stop, daemon=True).start()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
