"""`clapedge listen`: live sound to events, for months."""

import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from clapedge.cli import log_to_stderr
from clapedge.cli.options import (
    MOST_THREADS,
    STANDARD_INPUT,
    Command,
    bundle_options,
    event_options,
    label_options,
    load_engine,
    note_missing_background,
    read_labels,
    tower_option,
)
from clapedge.errors import UsageError
from clapedge.terminal import printable

if TYPE_CHECKING:
    from clapedge.engine import Engine
    from clapedge.live.background_keeper import BackgroundKeeper
    from clapedge.live.clip_recorder import ClipStore
    from clapedge.live.options import ListenOptions
    from clapedge.live.records import EventSink
    from clapedge.live.session import Session
    from clapedge.live.sources import Source
    from clapedge.live.tls import TlsFiles

MICROPHONE = "mic"

EXAMPLES = """\b
Examples:
  arecord -q -t raw -f S16_LE -r 16000 -c 2 | clapedge listen - --rate 16000 --channels 2 --labels city
  clapedge listen mic --labels home --window 2.5 --on-event './notify.sh'
  clapedge listen rtsp://camera.local/stream --labels city --mqtt mqtt://broker/yard --spool spool
  clapedge listen night.wav --speed 20 --began 2026-01-31T22:00:00Z -l owl -l fox --gate -50

\b
Exit codes: 0 ended, 1 the source failed, 2 usage, 3 bundle, 4 provider.
"""


def _with_options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that adds options to a command, in this order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_source_options = _with_options(
    click.option(
        "--rate", type=int, help="Sample rate of - (required, unless it is WAV) and mic, in Hz. [default: its own]"
    ),
    click.option(
        "--format",
        "sample_format",
        help="Sample format of -: u8, s16le, s24le, s32le, f32le, … [default: s16le]",
    ),
    click.option("--channels", type=click.IntRange(1, 64), help="Number of channels of - and mic. [default: 1]"),
    click.option("--channel", type=click.IntRange(min=0), help="Use this channel, from 0 on. [default: their mean]"),
    click.option("--buffer", type=float, default=30.0, show_default=True, help="Seconds of sound that may wait."),
    click.option(
        "--overload",
        type=click.Choice(["auto", "wait", "drop"]),
        default="auto",
        show_default=True,
        help="If that is full, let the source wait or drop the oldest; auto lets recordings wait, in pipes too.",
    ),
    click.option(
        "--stall", type=float, default=10.0, show_default=True, help="Seconds without sound after which events end."
    ),
    click.option(
        "--retries", type=click.IntRange(min=0), help="Attempts in a row to reopen a lost source. [default: unlimited]"
    ),
    click.option("--began", metavar="TIME", help="Time of the first sample (ISO 8601), from which timestamps count."),
    click.option(
        "--speed", type=float, default=1.0, show_default=True, help="Of a recording; 0 is as fast as possible."
    ),
)

_window_options = _with_options(
    click.option("--window", type=float, help="Seconds of each window, at most 10. [default: twice the hop]"),
    click.option("--hop", type=float, default=1.0, show_default=True, help="Seconds between windows, 0.5 to 10."),
    tower_option,
    click.option("--gate", type=float, metavar="DBFS", help="Skip windows below this level, say -50, to save power."),
    click.option(
        "--update", type=float, default=60.0, show_default=True, help="Seconds between updates of an event. 0: none."
    ),
)

_size = click.IntRange(min=4096)
_sink_options = _with_options(
    click.option("--on-event", metavar="CMD", help="Run for each record, without a shell; JSON on its stdin."),
    click.option("--on-event-jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Commands at once."),
    click.option(
        "--on-event-timeout",
        type=click.FloatRange(min=0.1),
        default=30.0,
        show_default=True,
        help="Seconds after which a command is killed.",
    ),
    click.option(
        "--mqtt",
        metavar="URL",
        envvar="CLAPEDGE_MQTT",
        show_envvar=True,
        help="Publish each record: mqtt://host:port/topic.",
    ),
    click.option(
        "--webhook", metavar="URL", envvar="CLAPEDGE_WEBHOOK", show_envvar=True, help="Post each record to it."
    ),
    click.option(
        "--ca",
        type=click.Path(),
        metavar="FILE",
        help="Trust these authorities (PEM) too: mqtts://, https://, rtsps://.",
    ),
    click.option(
        "--cert", type=click.Path(), metavar="FILE", help="Show this certificate, its key in the same file (PEM)."
    ),
    click.option("--spool", type=click.Path(), metavar="DIR", help="Where records wait for --mqtt and --webhook."),
    click.option(
        "--spool-bytes",
        type=_size,
        default=2**26,
        show_default=True,
        help="Its size for each of the two; the oldest go.",
    ),
    click.option(
        "--spool-age",
        type=click.FloatRange(min=1.0),
        metavar="SECONDS",
        help="Give events up that are over and waited longer. [default: never; age_s of a record says how long]",
    ),
    click.option(
        "--spool-sync/--no-spool-sync", default=True, show_default=True, help="Flush each message to the disk."
    ),
    click.option("--keep", type=click.Path(), metavar="DIR", help="Keep the sound of events as FLAC."),
    click.option("--keep-bytes", type=_size, default=2**30, show_default=True, help="Its size; the oldest clips go."),
    click.option(
        "--learn",
        type=click.Path(path_type=Path),
        metavar="FILE.npz",
        help="Keep the embeddings of the windows of a quiet day, for `clapedge teach --background`.",
    ),
    click.option("--status", type=click.Path(), metavar="FILE", help="Write counts to it every 10 s, as JSON."),
)


