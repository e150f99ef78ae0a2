"""One source of `clapedge listen` as its options say: a session, whether the command line or a file names them."""

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clapedge.cli.options import STANDARD_INPUT, note_missing_background, read_labels
from clapedge.errors import ClapEdgeError, UsageError
from clapedge.terminal import printable

if TYPE_CHECKING:
    from clapedge.engine import Engine
    from clapedge.labels import EmbeddedLabels
    from clapedge.live.alarms.journal import Journal
    from clapedge.live.alarms.judge import AlarmJudge
    from clapedge.live.alarms.rules import AlarmRule
    from clapedge.live.background_keeper import BackgroundKeeper
    from clapedge.live.clip_recorder import ClipStore
    from clapedge.live.options import ListenOptions
    from clapedge.live.reader import ReaderOptions
    from clapedge.live.records import EventSink
    from clapedge.live.session import Member, Session
    from clapedge.live.sources import Source
    from clapedge.live.tls import TlsFiles

MICROPHONE = "mic"


@dataclass(frozen=True, eq=False)
class Prepared:
    """A source that can be listened to: all that is checked before anything is opened for writing.

    Attributes:
        options: by the names of click's parameters of `clapedge listen`.
        labels: what it is scored against.
        source: where its sound comes from.
        listening: how it is scored.
        reading: how it is read.
        alarms: rules that say which events are worth an alarm.
    """

    options: Mapping[str, Any]
    labels: "EmbeddedLabels"
    source: "Source"
    listening: "ListenOptions"
    reading: "ReaderOptions"
    alarms: "tuple[AlarmRule, ...]" = ()

    def open(
        self,
        engine: "Engine",
        outputs: "Sequence[EventSink]",
        *,
        status_file: Path | None = None,
        member: "Member | None" = None,
    ) -> "Session":
        """Open where events go, and return the session, which closes it.

        Args:
            engine: embeds and scores.
            outputs: take records too, first; they are not this source's alone.
            status_file: where the session writes its status, or None.
            member: what it is among several, or None.

        Raises:
            StorageError: a directory cannot be written to.
            UsageError: options contradict one another.
        """
        from clapedge.live.session import Outputs, Session

        options = self.options
        with ExitStack() as closing:
            kept = _open_clip_store(options), status_file, _open_background(options, engine)
            sinks = [*outputs, *_open_sinks(options, closing)]
            judge, journal = self._open_alarms()
            session = Session(
                engine,
                self.labels,
                self.source,
                self.listening,
                outputs=Outputs(sinks, *kept, judge, journal),
                reader_options=self.reading,
                member=member,
            )
            closing.pop_all()  # from here on the session closes them
        return session

    def _open_alarms(self) -> "tuple[AlarmJudge | None, Journal | None]":
        """Return what decides on alarms, and the journal, which knows when the last ones were."""
        from clapedge.live.alarms.journal import Journal
        from clapedge.live.alarms.judge import AlarmJudge

        path, most = self.options["journal"], self.options["journal_bytes"]
        journal = Journal(path, max_bytes=most) if path else None
        if not self.alarms:
            return None, journal
        return AlarmJudge(self.alarms, last=journal.last_alarms() if journal else None), journal


@dataclass(frozen=True)
class SourceSettings:
    """One of several sources, equal to another one where nothing has to be started again.

    Attributes:
        options: by the names of click's parameters of `clapedge listen`.
        written: when the files of its labels and its alarms were last written, in nanoseconds; None without one.
        engine_of: loads the engine, once.
        outputs: take the records of all sources.
    """

    options: Mapping[str, Any]
    written: "tuple[int | None, ...]"
    engine_of: "Callable[[], Engine]" = field(compare=False)
    outputs: "Sequence[EventSink]" = field(compare=False)
    prepared: Prepared = field(compare=False)

    @property
    def reopens(self) -> bool:
        """Whether it can be opened again, as standard input cannot."""
        return bool(self.options["source"] != STANDARD_INPUT)

    def open(self, member: "Member") -> "Session":
        """Open where its events go, and return its session."""
        return self.prepared.open(self.engine_of(), self.outputs, member=member)


def sources_of(
    path: Path | None,
    sources: Mapping[str, Mapping[str, Any]],
    engine_of: "Callable[[], Engine]",
    outputs: "Sequence[EventSink]",
) -> dict[str, SourceSettings]:
    """Return several sources of a file by name, each of them checked.

    Raises:
        ClapEdgeError: one cannot be used; the message begins with the file and its name, if there is a file.
    """
    found = {}
    for name, options in sources.items():
        files = [Path(options[key] or "") for key in ("label_file", "alarms")]
        written = tuple(file.stat().st_mtime_ns if file.is_file() else None for file in files)
        try:
            prepared = prepare(options, engine_of)
        except ClapEdgeError as error:
            if path is None:
                raise
            raise UsageError(f"{path}: sources.{name}: {error}") from error
        found[name] = SourceSettings(options, written, engine_of, outputs, prepared)
    return found


