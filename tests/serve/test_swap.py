"""Bundles come, go and are bad, and requests notice nothing."""

import logging
import os
import platform
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from tests.serve.staging import CLIPS, SIREN

from clapedge.engine import Engine
from clapedge.errors import BundleDamagedError, BundleNotFoundError, LabelError, UsageError
from clapedge.labels import LabelSet
from clapedge.model.bundle import demo_directory
from clapedge.serve import heap
from clapedge.serve.app import create_app
from clapedge.serve.bundle_watcher import BundleWatcher
from clapedge.serve.models import Model
from clapedge.serve.service import Service
from clapedge.serve.settings import Settings

LABELS = LabelSet.of(["a siren", "rain"])

pytestmark = pytest.mark.filterwarnings("ignore::clapedge.errors.ClapEdgeWarning")


def bundle(path: Path) -> Path:
    """Make a bundle of the demo model."""
    shutil.copytree(demo_directory(), path)
    return path


def damage(path: Path) -> None:
    """Turn a bit of a bundle's tower."""
    tower = path / "audio.int8.onnx"
    content = bytearray(tower.read_bytes())
    content[1000] ^= 1
    tower.write_bytes(content)


def refuse(*_: object, **__: object) -> None:
    """Stand for what a bundle cannot do."""
    raise LabelError("it knows no words; name a label set")


def watched(place: Path, **settings: Any) -> tuple[Service, BundleWatcher]:  # noqa: ANN401 - those of Settings
    """Return a service on a directory, and its watcher, which looks only when it is asked to."""
    service = Service(Settings(bundle=place, threads=1, watch_seconds=3600, **settings))
    watcher = BundleWatcher(service)
    watcher.begin()
    return service, watcher


def look(watcher: BundleWatcher) -> None:
    """Look twice: a bundle is tried when it has stopped to change."""
    watcher.look()
    watcher.look()


def test_the_last_bundle_by_name_is_served_and_a_newer_one_takes_its_place(tmp_path: Path) -> None:
    bundle(tmp_path / "v9")
    service, watcher = watched(tmp_path)
    with TestClient(create_app(service, page=False)) as client:
        assert client.get("/readyz").json()["bundle"] == "v9"
        bundle(tmp_path / "v10")
        watcher.look()
        assert client.get("/readyz").json()["bundle"] == "v9", "it was tried while it may still be copied"
        watcher.look()
        assert client.get("/readyz").json() == {"ready": True, "bundle": "v10", "refused": None}
        shutil.rmtree(tmp_path / "v10")
        look(watcher)
        assert client.get("/readyz").json()["bundle"] == "v9"
        watcher.end()