@click.command(epilog=EXAMPLES)
@click.argument("source", metavar="SOURCE", envvar="CLAPEDGE_SOURCE")
@label_options
@_source_options
@_window_options
@event_options(min_duration=0.0, merge_gap=0.0)
@_sink_options
@click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), default=1, show_default=True, help="Threads of an operator."
)
@click.option("--spinning", is_flag=True, help="Let idle threads spin: quicker, and hot.")
@bundle_options
def listen(
    *,
    words: Sequence[str],
    label_file: str | None,
    template: str | None,
    threads: int,
    spinning: bool,
    **options: Any,  # noqa: ANN401 - click's
) -> None:
    """Listen all day, and report events as JSON Lines: a line when one begins, goes on or ends.

    SOURCE is - for samples on standard input (raw or WAV), mic or mic:DEVICE for a sound card, an address (rtsp://,
    http://) for a stream, or a recording. Give an address with a password in $CLAPEDGE_SOURCE: arguments are visible
    to every user.
    """
    from clapedge.live.reader import ReaderOptions
    from clapedge.live.session import Outputs, Session
    from clapedge.live.sinks.json_lines import JsonLinesSink

    log_to_stderr("note: %(message)s")
    listen_options = _listen_options(options)
    began = _parse_time(options["began"])
    reader_options = ReaderOptions(options["buffer"], options["retries"], began, options["overload"])
    opened = _open_source(options["source"], options)
    engine_of = cache(lambda: load_engine({**options, "fusion": "long"}, threads=threads, spinning=spinning))
    labels = read_labels(engine_of, words, label_file, template)
    note_missing_background(labels, multi=options["multi"])
    status_file = Path(options["status"]) if options["status"] else None
    with ExitStack() as closing:
        kept = _open_clip_store(options), status_file, _open_background(options, engine_of())
        output = JsonLinesSink(sys.stdout)
        outputs = Outputs([output, *_open_sinks(options, closing)], *kept)
        session = Session(engine_of(), labels, opened, listen_options, outputs=outputs, reader_options=reader_options)
        closing.pop_all()  # from here on the session closes them
    with _stopped_by_signals(session):
        session.run()
    for line in session.status().summary():
        click.echo(line, err=True)
    if failure := session.failure or output.failure:
        raise failure


def _listen_options(options: Mapping[str, Any]) -> "ListenOptions":
    """Return how sound is scored."""
    from clapedge.events.rules import EventRule
    from clapedge.events.timeline import default_window
    from clapedge.live.options import ListenOptions

    rule = EventRule(*(options[name] for name in ("on", "off", "min_duration", "merge_gap", "multi")))
    window = default_window(options["hop"]) if options["window"] is None else options["window"]
    names = ("hop", "channel", "gate", "update", "stall", "tower")
    return ListenOptions(rule=rule, window=window, **{name: options[name] for name in names})


