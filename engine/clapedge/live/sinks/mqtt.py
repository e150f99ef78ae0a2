"""Events to an MQTT broker (the extra `mqtt`): QoS 1, each message until the broker has acknowledged it."""

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from clapedge.errors import MissingExtraError, UsageError
from clapedge.live.addresses import without_password
from clapedge.live.sinks.delivery import UndeliveredError

if TYPE_CHECKING:
    from paho.mqtt.client import Client

PORTS = {"mqtt": 1883, "mqtts": 8883}

TOPIC = "clapedge/events"

KEEP_ALIVE_SECONDS = 30
"""A broker that is silent for half as long again counts as lost."""

ACKNOWLEDGE_SECONDS = 20.0
"""Timeout of a broker that does not acknowledge a message."""

PAUSE_SECONDS = 1.0
"""Between looks at the connection, which paho opens again by itself, after 1 s at first and 60 s at most."""

QUEUE_FULL = 15
"""paho's MQTT_ERR_QUEUE_SIZE."""

MOST_QUEUED = 16
"""Messages that paho may hold: one and the status; the rest waits in the spool."""


class MqttTransport:
    """Publishes messages under one topic, and under `TOPIC/status` whether it is online (retained)."""

    def __init__(self, address: str) -> None:
        """Connect in the background.

        Args:
            address: mqtt://[user:password@]host[:port][/topic], or mqtts:// with TLS.

        Raises:
            MissingExtraError: paho-mqtt is not installed.
            UsageError: the address cannot be used.
        """
        try:
            from paho.mqtt import client
            from paho.mqtt.enums import CallbackAPIVersion
        except ImportError:
            raise MissingExtraError("--mqtt", "mqtt") from None
        parts = urlsplit(address)
        if parts.scheme not in PORTS or not parts.hostname:
            raise UsageError(f"{without_password(address)} is not the address of a broker; give mqtt://host:port/topic")
        self.name = without_password(address)
        self._topic = unquote(parts.path.strip("/")) or TOPIC
        if "+" in self._topic or "#" in address:
            raise UsageError(f"the topic of {self.name} holds + or #, which are for subscribers; name one without")
        self._sent: tuple[str, int] | None = None
        self._acknowledged: deque[int] = deque(maxlen=2 * MOST_QUEUED)
        self._changed = threading.Condition()
        self._online = threading.Event()
        self._reason = "no connection yet"
        self._client: Client = client.Client(CallbackAPIVersion.VERSION2)
        if parts.username:
            self._client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if parts.scheme == "mqtts":
            self._client.tls_set()
        self._client.will_set(f"{self._topic}/status", "offline", qos=1, retain=True)
        self._client.max_queued_messages_set(MOST_QUEUED)
        self._client.reconnect_delay_set(1, 60)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_publish = self._published
        self._client.connect_async(parts.hostname, parts.port or PORTS[parts.scheme], KEEP_ALIVE_SECONDS)
        self._client.loop_start()

    def send(self, key: str, data: bytes) -> None:
        """Publish a message and wait until the broker acknowledges it, see `Transport.send`."""
        if not self._online.is_set():
            raise UndeliveredError(self._reason, PAUSE_SECONDS)
        if self._sent is None or self._sent[0] != key:  # else paho still holds it, and sends it again by itself
            sent = self._client.publish(self._topic, data, qos=1)
            if sent.rc == QUEUE_FULL:
                raise UndeliveredError("the broker acknowledges nothing", PAUSE_SECONDS)
            self._sent = key, sent.mid
        number = self._sent[1]
        with self._changed:
            if not self._changed.wait_for(lambda: number in self._acknowledged, ACKNOWLEDGE_SECONDS):
                raise UndeliveredError("the broker does not acknowledge it", PAUSE_SECONDS)
        self._sent = None

    def close(self) -> None:
        """Disconnect from the broker."""
        if self._online.is_set():
            sent = self._client.publish(f"{self._topic}/status", "offline", qos=1, retain=True)
            with suppress(ValueError, RuntimeError):  # paho's, of a connection lost just now: then the last will does
                sent.wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: "Client", userdata: Any, flags: Any, reason: Any, properties: Any) -> None:  # noqa: ANN401, ARG002 - paho's
        """Announce that the listener is online, or note why the broker refuses."""
        if reason.is_failure:
            self._reason = f"the broker refuses the connection ({reason})"
            return
        self._client.publish(f"{self._topic}/status", "online", qos=1, retain=True)
        self._online.set()

    def _disconnected(self, client: "Client", userdata: Any, flags: Any, reason: Any, properties: Any) -> None:  # noqa: ANN401, ARG002 - paho's
        """Note that the connection is lost."""
        self._online.clear()
        self._reason = f"the connection was lost ({reason})"

    def _published(self, client: "Client", userdata: Any, mid: int, reason: Any, properties: Any) -> None:  # noqa: ANN401, ARG002 - paho's
        """Note that the broker acknowledged a message."""
        with self._changed:
            self._acknowledged.append(mid)
            self._changed.notify_all()
