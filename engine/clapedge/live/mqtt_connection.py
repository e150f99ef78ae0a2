"""A connection to an MQTT broker (the extra `mqtt`), made again whenever it is lost, which says why it is not there.

Version 5 of MQTT is spoken first: only there a broker gives the reason why it does not take a message. One that does
not know it gets version 3.1.1.
"""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from clapedge.errors import MissingExtraError, UsageError
from clapedge.live.addresses import without_password
from clapedge.live.tls import TlsFiles, failure_reason

if TYPE_CHECKING:
    import ssl

    from paho.mqtt.client import Client, MQTTMessage, MQTTMessageInfo
    from paho.mqtt.enums import MQTTProtocolVersion

PORTS = {"mqtt": 1883, "mqtts": 8883}

KEEP_ALIVE_SECONDS = 30
"""A broker that is silent for half as long again counts as lost."""

QUEUE_FULL = 15
"""paho's MQTT_ERR_QUEUE_SIZE."""

MOST_ANSWERS = 1000
"""Answers to messages that are kept: those of messages that nobody waits for are forgotten."""

LONGEST_COMMAND = 256
"""Bytes of a message that is received; commands are words and names."""

NOT_YET = "no connection yet"
"""Why there is no connection before the first try has ended."""

OTHER_VERSION = "Unsupported protocol version"
"""How paho calls the answer of a broker that does not know MQTT 5."""


@dataclass(frozen=True)
class BrokerAddress:
    """Where a broker is, and as whom one connects.

    Attributes:
        name: the address without passwords.
        host: its name.
        port: its port.
        user: name of the user; None for none.
        password: that of the user.
        path: what follows the host, without slashes around it.
        tls: of mqtts://, else None.
    """

    name: str
    host: str
    port: int
    user: str | None
    password: str
    path: str
    tls: "ssl.SSLContext | None"

    @classmethod
    def parse(cls, address: str, tls: TlsFiles | None) -> "BrokerAddress":
        """Read mqtt://[user:password@]host[:port][/path], or mqtts:// with TLS.

        Raises:
            UsageError: the address, or a certificate, cannot be used.
        """
        parts, name = urlsplit(address), without_password(address)
        if parts.scheme not in PORTS or not parts.hostname:
            raise UsageError(f"{name} is not the address of a broker; give mqtt://host:port/topic")
        path = unquote(parts.path.strip("/"))
        if "+" in path or "#" in address:
            raise UsageError(f"the topic of {name} holds + or #, which are for subscribers; name one without")
        user = unquote(parts.username) if parts.username else None
        context = (tls or TlsFiles()).context() if parts.scheme == "mqtts" else None
        password = unquote(parts.password or "")
        return cls(name, parts.hostname, parts.port or PORTS[parts.scheme], user, password, path, context)