def _open_source(name: str, options: Mapping[str, Any]) -> "Source":
    """Return the source of that name."""
    from clapedge.audio import SAMPLE_RATE
    from clapedge.live.sources.local import FileSource, MicrophoneSource
    from clapedge.live.sources.network import NetworkSource, is_address
    from clapedge.live.sources.pcm import PcmFormat, PcmSource

    rate, channels, stall = options["rate"], options["channels"], options["stall"]
    if name == STANDARD_INPUT:
        if sys.stdin is None:
            raise UsageError("standard input is closed; pipe samples into it")
        standard = sys.stdin.buffer
        read = getattr(standard, "raw", standard).read  # what is there, without waiting for a buffer to be full
        stated = {"rate": rate, "channels": channels, "format": options["sample_format"]}
        pcm = PcmFormat(SAMPLE_RATE if rate is None else rate, channels or 1, stated["format"] or "s16le")
        try:
            return PcmSource(read, pcm, stated=[option for option, value in stated.items() if value is not None])
        except UsageError as error:
            raise UsageError(f"{error}; give --rate, for example --rate 16000") from error
    kind, _, device = name.partition(":")
    if kind == MICROPHONE and not Path(name).exists():
        return MicrophoneSource(device, sample_rate=rate, channels=channels or 1, timeout=stall)
    if is_address(name):
        return NetworkSource(name, timeout=stall, tls=_tls_files(options))
    return FileSource(name, speed=options["speed"])


def _parse_time(text: str | None) -> datetime | None:
    """Parse a time; one without a zone is in this machine's."""
    if text is None:
        return None
    try:
        return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).astimezone()
    except ValueError as error:
        raise UsageError(f"--began {text} is not a time ({error}); give one such as 2026-01-31T22:00:00Z") from error


def _open_sinks(options: Mapping[str, Any], closing: ExitStack) -> "list[EventSink]":
    """Return where records go beside standard output; `closing` closes what was opened if a later one fails."""
    from clapedge.live.sinks.command import CommandSink
    from clapedge.live.sinks.delivery import SpooledSink
    from clapedge.live.sinks.mqtt import MqttTransport
    from clapedge.live.sinks.spool import Spool
    from clapedge.live.sinks.webhook import WebhookTransport

    sinks: list[EventSink] = []
    if options["on_event"]:
        jobs, timeout = options["on_event_jobs"], options["on_event_timeout"]
        sinks.append(CommandSink(options["on_event"], jobs=jobs, timeout=timeout))
        closing.callback(sinks[-1].close)
    tls = _tls_files(options)
    for name, transport_type in (("mqtt", MqttTransport), ("webhook", WebhookTransport)):
        if not options[name]:
            continue
        if not options["spool"]:
            raise UsageError(f"--{name} needs a directory where messages wait for delivery; give --spool DIR")
        bounds = {"max_bytes": options["spool_bytes"], "max_age": options["spool_age"], "sync": options["spool_sync"]}
        spool = Spool(Path(options["spool"]) / name, **bounds)
        closing.callback(spool.close)
        sinks.append(SpooledSink(spool, transport_type(options[name], tls=tls)))
        closing.callback(sinks[-1].close)
    return sinks


def _tls_files(options: Mapping[str, Any]) -> "TlsFiles":
    """Return the certificates of one's own; raise if no address would use them."""
    from clapedge.live.tls import TlsFiles

    addresses = (options[name] or "" for name in ("source", "mqtt", "webhook"))
    encrypted = any(address.startswith(("mqtts://", "https://", "rtsps://")) for address in addresses)
    for name in ("ca", "cert"):
        if options[name] and not encrypted:
            raise UsageError(f"--{name} is for mqtts://, https:// and rtsps://; no address begins with one of them")
    return TlsFiles(options["ca"], options["cert"])


def _open_clip_store(options: Mapping[str, Any]) -> "ClipStore | None":
    """Return what keeps the sound of events, if it is kept."""
    from clapedge.live.clip_recorder import ClipStore

    return ClipStore(options["keep"], max_bytes=options["keep_bytes"]) if options["keep"] else None


def _open_background(options: Mapping[str, Any], engine: "Engine") -> "BackgroundKeeper | None":
    """Return what keeps the embeddings of windows, if they are kept."""
    from clapedge.atomic_file import check_folder
    from clapedge.live.background_keeper import BackgroundKeeper

    path: Path | None = options["learn"]
    if path is None:
        return None
    if path.suffix.lower() != ".npz":
        raise UsageError(f"--learn {printable(str(path))} does not end in .npz, as files of embeddings do")
    check_folder(path.resolve().parent, bytes_needed=0)
    size = engine.bundle.manifest.embedding_size
    return BackgroundKeeper(path, hop=options["hop"], space=engine.provenance.space, size=size)


@contextmanager
def _stopped_by_signals(session: "Session") -> Iterator[None]:
    """Stop a session at the first SIGINT or SIGTERM; the second one ends the process as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - as signal wants it
        restore()
        # in a thread of its own: the main thread may hold the lock that stopping takes
        threading.Thread(target=session.stop, daemon=True).start()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()
