"""The link to Home Assistant: tells the broker what there is and how it goes, and takes commands from it.

All states are retained, and told again after each connection and each start of Home Assistant, so that whichever of
the three was started last finds them.
"""

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Protocol

import msgspec

from clapedge.live.backoff import is_power_of_two
from clapedge.live.home_assistant.devices import AS_CONFIGURED, PostTopics, SourceTopics, post_device, source_device
from clapedge.live.home_assistant.memory import Memory
from clapedge.live.home_assistant.source_state import Rate, SourceState
from clapedge.live.mqtt_connection import NOT_YET, BrokerAddress, MqttConnection
from clapedge.live.records import AlarmRecord, EventRecord, LevelRecord, Record
from clapedge.live.status import Status

logger = logging.getLogger("clapedge.live")

PREFIX = "homeassistant"
"""Home Assistant's default for where discovery and its own status are."""

TICK_SECONDS = 1.0
"""How often it is looked what changed; events are told at once."""

MOST_QUEUED = 10_000
"""Messages that may wait for the broker: all there is to tell of many sources, many times."""


MOST_ALARMS = 1000
"""Alarms that may wait while there is no connection; the oldest go."""


class Controlled(Protocol):
    """What is shown and switched: a post."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its sources."""
        ...

    def statuses(self) -> Mapping[str, Status]:
        """Return what each open source has done so far."""
        ...

    def pause(self, name: str, *, paused: bool) -> None:
        """Hear nothing of a source, or hear it again."""
        ...

    def reload(self) -> None:
        """Start sources again whose settings changed."""
        ...