class MqttConnection:
    """A connection that paho keeps: it opens it again by itself, after 1 s at first and 60 s at most.

    Attributes:
        reason: why there is no connection; empty while there is one.
        generation: how often another version of MQTT was gone on with; numbers of messages are of one generation.
    """

    def __init__(
        self,
        address: BrokerAddress,
        *,
        status_topic: str,
        most_queued: int,
        wanted: str,
        subscriptions: tuple[str, ...] = (),
        on_online: Callable[[], None] | None = None,
        on_message: Callable[[str, bytes], None] | None = None,
    ) -> None:
        """Connect in the background.

        Args:
            address: the broker's.
            status_topic: holds `online` or `offline` (retained, also as the last will).
            most_queued: messages that may wait for the broker.
            wanted: what needs paho, for the error.
            subscriptions: topics that are received.
            on_online: is called by paho's thread once there is a connection.
            on_message: is called by paho's thread with topic and payload of what is received, but for what the broker
                had kept: a command of old is none.

        Raises:
            MissingExtraError: paho-mqtt is not installed.
        """
        try:
            from paho.mqtt.enums import MQTTProtocolVersion
        except ImportError:
            raise MissingExtraError(wanted, "mqtt") from None
        self.name, self.reason, self.generation = address.name, NOT_YET, 0
        self._address, self._status_topic, self._most_queued = address, status_topic, most_queued
        self._subscriptions, self._on_online, self._on_message = subscriptions, on_online, on_message
        self._acknowledged: OrderedDict[int, Any] = OrderedDict()
        self._changed = threading.Condition()
        self._online, self._too_new, self._log_line = threading.Event(), False, ""
        self._closing, self._farewell = False, threading.Lock()
        self._client = self._start(MQTTProtocolVersion.MQTTv5)

    @property
    def online(self) -> bool:
        """Whether there is a connection; one that failed for the version of MQTT is tried again with another one."""
        if self._too_new:
            self._start_again()
        return self._online.is_set()

    def publish(self, topic: str, data: bytes | str, *, qos: int = 1, retain: bool = False) -> int | None:
        """Hand a message over, and return its number; None if too many wait for the broker, or for lack of one."""
        sent: MQTTMessageInfo = self._client.publish(topic, data, qos=qos, retain=retain)
        return None if sent.rc == QUEUE_FULL or (qos == 0 and sent.rc) else sent.mid

    def answer(self, number: int, seconds: float) -> Any:  # noqa: ANN401 - paho's
        """Return how the broker answered a message of QoS 1, as paho's reason code; None if it did not in time."""
        with self._changed:
            self._changed.wait_for(lambda: number in self._acknowledged, seconds)
            return self._acknowledged.get(number)

    def close(self) -> None:
        """Say goodbye, and disconnect."""
        with self._farewell:  # what contradicts a last will is said before goodbye, or not at all
            self._closing = True
        if self._online.is_set():
            sent = self._client.publish(self._status_topic, "offline", qos=1, retain=True)
            with suppress(ValueError, RuntimeError):  # paho's, of a connection lost just now: then the last will does
                sent.wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()
        left = self._client.socket()
        if left is not None:  # of a connection made just now: the last will says goodbye
            left.close()

    def _start(self, protocol: "MQTTProtocolVersion") -> "Client":
        """Return a client that connects in the background, again and again."""
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        client, address = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol), self._address
        if address.user:
            client.username_pw_set(address.user, address.password)
        if address.tls:
            client.tls_set_context(address.tls)
        client.will_set(self._status_topic, "offline", qos=1, retain=True)
        client.max_queued_messages_set(self._most_queued)
        client.reconnect_delay_set(1, 60)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_connect_fail, client.on_publish = self._failed, self._published
        client.on_subscribe, client.on_message = self._subscribed, self._received
        client.on_log = self._logged
        client.connect_async(address.host, address.port, KEEP_ALIVE_SECONDS)
        client.loop_start()
        return client

    def _start_again(self) -> None:
        """Go on with version 3.1.1 of MQTT."""
        from paho.mqtt.enums import MQTTProtocolVersion

        self._client.disconnect()
        self._client.loop_stop()
        self._too_new = False
        self.generation += 1
        self._acknowledged.clear()
        self._client = self._start(MQTTProtocolVersion.MQTTv311)

    def _connected(self, client: "Client", userdata: Any, flags: Any, reason: Any, properties: Any) -> None:  # noqa: ANN401, ARG002 - paho's
        """Ask for what is to be received, or note why the broker refuses."""
        if reason.is_failure:
            self._too_new = str(reason) == OTHER_VERSION
            self.reason = f"the broker refuses the connection ({reason}); check user, password and rights"
            return
        if self._closing:
            return
        client.subscribe([(topic, 1) for topic in (*self._subscriptions, self._status_topic)])

    def _failed(self, client: "Client", userdata: Any) -> None:  # noqa: ANN401, ARG002 - paho's
        """Note why no connection was made: paho calls this while it handles the error, and does not name it."""
        error = sys.exc_info()[1]
        self.reason = f"no connection: {failure_reason(error) if error else 'the reason is unknown'}"

    def _disconnected(self, client: "Client", userdata: Any, flags: Any, reason: Any, properties: Any) -> None:  # noqa: ANN401, ARG002 - paho's
        """Note that the connection is lost, unless the broker has given the reason before."""
        was_online = self._online.is_set()
        self._online.clear()
        if was_online or not self.reason.startswith("the broker refuses"):
            hint = "" if was_online or self._address.tls else "; does the broker want mqtts://?"
            self.reason = f"the connection was lost ({self._log_line or reason}){hint}"
        self._log_line = ""

    def _logged(self, client: "Client", userdata: Any, level: int, text: str) -> None:  # noqa: ANN401, ARG002 - paho's
        """Keep the error that paho logs alone, such as the alert of a server that wants a certificate."""
        from paho.mqtt.enums import LogLevel

        if level == LogLevel.MQTT_LOG_ERR:
            self._log_line = text

    def _published(self, client: "Client", userdata: Any, mid: int, reason: Any, properties: Any) -> None:  # noqa: ANN401, ARG002 - paho's
        """Note how the broker answered a message."""
        with self._changed:
            self._acknowledged[mid] = reason
            while len(self._acknowledged) > MOST_ANSWERS:
                self._acknowledged.popitem(last=False)
            self._changed.notify_all()

    def _subscribed(self, client: "Client", userdata: Any, mid: int, reasons: Any, properties: Any) -> None:  # noqa: ANN401, ARG002 - paho's
        """Announce that the listener is online, now that it misses no command; note what it may not receive."""
        with self._farewell:
            if self._closing:
                return
            client.publish(self._status_topic, "online", qos=1, retain=True)
        refused = [topic for topic, reason in zip(self._subscriptions, reasons, strict=False) if reason.is_failure]
        self.reason = f"the broker does not let this user subscribe to {', '.join(refused)}" if refused else ""
        self._online.set()
        if self._on_online:
            self._on_online()

    def _received(self, client: "Client", userdata: Any, message: "MQTTMessage") -> None:  # noqa: ANN401, ARG002 - paho's
        """Pass a message on; contradict the last will of an earlier connection, which a broker may send late."""
        if message.topic == self._status_topic:
            with self._farewell:
                if message.payload == b"offline" and not message.retain and not self._closing:
                    client.publish(self._status_topic, "online", qos=1, retain=True)
            return
        if self._on_message and not message.retain and len(message.payload) <= LONGEST_COMMAND:
            self._on_message(message.topic, bytes(message.payload))
