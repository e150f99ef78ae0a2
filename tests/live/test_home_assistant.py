"""Home Assistant as its broker sees the link: devices, states, commands, and what is told again after a restart."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from tests.live.brokers import Broker
from tests.live.certificates import authority
from tests.live.house import House
from tests.live.staging import YARD, alarm_of, eventually, record_of

from clapedge.cli import cli
from clapedge.errors import ClapEdgeError, UsageError
from clapedge.live.home_assistant import source_state
from clapedge.live.home_assistant.devices import AS_CONFIGURED, PostTopics, slug, source_device
from clapedge.live.home_assistant.link import HomeAssistantLink
from clapedge.live.home_assistant.memory import Memory
from clapedge.live.home_assistant.source_state import Rate, SourceState
from clapedge.live.mqtt_connection import BrokerAddress
from clapedge.live.records import LevelRecord, Record
from clapedge.live.sinks.mqtt import UnspooledMqttSink
from clapedge.live.status import Status
from clapedge.live.tls import TlsFiles


@dataclass
class FakePost:
    """A post as the link sees it."""

    statuses_: dict[str, Status]
    paused: list[tuple[str, bool]] = field(default_factory=list)
    reloads: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.statuses_)

    def statuses(self) -> dict[str, Status]:
        return self.statuses_

    def pause(self, name: str, *, paused: bool) -> None:
        self.paused.append((name, paused))

    def reload(self) -> None:
        self.reloads += 1


def status(name: str = "yard", **changed: Any) -> Status:  # noqa: ANN401 - of any field
    """Return a status in which nothing was dropped or lost yet."""
    quiet = {
        "run": "0a1b",
        "labels": ("siren", "dog"),
        "sound_s": 0.0,
        "samples_dropped": 0,
        "reconnects": 0,
        "level": None,
    }
    return msgspec.structs.replace(YARD, **{**quiet, "source": name, "latency_ms": (31.4, 40.0, 50.0), **changed})


@contextmanager
def link_to(port: int, post: FakePost, path: Path, **options: Any) -> Iterator[HomeAssistantLink]:  # noqa: ANN401
    """Link a post."""
    address = BrokerAddress.parse(f"mqtt://127.0.0.1:{port}", None)
    link = HomeAssistantLink(address, Memory(path), options.get("choices", ("city", "home")))
    with link.linked(post):
        yield link


def give(link: HomeAssistantLink, record: Record) -> None:
    """Write a record as a source does."""
    link.write(record, msgspec.json.encode(record))


def test_ids_are_of_ascii_and_different_names_keep_different_ones() -> None:
    names = ["yard", "Yard", "back yard", "back_yard", "院子", "院", "rtsp://camera.local/stream", "é" * 40, "x" * 100]
    ids = [slug(name) for name in names]
    assert len(set(ids)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9_]{1,60}", each) for each in ids)
    assert slug("yard") == "yard"


def test_every_part_of_a_device_has_an_id_of_its_own_and_levels_have_the_unit_of_their_calibration() -> None:
    topics = PostTopics("1234").source("院子")
    for calibrated, unit in ((None, None), (False, "dBFS"), (True, "dBA")):
        device = source_device(topics, ["dog", "Dog"], ["old"], ["city"], calibrated=calibrated)
        parts = device["components"]
        ids = [part["unique_id"] for part in parts.values() if len(part) > 1]
        assert len(set(ids)) == len(ids)
        assert parts["label_old"] == {"platform": "binary_sensor"}
        assert parts.get("laeq", {}).get("unit_of_measurement") == unit
        assert parts["labels"]["options"] == [AS_CONFIGURED, "city"]


def test_what_goes_on_is_retained_and_told_at_once(house: House, forgetful_broker: Broker, tmp_path: Path) -> None:
    post = FakePost({"yard": status()})
    with link_to(forgetful_broker.port, post, tmp_path / "ha.json") as link:
        eventually(lambda: house.has("/yard/label/siren", "OFF"))
        assert house.device("yard")["components"]["label_siren"]["name"] == "siren"
        assert house.state("yard") == {
            "listening": "ON",
            "labels": AS_CONFIGURED,
            "processor": None,
            "latency": 31,
            "dropped": 0.0,
            "reconnects": 0,
            "overload": "OFF",
        }
        give(link, msgspec.structs.replace(record_of(1, "begin"), source="yard"))
        eventually(lambda: house.has("/yard/label/siren", "ON"))
        late = House(forgetful_broker.port)  # such as Home Assistant started again
        eventually(lambda: late.has("/yard/label/siren", "ON") and late.device("yard"))
        late.close()
        give(link, msgspec.structs.replace(record_of(1, "end", 1), source="yard"))
        eventually(lambda: house.has("/yard/label/siren", "OFF"))
        assert any(topic.endswith("/yard/event") and b'"siren"' in data for topic, data in house.topics.items())
        level = LevelRecord(
            id="0a1b",
            sequence=0,
            at="2026-01-01T00:00:00.000Z",
            seconds=60.0,
            laeq=54.2,
            lafmax=61.0,
            calibrated=True,
            source="yard",
        )
        give(link, level)
        eventually(lambda: "laeq" in house.device("yard")["components"])
        eventually(lambda: any(topic.endswith("/yard/level") for topic in house.topics))
        assert house.has("/status", "online")
    eventually(lambda: house.has("/status", "offline"))


def test_an_alarm_is_told_once_to_whoever_listens_and_its_rules_are_known(
    house: House, forgetful_broker: Broker, tmp_path: Path
) -> None:
    post = FakePost({"yard": status(alarms={"night": 0, "glass": 2})})
    with link_to(forgetful_broker.port, post, tmp_path / "ha.json") as link:
        eventually(lambda: house.device("yard"))
        part = house.device("yard")["components"]["alarm"]
        assert (part["platform"], part["event_types"]) == ("event", ["night", "glass"])
        give(link, msgspec.structs.replace(alarm_of(3), source="yard"))
        eventually(lambda: part["state_topic"] in house.topics)
        told = json.loads(house.topics[part["state_topic"]])
        assert (told["event_type"], told["rule"], told["event"]) == ("night", "night", "0a1b-1")
        late = House(forgetful_broker.port)
        eventually(lambda: late.device("yard"))
        link.write(record_of(1), msgspec.json.encode(msgspec.structs.replace(record_of(1), source="yard")))
        house.say("homeassistant/status", "online")
        eventually(lambda: house.counts[next(t for t in house.topics if t.endswith("/yard/availability"))] > 1)
        assert part["state_topic"] not in late.topics
        assert house.counts[part["state_topic"]] == 1
        late.close()
        post.statuses_ = {"yard": status(alarms={})}  # has no rules any more
        eventually(lambda: house.device("yard")["components"]["alarm"] == {"platform": "event"})


def test_commands_are_obeyed_and_remembered_and_others_are_named(
    house: House, forgetful_broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ha.json"
    base = f"clapedge/{Memory(path).id}/yard"
    house.say(f"{base}/listening/set", "OFF", retain=True)  # of an hour ago: no command any more
    post = FakePost({"yard": status()})
    with link_to(forgetful_broker.port, post, path) as link:
        eventually(lambda: house.state("yard"))
        house.say(f"{base}/labels/set", "home")
        eventually(lambda: house.state("yard")["labels"] == "home")
        assert not post.paused
        assert post.reloads == 1
        assert link.chosen("yard") == "home"
        house.say(f"{base}/listening/set", "OFF")
        eventually(lambda: house.state("yard")["listening"] == "OFF")
        for topic, text in (("labels", "nonsense"), ("listening", "off"), ("labels", "x" * 300)):
            house.say(f"{base}/{topic}/set", text)
        eventually(lambda: "not understood: 'off'" in caplog.text)
        assert "not understood: 'nonsense'" in caplog.text
    assert post.paused == [("yard", True)]
    again = Memory(path)
    again.give_up("yard", "city")  # which was selected before
    assert (again.paused, again.labels("yard"), again.known) == (["yard"], "home", ["yard"])
    with link_to(forgetful_broker.port, post, path, choices=("city",)) as link:
        assert link.chosen("yard") is None  # cannot be selected any more
    eventually(lambda: house.has("/status", "offline"))
    with link_to(forgetful_broker.port, post, path) as link:
        eventually(lambda: house.has("/status", "online"))
        house.say(f"{base}/labels/set", AS_CONFIGURED)
        house.say(f"{base}/listening/set", "ON")
        eventually(lambda: post.paused[-1] == ("yard", False) and link.chosen("yard") is None)


def test_all_is_told_again_to_a_broker_that_forgot_and_to_a_house_that_starts(
    forgetful_broker: Broker, tmp_path: Path
) -> None:
    post = FakePost({"yard": status()})
    with link_to(forgetful_broker.port, post, tmp_path / "ha.json") as link:
        house = House(forgetful_broker.port)
        give(link, msgspec.structs.replace(record_of(1, "begin"), source="yard"))
        eventually(lambda: house.has("/yard/label/siren", "ON"))
        known = {topic: data for topic, data in house.topics.items() if data and not topic.endswith("/state")}
        house.close()
        forgetful_broker.kill()
        forgetful_broker.start()
        house = House(forgetful_broker.port)
        eventually(lambda: known.items() <= house.topics.items())
        before = dict(house.counts)
        house.say("homeassistant/status", "online")
        config = next(topic for topic in known if topic.endswith("yard/config"))
        eventually(lambda: house.counts[config] > before[config])
        house.close()


def test_a_last_will_that_comes_late_is_contradicted(house: House, forgetful_broker: Broker, tmp_path: Path) -> None:
    post = FakePost({"yard": status()})
    with link_to(forgetful_broker.port, post, tmp_path / "ha.json") as link:
        topic = f"clapedge/{link.memory.id}/status"
        eventually(lambda: house.topics.get(topic) == b"online")
        house.say(topic, "offline", retain=True)  # as of a process whose machine lost its power a minute ago
        eventually(lambda: house.counts[topic] >= 3 and house.topics[topic] == b"online")
    eventually(lambda: house.topics[topic] == b"offline")
    count = house.counts[topic]
    with link_to(forgetful_broker.port, post, tmp_path / "ha.json"):
        pass  # ends while it connects
    eventually(lambda: house.topics[topic] == b"offline")
    assert house.counts[topic] >= count


def test_labels_and_sources_that_are_gone_are_taken_away(
    house: House, forgetful_broker: Broker, tmp_path: Path
) -> None:
    post = FakePost({"yard": status(), "hall": status("hall")})
    path = tmp_path / "ha.json"
    with link_to(forgetful_broker.port, post, path):
        eventually(lambda: house.device("yard") and house.device("hall") and house.has("/yard/label/dog", "OFF"))
        post.statuses_ = {"yard": status(labels=("siren", "owl")), "hall": post.statuses_["hall"]}
        eventually(lambda: house.has("/yard/label/owl", "OFF") and house.has("/yard/label/dog", ""))
        parts = house.device("yard")["components"]
        assert parts["label_dog"] == {"platform": "binary_sensor"}
        assert parts["label_owl"]["state_topic"].endswith("/yard/label/owl")
        post.statuses_ = {"yard": post.statuses_["yard"]}
        eventually(lambda: not house.device("hall"))
    assert Memory(path).known == ["yard"]
    post.statuses_ = {"cellar": status("cellar")}
    with link_to(forgetful_broker.port, post, path):  # what went while nothing ran
        eventually(lambda: house.device("cellar") and not house.device("yard"))


def test_the_summary_says_what_was_not_heard_while_it_was_paused() -> None:
    assert "100 dropped, 7 more while it was paused" in status(samples_dropped=100, samples_unheard=7).summary()[1]
    assert status().summary()[1].endswith("0 dropped")


def test_a_source_is_available_while_sound_comes_or_is_not_wanted() -> None:
    source = SourceState()
    source.look(None, 0.0)
    assert not source.available(0.0)
    source.look(status(sound_s=1.0), 10.0)
    source.look(status(sound_s=1.0), 30.0)
    assert source.available(10.0 + source_state.SILENT_SECONDS)
    assert not source.available(10.1 + source_state.SILENT_SECONDS)
    source.look(status(sound_s=1.0, state="paused"), 1000.0)
    assert source.available(1000.0)
    source.look(status(sound_s=1.0, state="ended"), 1000.0)
    assert not source.available(1000.0)
    source.look(status(samples_dropped=100), 2000.0)
    assert source.overloaded(2059.0)
    assert not source.overloaded(2060.0)
    record = msgspec.structs.replace(record_of(1, "begin"), source="yard")
    source.count(record)
    assert source.hears("siren")
    source.look(status(run="ffff"), 2000.0)  # started again: the end of that event was never written
    assert not source.hears("siren")
    rate = Rate()
    assert [rate.push(at, value) for at, value in ((5.0, 1.0), (14.0, 9.0), (15.0, 3.0), (16.0, 0.0))] == [
        *(None, None, 0.2, 0.2)
    ]


def test_a_broker_that_refuses_is_what_the_log_names_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rights = tmp_path / "rights"
    rights.write_text("topic readwrite homeassistant/#\n")
    forgetful_broker = Broker(tmp_path, settings=f"allow_anonymous true\nacl_file {rights}")
    with link_to(forgetful_broker.port, FakePost({"yard": status()}), tmp_path / "ha.json"):
        eventually(lambda: "no connection: Connection refused" in caplog.text)
        forgetful_broker.start()
        eventually(lambda: "/yard/state (Not authorized); may this user publish to it?" in caplog.text)
    forgetful_broker.kill()


@pytest.mark.parametrize(
    ("content", "found"),
    [("{", "is not what --home-assistant remembers"), ('{"id": 1}', "delete it, or name another file")],
)
def test_a_file_of_something_else_is_an_error(tmp_path: Path, content: str, found: str) -> None:
    path = tmp_path / "ha.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=found):
        Memory(path)
    assert path.read_text() == content


def test_records_without_a_spool_are_sent_at_most_once_and_lost_ones_are_counted(
    forgetful_broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(forgetful_broker.port)
    broker_address = f"mqtt://127.0.0.1:{forgetful_broker.port}"
    sink = UnspooledMqttSink(broker_address)
    eventually(lambda: house.has("clapedge/events/status", "online"))
    record = record_of(1)
    sink.write(record, b"first")
    eventually(lambda: house.has("clapedge/events", "first"))
    house.close()
    forgetful_broker.kill()
    eventually(lambda: not sink._transport.connection.online)
    for _ in range(3):
        sink.write(record, b"lost")
    assert "3 records were lost, for lack of a spool" in sink.notes()[0]
    assert "2 records are lost for lack of --spool" in caplog.text
    sink.close()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--select-labels", "city"), "--select-labels is for --home-assistant"),
        (("--home-assistant-state", "x.json"), "--home-assistant-state is for --home-assistant"),
        (("--home-assistant", "http://host"), "is not the address of a broker"),
        (("--home-assistant", "mqtt://host:99999"), "an address cannot be read"),
        (("--home-assistant", "mqtt://host", "--ca", "x.pem"), "--ca is for mqtts://"),
        (("--home-assistant", "mqtt://host", "--home-assistant-state", "no/where/x.json"), "no/where"),
    ],
)
def test_what_is_impossible_is_an_error_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], found: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["listen", "mic", "-l", "dog", *words])
    assert isinstance(result.exception, ClapEdgeError)
    assert found in str(result.exception)


def test_certificates_for_the_house_alone_are_no_mistake_of_a_source(tmp_path: Path) -> None:
    own = authority(tmp_path / "authority")
    assert BrokerAddress.parse("mqtts://host", TlsFiles(own.ca)).tls is not None
    address = BrokerAddress.parse("mqtt://me:p%40ss@host:1/x%20y/", None)
    assert (address.user, address.password, address.path, address.name) == ("me", "p@ss", "x y", "mqtt://host:1/x%20y/")