def prepare(options: Mapping[str, Any], engine_of: "Callable[[], Engine]") -> Prepared:
    """Return a source that can be listened to; mistakes are reported before the engine is loaded where they can be.

    Args:
        options: by the names of click's parameters of `clapedge listen`.
        engine_of: loads the engine, once.

    Raises:
        LabelError: the labels cannot be used.
        UsageError: an option has an impossible value, or there is no such source.
    """
    from clapedge.live.reader import ReaderOptions

    listening = listen_options(options)
    began = _parse_time(options["began"])
    reading = ReaderOptions(options["buffer"], options["retries"], began, options["overload"])
    source = _open_source(options["source"], options)
    alarms = _read_alarms(options)
    labels = read_labels(engine_of, options["words"], options["label_file"], options["template"])
    note_missing_background(labels, multi=options["multi"])
    return Prepared(options, labels, source, listening, reading, alarms)


def _read_alarms(options: Mapping[str, Any]) -> "tuple[AlarmRule, ...]":
    """Return the rules of alarms; raise if what is asked for cannot be."""
    from clapedge.live.alarms.rules import read_alarms

    if not options["alarms"]:
        for name in ("on_alarm", "only_alarms"):
            if options[name]:
                raise UsageError(
                    f"--{name.replace('_', '-')} needs rules that say what an alarm is; give --alarms FILE"
                )
        return ()
    if options["only_alarms"] and not (options["mqtt"] or options["webhook"]):
        raise UsageError("--only-alarms is for --mqtt and --webhook, of which none is given")
    rules = read_alarms(options["alarms"])
    if loud := next((rule for rule in rules if rule.needs_levels and not options["levels"]), None):
        raise UsageError(f"{options['alarms']}: the rule {printable(loud.name)} asks for a level; give --levels too")
    return rules


def listen_options(options: Mapping[str, Any]) -> "ListenOptions":
    """Return how sound is scored."""
    from clapedge.events.rules import EventRule
    from clapedge.events.timeline import default_window
    from clapedge.live.hours import Hours
    from clapedge.live.options import ListenOptions

    rule = EventRule(*(options[name] for name in ("on", "off", "min_duration", "merge_gap", "multi")))
    window = default_window(options["hop"]) if options["window"] is None else options["window"]
    hours = Hours.parse(options["hours"]) if options["hours"] else None
    names = ("hop", "channel", "gate", "update", "stall", "cooldown", "tower", "levels", "level_offset")
    return ListenOptions(rule=rule, window=window, hours=hours, **{name: options[name] for name in names})


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
        return NetworkSource(name, timeout=stall, tls=tls_files(options))
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
    from clapedge.live.records import every_record, is_alarm, is_event
    from clapedge.live.sinks.command import CommandSink
    from clapedge.live.sinks.delivery import SpooledSink
    from clapedge.live.sinks.mqtt import MqttTransport, UnspooledMqttSink
    from clapedge.live.sinks.spool import Spool
    from clapedge.live.sinks.webhook import WebhookTransport

    sinks: list[EventSink] = []
    jobs, timeout = options["on_event_jobs"], options["on_event_timeout"]
    for name, accepts in (("on_event", is_event), ("on_alarm", is_alarm)):
        if options[name]:
            sinks.append(CommandSink(options[name], jobs=jobs, timeout=timeout, accepts=accepts))
            closing.callback(sinks[-1].close)
    tls, accepts = tls_files(options), is_alarm if options["only_alarms"] else every_record
    for name, transport_type in (("mqtt", MqttTransport), ("webhook", WebhookTransport)):
        if not options[name]:
            continue
        if not options["spool"] and name == "mqtt":
            sinks.append(UnspooledMqttSink(options[name], tls=tls, accepts=accepts))
            closing.callback(sinks[-1].close)
            continue
        if not options["spool"]:
            raise UsageError(f"--{name} needs a directory where messages wait for delivery; give --spool DIR")
        bounds = {"max_bytes": options["spool_bytes"], "max_age": options["spool_age"], "sync": options["spool_sync"]}
        spool = Spool(Path(options["spool"]) / name, **bounds)
        closing.callback(spool.close)
        sinks.append(SpooledSink(spool, transport_type(options[name], tls=tls), accepts=accepts))
        closing.callback(sinks[-1].close)
    return sinks


def tls_files(options: Mapping[str, Any]) -> "TlsFiles":
    """Return the certificates of one's own; raise if no address would use them."""
    from clapedge.live.tls import TlsFiles

    addresses = (options[name] or "" for name in ("source", "mqtt", "webhook", "home_assistant"))
    encrypted = any(address.startswith(("mqtts://", "https://", "rtsps://")) for address in addresses)
    for name in ("ca", "cert"):
        if options[name] and not encrypted:
            raise UsageError(f"--{name} is for mqtts://, https:// and rtsps://; no address begins with one of them")
    return TlsFiles(options["ca"], options["cert"])


def _open_clip_store(options: Mapping[str, Any]) -> "ClipStore | None":
    """Return what keeps the sound of events, if it is kept."""
    from clapedge.live.clip_files import parse_days
    from clapedge.live.clip_recorder import ClipStore
    from clapedge.live.voices import DEFAULT_VOICE_MODE

    if not options["keep"]:
        if options["voices"] != DEFAULT_VOICE_MODE:
            raise UsageError("--voices is for --keep, which is not given")
        if options["keep_days"]:
            raise UsageError("--keep-days is for --keep, which is not given")
        return None
    days = parse_days(options["keep_days"])
    return ClipStore(options["keep"], max_bytes=options["keep_bytes"], voices=options["voices"], days=days)


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