class HomeAssistantLink:
    """Shows a post in Home Assistant, and takes what is switched there; a sink for the records of all its sources."""

    def __init__(self, address: BrokerAddress, memory: Memory, choices: Sequence[str]) -> None:
        """Prepare to connect.

        Args:
            address: the broker's; its path is the prefix of discovery, `homeassistant` if it has none.
            memory: remembers what was switched.
            choices: names of the label sets that can be selected.
        """
        self.memory, self.choices = memory, tuple(choices)
        self._address, self._prefix = address, address.path or PREFIX
        self._topics, self._host = PostTopics(memory.id), socket.gethostname()
        self._ears: dict[str, SourceState] = {}
        self._alarms: deque[AlarmRecord] = deque(maxlen=MOST_ALARMS)
        self._cpu = Rate()
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._anew, self._ended = threading.Event(), threading.Event()
        self._told: dict[str, bytes] = {}
        self._sent: dict[int, str] = {}
        self._noted: dict[str, int] = {}

    def write(self, record: Record, data: bytes) -> None:
        """Show a record."""
        with self._lock:
            ear = self._ears.setdefault(record.source, SourceState())
            if isinstance(record, LevelRecord):
                ear.level = record
            elif isinstance(record, EventRecord):
                ear.event = data
                ear.count(record)
            else:
                self._alarms.append(record)
        self._wake.set()

    def close(self) -> None:
        """Do nothing: it is of all sources, see `linked`."""

    def notes(self) -> Sequence[str]:
        """Return nothing: states are told again, so that none is lost."""
        return ()

    def chosen(self, name: str) -> str | None:
        """Return the label set that was selected for a source, if it can still be."""
        selected = self.memory.labels(name)
        return selected if selected in self.choices else None

    @contextmanager
    def linked(self, post: Controlled) -> Iterator[None]:
        """Show a post for as long as the block lasts.

        Raises:
            MissingExtraError: paho-mqtt is not installed.
        """
        commands = f"{self._topics.base}/+/+/set"
        connection = MqttConnection(
            self._address,
            status_topic=self._topics.status,
            most_queued=MOST_QUEUED,
            wanted="--home-assistant",
            subscriptions=(commands, f"{self._prefix}/status"),
            on_online=self._tell_anew,
            on_message=lambda topic, data: self._obey(post, topic, data),
        )
        thread = threading.Thread(target=self._work, args=(connection, post), name="home assistant", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._wake.set()
            thread.join()
            connection.close()

    def _tell_anew(self) -> None:
        """Tell everything again."""
        self._anew.set()
        self._wake.set()

    def _obey(self, post: Controlled, topic: str, data: bytes) -> None:
        """Do what is commanded; called by the thread of the connection."""
        if topic == f"{self._prefix}/status":
            if data == b"online":
                self._tell_anew()
            return
        text = data.decode(errors="replace")
        for name in post.names:
            source = self._topics.source(name)
            if topic == source.listening and text in {"ON", "OFF"}:
                self.memory.pause(name, paused=text == "OFF")
                post.pause(name, paused=text == "OFF")
                logger.info("%s is %s, as Home Assistant says", name, "paused" if text == "OFF" else "heard again")
                break
            if topic == source.labels and text in {AS_CONFIGURED, *self.choices}:
                self.memory.select(name, None if text == AS_CONFIGURED else text)
                post.reload()
                logger.info("%s is listened to for %s, as Home Assistant says", name, text)
                break
        else:
            self._note(f"a command to {topic} is not understood: {text!r:.60}")
        self._wake.set()

    def _work(self, connection: MqttConnection, post: Controlled) -> None:
        """Tell what changed, until the end."""
        while True:
            ended = self._ended.is_set()
            self._look(post)
            if connection.online:
                self._tell(connection, post.names)
            if connection.reason not in {"", NOT_YET}:
                self._note(connection.reason)
            if ended:
                return
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()

    def _look(self, post: Controlled) -> None:
        """Take the latest status of each source."""
        now, statuses = time.monotonic(), post.statuses()
        self._cpu.push(now, time.process_time())
        with self._lock:
            for name in post.names:
                self._ears.setdefault(name, SourceState()).look(statuses.get(name), now)

    def _tell(self, connection: MqttConnection, names: Sequence[str]) -> None:
        """Publish what is not known yet."""
        if self._anew.is_set():
            self._anew.clear()
            self._told.clear()
        with self._lock:
            wanted = self._messages(names)
        for name in self.memory.keep(names):
            wanted |= self._farewell(self._topics.source(name))
        wanted |= {topic: b"" for topic, data in self._told.items() if data and topic not in wanted}
        for topic, data in wanted.items():
            if self._told.get(topic) == data:
                continue
            number = connection.publish(topic, data, retain=True)
            if number is None:
                self._note("the broker acknowledges nothing")
                return
            self._told[topic], self._sent[number] = data, topic
        while self._alarms:  # after the devices, which say what alarms there may be
            self._tell_alarm(connection, self._alarms.popleft())
        self._note_refusals(connection)

    def _tell_alarm(self, connection: MqttConnection, record: AlarmRecord) -> None:
        """Publish an alarm, which is no state: whoever is not there does not learn of it from here."""
        topic = self._topics.source(record.source).alarm
        number = connection.publish(topic, _json({"event_type": record.rule, **msgspec.to_builtins(record)}))
        if number is not None:
            self._sent[number] = topic

    def _messages(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return all that is to be known, by topic; devices stand first."""
        found = {
            self._config(self._topics.device): _json(post_device(self._topics, self._host)),
            self._topics.state: _json({"processor": _percent(self._cpu.share)}),
        }
        for name in names:
            found |= self._of_source(self._topics.source(name), self._ears.setdefault(name, SourceState()))
        return found

    def _of_source(self, topics: SourceTopics, ear: SourceState) -> dict[str, bytes]:
        """Return all that is to be known of a source."""
        now, status, level = time.monotonic(), ear.status, ear.level
        state = {
            "listening": "OFF" if topics.name in self.memory.paused else "ON",
            "labels": self.chosen(topics.name) or AS_CONFIGURED,
            "processor": _percent(ear.cpu.share),
            "latency": round(status.latency_ms[0]) if status and status.latency_ms else None,
            "dropped": round(status.dropped_s, 1) if status else None,
            "reconnects": status.reconnects if status else None,
            "overload": "ON" if ear.overloaded(now) else "OFF",
        }
        found = {
            self._config(topics.device): _described(
                topics,
                ear.labels,
                frozenset(ear.former),
                self.choices,
                None if level is None else level.calibrated,
                ear.rules,
            ),
            topics.availability: b"online" if ear.available(now) else b"offline",
            topics.state: _json(state),
            **{topics.label(label): b"ON" if ear.hears(label) else b"OFF" for label in ear.labels},
        }
        if ear.event is not None:
            found[topics.event] = ear.event
        if level is not None:
            found[topics.level] = _json(level)
        return found

    def _farewell(self, topics: SourceTopics) -> dict[str, bytes]:
        """Return what removes a source that is not listened to any more."""
        return dict.fromkeys((self._config(topics.device), topics.event, topics.state, topics.availability), b"")

    def _config(self, device: str) -> str:
        """Return the topic at which a device is described."""
        return f"{self._prefix}/device/{device}/config"

    def _note_refusals(self, connection: MqttConnection) -> None:
        """Log what the broker does not take."""
        for number, topic in list(self._sent.items()):
            answer = connection.answer(number, 0.0)
            if answer is not None:
                del self._sent[number]
                if answer.is_failure:
                    self._note(f"the broker does not take {topic} ({answer}); may this user publish to it?")

    def _note(self, reason: str) -> None:
        """Log a reason the first time, and then more and more rarely."""
        self._noted[reason] = self._noted.get(reason, 0) + 1
        if is_power_of_two(self._noted[reason]):
            logger.warning("%s: %s", self._address.name, reason)


@lru_cache(100)
def _described(
    topics: SourceTopics,
    labels: tuple[str, ...],
    former: frozenset[str],
    choices: tuple[str, ...],
    calibrated: bool | None,  # noqa: FBT001 - as a key
    rules: tuple[str, ...] | None,
) -> bytes:
    """Return the device of a source as JSON, which seldom changes."""
    return _json(source_device(topics, labels, former, choices, calibrated=calibrated, rules=rules))


def _json(content: object) -> bytes:
    """Return JSON."""
    return msgspec.json.encode(content)


def _percent(share: float | None) -> float | None:
    """Return a share as percent."""
    return None if share is None else round(100 * share, 1)
