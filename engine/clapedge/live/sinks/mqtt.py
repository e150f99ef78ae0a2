"""Events to an MQTT broker (the extra `mqtt`): QoS 1, each until the broker has acknowledged it; or once at most."""

import logging
from collections.abc import Sequence

from clapedge.live.backoff import is_power_of_two
from clapedge.live.mqtt_connection import BrokerAddress, MqttConnection
from clapedge.live.records import Accepts, Record, every_record
from clapedge.live.sinks.delivery import RefusedError, UndeliveredError
from clapedge.live.tls import TlsFiles

logger = logging.getLogger("clapedge.live")

TOPIC = "clapedge/events"

ACKNOWLEDGE_SECONDS = 20.0
"""Timeout of a broker that does not acknowledge a message."""

PAUSE_SECONDS = 1.0
"""Between looks at the connection."""

MOST_QUEUED = 16
"""Messages that paho may hold: one and the status; the rest waits in the spool."""

REFUSED_CODES = frozenset({"Topic name invalid", "Payload format invalid", "Packet too large"})
"""Answers to a message after which it is given up. After all others, such as a missing right to publish, which may be
granted, it is sent again."""


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
        broker = BrokerAddress.parse(address, tls)
        self.name, self.topic = broker.name, broker.path or TOPIC
        self.connection = MqttConnection(
            broker, status_topic=f"{self.topic}/status", most_queued=MOST_QUEUED, wanted="--mqtt"
        )
        self._sent: tuple[str, int, int] | None = None  # key, generation and number

    def send(self, key: str, data: bytes) -> None:
        """Publish a message and wait until the broker acknowledges it, see `Transport.send`."""
        connection = self.connection
        if not connection.online:
            raise UndeliveredError(connection.reason, PAUSE_SECONDS)
        if self._sent is None or self._sent[:2] != (
            key,
            connection.generation,
        ):  # else paho still holds it, and sends it again by itself
            number = connection.publish(self.topic, data)
            if number is None:
                raise UndeliveredError("the broker acknowledges nothing", PAUSE_SECONDS)
            self._sent = key, connection.generation, number
        answer = connection.answer(self._sent[2], ACKNOWLEDGE_SECONDS)
        if answer is None:
            raise UndeliveredError("the broker does not acknowledge it", PAUSE_SECONDS)
        self._sent = None
        if answer.is_failure:
            refused = RefusedError if str(answer) in REFUSED_CODES else UndeliveredError
            raise refused(f"the broker does not take it ({answer}); may this user publish to {self.topic}?")

    def close(self) -> None:
        """Disconnect from the broker."""
        self.connection.close()


class UnspooledMqttSink:
    """Publishes each record at most once (QoS 0): what comes while there is no connection is lost, and counted."""

    def __init__(self, address: str, *, tls: TlsFiles | None = None, accepts: Accepts = every_record) -> None:
        """Connect in the background, see `MqttTransport`; records that are not accepted are not sent.

        Raises:
            MissingExtraError: paho-mqtt is not installed.
            UsageError: the address, or a certificate, cannot be used.
        """
        self._transport, self._accepts = MqttTransport(address, tls=tls), accepts
        self._lost = 0

    def write(self, record: Record, data: bytes) -> None:
        """Publish a record, if there is a connection."""
        if not self._accepts(record):
            return
        connection = self._transport.connection
        if connection.online and connection.publish(self._transport.topic, data, qos=0) is not None:
            return
        self._lost += 1
        if is_power_of_two(self._lost):
            reason = connection.reason or "too much waits"
            logger.warning("%s: %s; %d records are lost for lack of --spool", connection.name, reason, self._lost)

    def close(self) -> None:
        """Disconnect from the broker."""
        self._transport.close()

    def notes(self) -> Sequence[str]:
        """Return what was lost."""
        if not self._lost:
            return []
        return [f"{self._transport.name}: {self._lost} records were lost, for lack of a spool to wait in"]
