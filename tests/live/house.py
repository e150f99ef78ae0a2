"""What a broker tells Home Assistant, for the tests."""

import json
import threading
from pathlib import Path
from typing import Any

from tests.live.staging import PATIENCE


class House:
    """What Home Assistant would see: the latest payload of each topic, and how often each came."""

    def __init__(self, port: int, ca: Path | None = None) -> None:
        """Subscribe to all."""
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self.topics: dict[str, bytes] = {}
        self.counts: dict[str, int] = {}
        ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        if ca:
            self._client.tls_set(str(ca))
        self._client.on_connect = lambda client, *_: client.subscribe([("homeassistant/#", 1), ("clapedge/#", 1)])
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = lambda _client, _data, message: self._take(message.topic, bytes(message.payload))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(PATIENCE)

    def _take(self, topic: str, payload: bytes) -> None:
        """Keep a payload."""
        self.counts[topic] = self.counts.get(topic, 0) + 1
        self.topics[topic] = payload

    def say(self, topic: str, payload: str, *, retain: bool = False) -> None:
        """Publish."""
        self._client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(PATIENCE)

    def has(self, topic: str, payload: str) -> bool:
        """Return whether a topic ends so, and holds that."""
        return any(each.endswith(topic) and data == payload.encode() for each, data in list(self.topics.items()))

    def state(self, source: str) -> dict[str, Any]:
        """Return the state of a source."""
        found = [data for topic, data in list(self.topics.items()) if topic.endswith(f"/{source}/state")]
        return json.loads(found[0]) if found and found[0] else {}

    def device(self, name: str) -> dict[str, Any]:
        """Return the device of that name."""
        payloads = [data for topic, data in list(self.topics.items()) if topic.endswith("/config") and data]
        devices = [json.loads(data) for data in payloads]
        return next((each for each in devices if each["device"]["name"] == name), {})

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()