def test_a_symlink_that_turns_elsewhere_is_followed(tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(bundle(tmp_path / "one"))
    service, watcher = watched(link)
    first = service.models._model
    (tmp_path / "next").symlink_to(bundle(tmp_path / "two"))
    os.replace(tmp_path / "next", link)  # noqa: PTH105 - as ln and mv do it
    look(watcher)
    assert service.models._model is not first
    assert service.model_info().bundle == "current"
    watcher.end()
    service.close()


def test_a_bad_bundle_is_refused_and_the_one_before_serves_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bundle(tmp_path / "a")
    service, watcher = watched(tmp_path)
    with TestClient(create_app(service, page=False)) as client, caplog.at_level(logging.INFO, "clapedge.serve"):
        damage(bundle(tmp_path / "b"))
        look(watcher)
        ready = client.get("/readyz").json()
        assert (ready["ready"], ready["bundle"]) == (True, "a")
        assert "b: " in ready["refused"]
        assert "SHA-256" in ready["refused"]
        assert "a serves on" in caplog.text
        others = client.get("/v1/models").json()["models"][1:]
        assert others[0]["bundle"] == "b"
        assert "SHA-256" in others[0]["fault"]
        look(watcher)
        assert caplog.text.count("refused b") == 1, "it is logged once"
        shutil.copyfile(demo_directory() / "audio.int8.onnx", tmp_path / "b" / "audio.int8.onnx")
        look(watcher)
        assert client.get("/readyz").json() == {"ready": True, "bundle": "b", "refused": None}
        watcher.end()


def test_a_bundle_without_the_labels_of_the_service_is_refused_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(tmp_path / "a")
    service, watcher = watched(tmp_path, labels=CLIPS / "labels.toml")
    closed = []
    with monkeypatch.context() as patched:
        patched.setattr(Model, "close", lambda model: closed.append(model.name))
        patched.setattr(service, "embed_labels", refuse)
        bundle(tmp_path / "b")
        look(watcher)
        assert closed == ["b"]
        patched.setattr(Engine, "embed_stream", refuse)
        bundle(tmp_path / "c")
        look(watcher)
        assert "c" in closed
    assert service.model_info().bundle == "a"
    watcher.end()
    service.close()


def test_a_bundle_that_vanishes_is_served_on(tmp_path: Path) -> None:
    place = bundle(tmp_path / "only")
    service, watcher = watched(place)
    shutil.rmtree(place)
    look(watcher)
    assert service.submit_score(SIREN, LABELS).future.result().top.name == "a siren"
    watcher.end()
    service.close()


def test_requests_go_on_through_a_swap_and_the_old_model_ends_with_its_last_request(tmp_path: Path) -> None:
    bundle(tmp_path / "a")
    service, watcher = watched(tmp_path)
    old = service.models._model
    assert old is not None
    with service.models.using() as held:
        bundle(tmp_path / "b")
        done, failed = threading.Event(), []

        def ask() -> None:
            while not done.is_set():
                result = service.submit_score(SIREN, LABELS).future.result()
                if result.top.name != "a siren":
                    failed.append(result)

        asking = threading.Thread(target=ask)
        asking.start()
        look(watcher)
        done.set()
        asking.join()
        assert failed == []
        assert service.model_info().bundle == "b"
        assert held.engine.score(SIREN, ["a siren", "rain"]).top.name == "a siren", "it was closed too early"
    with pytest.raises(UsageError, match="is closed"):
        held.engine.score(SIREN, ["a siren", "rain"])
    watcher.end()
    service.close()


def test_memory_is_given_back_when_nothing_holds_the_old_model_any_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle(tmp_path / "a")
    service, watcher = watched(tmp_path)
    with service.models.using() as held:
        towers = [weakref.ref(held.tower(alone=alone)) for alone in (True, False)]
        left: list[object] = []
        monkeypatch.setattr(heap, "give_back", lambda: left.append([tower() for tower in towers]))
        bundle(tmp_path / "b")
        look(watcher)
        assert left == [], "the old model is in use"
    assert left == [[None, None]]
    watcher.end()
    service.close()


KEEPING = """
import os, threading
from clapedge.serve import heap

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def work():
    pieces = [bytes(10_000) for _ in range(20_000)]  # as the weights of a model, in the arena of a thread
    kept.append(bytes(10_000))  # above them, so that the arena cannot shrink at its end
    del pieces

kept = []
began = resident()
thread = threading.Thread(target=work)
thread.start()
thread.join()
before = resident() - began
heap.give_back()
print(before // 2**20, (resident() - began) // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do not keep freed memory so")
def test_freed_memory_that_the_c_library_keeps_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", KEEPING], capture_output=True, text=True, check=True)
    kept, left = map(int, done.stdout.split())
    assert kept > 150, "the C library gives it back by itself"
    assert left < 20


def test_a_service_does_not_begin_without_a_good_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleNotFoundError, match="has no manifest"):
        watched(tmp_path)
    damage(bundle(tmp_path / "b"))
    with pytest.raises(BundleDamagedError, match="SHA-256"):
        watched(tmp_path)


def test_a_bad_newest_bundle_at_the_beginning_leaves_the_one_before(tmp_path: Path) -> None:
    bundle(tmp_path / "a")
    damage(bundle(tmp_path / "b"))
    service, watcher = watched(tmp_path)
    assert service.model_info().bundle == "a"
    watcher.end()
    service.close()
