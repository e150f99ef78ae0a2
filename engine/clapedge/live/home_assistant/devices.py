"""What Home Assistant is told of: a device for the post and one for each source, in the form of its MQTT discovery.

The form is that of https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload (2024.11 and later).
"""

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from clapedge import __version__

BASE = "clapedge"
"""What topics begin with, and ids."""

AS_CONFIGURED = "as configured"
"""The option for the labels that the settings of a source name."""

LONGEST_SLUG = 40
"""Characters of a name in an id."""

ORIGIN = {"name": "clapedge", "sw_version": __version__}

Payload = dict[str, Any]


@lru_cache(1000)
def slug(name: str) -> str:
    """Return a name as ids and topics may hold it (letters of ASCII, digits, _); different ones stay different."""
    plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    if plain == name and len(plain) <= LONGEST_SLUG:
        return plain
    return f"{plain[:LONGEST_SLUG]}_{hashlib.sha256(name.encode()).hexdigest()[:6]}".lstrip("_")


@dataclass(frozen=True)
class PostTopics:
    """The topics of a post.

    Attributes:
        id: the post's.
    """

    id: str

    @property
    def base(self) -> str:
        """What all of them begin with."""
        return f"{BASE}/{self.id}"

    @property
    def status(self) -> str:
        """Holds `online` or `offline`, the last will too."""
        return f"{self.base}/status"

    @property
    def state(self) -> str:
        """Holds the figures of the post."""
        return f"{self.base}/state"

    @property
    def device(self) -> str:
        """Id of the device."""
        return f"{BASE}_{self.id}"

    def source(self, name: str) -> "SourceTopics":
        """Return those of a source."""
        return SourceTopics(self, name)


@dataclass(frozen=True)
class SourceTopics:
    """The topics of a source.

    Attributes:
        post: those of its post.
        name: its name.
    """

    post: PostTopics
    name: str

    @property
    def base(self) -> str:
        """What all of them begin with."""
        return f"{self.post.base}/{slug(self.name)}"

    @property
    def device(self) -> str:
        """Id of the device."""
        return f"{self.post.device}_{slug(self.name)}"

    @property
    def availability(self) -> str:
        """Holds `online` while sound arrives, or while it is paused."""
        return f"{self.base}/availability"

    @property
    def state(self) -> str:
        """Holds what is switched, and figures."""
        return f"{self.base}/state"

    @property
    def event(self) -> str:
        """Holds the latest record of an event."""
        return f"{self.base}/event"

    @property
    def alarm(self) -> str:
        """Gets each alarm, once: it is no state, and not retained."""
        return f"{self.base}/alarm"

    @property
    def level(self) -> str:
        """Holds the record of the latest minute."""
        return f"{self.base}/level"

    @property
    def listening(self) -> str:
        """Takes the command of the switch."""
        return f"{self.base}/listening/set"

    @property
    def labels(self) -> str:
        """Takes the command of the selection."""
        return f"{self.base}/labels/set"

    def label(self, label: str) -> str:
        """Holds whether a label is heard."""
        return f"{self.base}/label/{slug(label)}"


def post_device(topics: PostTopics, host: str) -> Payload:
    """Return the device of a post, which runs on a machine of that name."""
    processor = {
        "platform": "sensor",
        "name": "Processor",
        "unique_id": f"{topics.device}_processor",
        "state_topic": topics.state,
        "value_template": "{{ value_json.processor }}",
        **_PERCENT,
    }
    return {
        "device": {
            "identifiers": [topics.device],
            "name": f"clapedge on {host}",
            "manufacturer": "clapedge",
            "model": "Listening post",
            "sw_version": __version__,
        },
        "origin": ORIGIN,
        "availability_topic": topics.status,
        "components": {"processor": processor},
    }


