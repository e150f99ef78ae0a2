"""Events to an MQTT broker (the extra `mqtt`): QoS 1, each message until the broker has acknowledged it.

Version 5 of MQTT is spoken first: only there a broker gives the reason why it does not take a message. One that does
not know it gets version 3.1.1.
"""

import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from clapedge.errors import MissingExtraError, UsageError
from clapedge.live.addresses import without_password
from clapedge.live.sinks.delivery import RefusedError, UndeliveredError
from clapedge.live.tls import TlsFiles, failure_reason

if TYPE_CHECKING:
    from paho.mqtt.client import Client
    from paho.mqtt.enums import MQTTProtocolVersion

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


REFUSED_CODES = frozenset({"Topic name invalid", "Payload format invalid", "Packet too large"})
"""Answers to a message after which it is given up. After all others, such as a missing right to publish, which may be
granted, it is sent again."""

OTHER_VERSION = "Unsupported protocol version"
"""How paho calls the answer of a broker that does not know MQTT 5."""


class MqttTransport:
    """Publishes messages under one topic, and under `TOPIC/status` whether it is online (retained)."""

    def __init__(self, address: str, *, tls: TlsFiles | None = None) -> None:
        """Connect in the background.

        Args:
            address: mqtt://[user:password@]host[:port][/topic], or mqtts:// with TLS.
            tls: certificates for mqtts://; None means those of the system.

        Raises:
            MissingExtraError: paho-mqtt is not installed.
            UsageError: the address, or a certificate, cannot be used.
        """
        try:
            from paho.mqtt.enums import MQTTProtocolVersion
        except ImportError:
            raise MissingExtraError("--mqtt", "mqtt") from None
        self._parts = urlsplit(address)
        self.name = without_password(address)
        if self._parts.scheme not in PORTS or not self._parts.hostname:
            raise UsageError(f"{self.name} is not the address of a broker; give mqtt://host:port/topic")
        self._topic = unquote(self._parts.path.strip("/")) or TOPIC
        if "+" in self._topic or "#" in address:
            raise UsageError(f"the topic of {self.name} holds + or #, which are for subscribers; name one without")
        self._tls = (tls or TlsFiles()).context() if self._parts.scheme == "mqtts" else None
        self._sent: tuple[str, int] | None = None
        self._acknowledged: OrderedDict[int, Any] = OrderedDict()
        self._changed = threading.Condition()
        self._online = threading.Event()
        self._reason, self._log_line = "no connection yet", ""
        self._too_new = False
        self._client = self._start(MQTTProtocolVersion.MQTTv5)

    def _start(self, protocol: "MQTTProtocolVersion") -> "Client":
        """Return a client that connects in the background, again and again."""
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        client, parts = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol), self._parts
        if parts.username:
            client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if self._tls:
            client.tls_set_context(self._tls)
        client.will_set(f"{self._topic}/status", "offline", qos=1, retain=True)
        client.max_queued_messages_set(MOST_QUEUED)
        client.reconnect_delay_set(1, 60)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_connect_fail, client.on_publish = self._failed, self._published
        client.on_log = self._logged
        client.connect_async(str(parts.hostname), parts.port or PORTS[parts.scheme], KEEP_ALIVE_SECONDS)
        client.loop_start()
        return client

    def send(self, key: str, data: bytes) -> None:
        """Publish a message and wait until the broker acknowledges it, see `Transport.send`."""
        if self._too_new:
            self._start_again()
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
            answer = self._acknowledged[number]
        self._sent = None
        if answer.is_failure:
            refused = RefusedError if str(answer) in REFUSED_CODES else UndeliveredError
            raise refused(f"the broker does not take it ({answer}); may this user publish to {self._topic}?")

    def close(self) -> None:
        """Disconnect from the broker."""
        if self._online.is_set():
            sent = self._client.publish(f"{self._topic}/status", "offline", qos=1, retain=True)
            with suppress(ValueError, RuntimeError):  # paho's, of a connection lost just now: then the last will does
                sent.wait_for_publish(1.0)
        self._client.disconnect()
        self._client.loop_stop()

    def _start_again(self) -> None:
        """Go on with version 3.1.1 of MQTT."""
        from paho.mqtt.enums import MQTTProtocolVersion

        self._client.disconnect()
        self._client.loop_stop()
        self._too_new, self._sent = False, None
        self._client = self._start(MQTTProtocolVersion.MQTTv311)

    def _connected(self, client: "Client", userdata: Any, flags: Any, reason: Any, properties: Any) -> None:  # noqa: ANN401, ARG002 - paho's
        """Announce that the listener is online, or note why the broker refuses."""
        if reason.is_failure:
            self._too_new = str(reason) == OTHER_VERSION
            self._reason = f"the broker refuses the connection ({reason}); check user, password and rights"
            return
        client.publish(f"{self._topic}/status", "online", qos=1, retain=True)
        self._reason = ""
        self._online.set()

    def _failed(self, client: "Client", userdata: Any) -> None:  # noqa: ANN401, ARG002 - paho's
        """Note why no connection was made: paho calls this while it handles the error, and does not name it."""
        error = sys.exc_info()[1]
        self._reason = f"no connection: {failure_reason(error) if error else 'the reason is unknown'}"

    def _disconnected(self, client: "Client", userdata: Any, flags: Any, reason: Any, properties: Any) -> None:  # noqa: ANN401, ARG002 - paho's
        """Note that the connection is lost, unless the broker has given the reason before."""
        was_online = self._online.is_set()
        self._online.clear()
        if was_online or not self._reason.startswith("the broker refuses"):
            hint = "" if was_online or self._tls else "; does the broker want mqtts://?"
            self._reason = f"the connection was lost ({self._log_line or reason}){hint}"
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
            while len(self._acknowledged) > 2 * MOST_QUEUED:
                self._acknowledged.popitem(last=False)
            self._changed.notify_all()