def source_device(
    topics: SourceTopics,
    labels: Sequence[str],
    former: Collection[str],
    choices: Sequence[str],
    *,
    calibrated: bool | None,
    rules: Sequence[str] | None = None,
) -> Payload:
    """Return the device of a source.

    Args:
        topics: its topics.
        labels: names of the labels that it is listened to for.
        former: those of labels that it was listened to for, whose sensors are to go.
        choices: names of the label sets that can be selected.
        calibrated: whether its sound levels are calibrated; None if they are not measured.
        rules: names of the rules of its alarms; empty where it had some, None where it never had.
    """
    parts = {
        **_events(topics, labels),
        **(_alarms(topics, rules) if rules else {}),
        **_switches(topics, choices),
        **_figures(topics),
        **({} if calibrated is None else _levels(topics, calibrated=calibrated)),
    }
    for key, part in parts.items():
        part["unique_id"] = f"{topics.device}_{key}"
    parts |= {f"label_{slug(label)}": {"platform": "binary_sensor"} for label in sorted(former)}  # which removes them
    parts |= {"alarm": {"platform": "event"}} if rules is not None and not rules else {}
    return {
        "device": {
            "identifiers": [topics.device],
            "name": topics.name,
            "manufacturer": "clapedge",
            "model": "Sound source",
            "sw_version": __version__,
            "via_device": topics.post.device,
        },
        "origin": ORIGIN,
        "availability": [{"topic": topics.post.status}, {"topic": topics.availability}],
        "availability_mode": "all",
        "components": parts,
    }


_PERCENT = {
    "unit_of_measurement": "%",
    "state_class": "measurement",
    "entity_category": "diagnostic",
    "icon": "mdi:chip",
    "suggested_display_precision": 1,
}


def _events(topics: SourceTopics, labels: Sequence[str]) -> dict[str, Payload]:
    """Return the latest event, and a sensor a label."""
    last = {
        "platform": "sensor",
        "name": "Last event",
        "state_topic": topics.event,
        "value_template": "{{ value_json.label }}",
        "json_attributes_topic": topics.event,
        "icon": "mdi:ear-hearing",
    }
    heard = {
        f"label_{slug(label)}": {
            "platform": "binary_sensor",
            "name": label,
            "device_class": "sound",
            "state_topic": topics.label(label),
        }
        for label in labels
    }
    return {"last_event": last, **heard}


def _alarms(topics: SourceTopics, rules: Sequence[str]) -> dict[str, Payload]:
    """Return what automations begin with: an event, of the rule that gave the alarm."""
    alarm = {
        "platform": "event",
        "name": "Alarm",
        "event_types": list(rules),
        "state_topic": topics.alarm,
        "icon": "mdi:bell-ring",
    }
    return {"alarm": alarm}


def _switches(topics: SourceTopics, choices: Sequence[str]) -> dict[str, Payload]:
    """Return what can be switched, also while no sound arrives."""
    alone = {"availability": [{"topic": topics.post.status}], "state_topic": topics.state, "entity_category": "config"}
    return {
        "listening": {
            "platform": "switch",
            "name": "Listening",
            "value_template": "{{ value_json.listening }}",
            "command_topic": topics.listening,
            "icon": "mdi:microphone",
            **alone,
        },
        "labels": {
            "platform": "select",
            "name": "Labels",
            "value_template": "{{ value_json.labels }}",
            "command_topic": topics.labels,
            "options": [AS_CONFIGURED, *choices],
            "icon": "mdi:playlist-music",
            **alone,
        },
    }


def _figures(topics: SourceTopics) -> dict[str, Payload]:
    """Return figures for who looks for a fault."""
    figures: dict[str, Payload] = {
        "processor": {"platform": "sensor", "name": "Processor", **_PERCENT},
        "latency": {
            "platform": "sensor",
            "name": "Latency",
            "unit_of_measurement": "ms",
            "device_class": "duration",
            "state_class": "measurement",
        },
        "dropped": {
            "platform": "sensor",
            "name": "Dropped sound",
            "unit_of_measurement": "s",
            "device_class": "duration",
            "state_class": "total_increasing",
        },
        "reconnects": {"platform": "sensor", "name": "Reconnects", "state_class": "total_increasing"},
        "overload": {"platform": "binary_sensor", "name": "Overload", "device_class": "problem"},
    }
    common = {"state_topic": topics.state, "entity_category": "diagnostic"}
    return {
        key: {**figure, **common, "value_template": f"{{{{ value_json.{key} }}}}"} for key, figure in figures.items()
    }


def _levels(topics: SourceTopics, *, calibrated: bool) -> dict[str, Payload]:
    """Return the levels of the latest minute."""
    unit = (
        {"unit_of_measurement": "dBA", "device_class": "sound_pressure"}
        if calibrated
        else {"unit_of_measurement": "dBFS"}
    )
    return {
        key: {
            "platform": "sensor",
            "name": name,
            "state_topic": topics.level,
            "value_template": f"{{{{ value_json.{key} }}}}",
            "state_class": "measurement",
            "icon": "mdi:volume-high",
            "suggested_display_precision": 1,
            **unit,
        }
        for key, name in (("laeq", "Level"), ("lafmax", "Loudest"))
    }
