"""What the service refuses, and when: while data arrives, without keeping anything."""

import contextlib
import gc
import io
import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from tests.serve.staging import PATIENCE, SIREN, Running, occupied, serving, wait_until

HOME = {"label_set": "home"}
ENDLESS = 20 * 2**30
"""Bytes that are not sent in the time that a client has."""

Serve = Callable[..., Running]


@pytest.fixture(scope="module")
def strict() -> Iterator[Running]:
    """Yield a service with narrow limits."""
    limits: dict[str, Any] = {"max_upload": 1_000_000, "max_seconds": 8.0, "max_labels": 8, "max_characters": 40}
    with serving(queue=1, stall_seconds=0.4, head_seconds=0.4, max_clips=6, max_prompts=30, **limits) as one:
        yield one


def talk(url: str, *pieces: bytes) -> socket.socket:
    """Connect and send some pieces of a request."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=PATIENCE)
    for piece in pieces:
        connection.sendall(piece)
    return connection


def everything(connection: socket.socket) -> bytes:
    """Return all that comes until the connection is closed."""
    came = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(4096):
            came += piece
    return came


def recording(seconds: float, *, channels: int = 1) -> bytes:
    """Return a recording of noise as FLAC, small because it is faint."""
    noise = np.random.default_rng(0).integers(-8, 8, (int(seconds * 48_000), channels)).astype(np.int16)
    out = io.BytesIO()
    soundfile.write(out, noise, 48_000, format="FLAC")
    return out.getvalue()


def descriptors() -> int:
    """Count the open descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_upload_that_declares_too_much_is_refused_before_it_is_read(strict: Running) -> None:
    head = b"POST /v1/score?label_set=home HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000000\r\n\r\n"
    with talk(strict.url, head) as connection:
        answer = everything(connection)
    assert b" 413 " in answer.split(b"\r\n")[0]
    assert b"1 MB" in answer


@pytest.mark.parametrize("path", ["/v1/score", "/v1/timeline", "/v1/embed/audio"])
def test_an_upload_without_a_length_is_refused_while_it_is_read(strict: Running, path: str) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < ENDLESS:
            sent += 65_536
            yield b"x" * 65_536

    query = {} if path.endswith("audio") else HOME
    try:
        status = strict.client.post(path, params=query, content=endless()).status_code
    except httpx.TransportError:
        status = 413  # the response came, and the connection was closed, before the client read
    assert status == 413
    assert sent < ENDLESS


def test_a_recording_is_not_decoded_beyond_the_limit(strict: Running) -> None:
    short, long = recording(7), recording(12)
    fits = strict.client.post("/v1/score", params={**HOME, "window": "slide"}, content=short)
    assert fits.status_code == 200
    for fields in ({"window": "slide"}, {"window": "fuse"}, {}, {"start": "7", "duration": "3"}):
        answer = strict.client.post("/v1/score", params={**HOME, **fields}, content=long)
        assert answer.status_code == 422, fields
        assert "8 s are decoded" in answer.json()["detail"]
    part = strict.client.post("/v1/score", params={**HOME, "start": "2", "duration": "3"}, content=long)
    assert part.json()["heard"] == {"start": 2.0, "end": 5.0, "of": 12.0}


def test_a_recording_that_does_not_declare_its_length_is_not_decoded_beyond_the_limit(strict: Running) -> None:
    raw = bytearray(recording(12))
    raw[21] &= 0xF0
    raw[22:26] = bytes(4)  # the number of samples in STREAMINFO: 0 means that nobody knows
    for fields in ({"window": "slide"}, {"window": "fuse"}):
        answer = strict.client.post("/v1/score", params={**HOME, **fields}, content=bytes(raw))
        assert answer.status_code == 422, answer.text
        assert "8 s are decoded" in answer.json()["detail"]


def test_silence_is_not_searched_for_beyond_the_limit(strict: Running) -> None:
    query: dict[str, Any] = {**HOME, "trim_silence": -50, "start": 1}
    answer = strict.client.post("/v1/score", params={**query, "duration": 1e6}, content=recording(30))
    assert answer.status_code == 422
    assert "searched for to 1e+06 s, and no more than 8 s" in answer.json()["detail"]
    assert strict.client.post("/v1/score", params={**query, "duration": 7}, content=recording(30)).status_code == 200


def test_no_more_clips_are_embedded_than_the_limit_allows(strict: Running) -> None:
    answer = strict.client.post("/v1/timeline", params={**HOME, "window": "1", "hop": "0.5"}, content=recording(7))
    problem = answer.json() if answer.status_code == 422 else {}
    assert "more than 6 clips" in problem.get("detail", answer.text)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ("a,b,c,d,e,f,g,h,i", "9 labels are more than 8"),
        ("x" * 41, "61 characters"),
    ],
)
def test_labels_have_limits(strict: Running, labels: str, found: str) -> None:
    answer = strict.client.post("/v1/score", params={"labels": labels}, content=SIREN.read_bytes())
    assert answer.status_code == 422
    assert found in answer.json()["detail"]


def test_fields_of_a_form_are_short_together(strict: Running) -> None:
    files = {"file": ("siren.flac", SIREN.read_bytes())}
    for count, status, found in ((1, 422, "150020 characters"), (8, 400, "fields have more than")):
        answer = strict.client.post("/v1/score", files=files, data={"labels": ["x" * 150_000] * count})
        assert answer.status_code == status
        assert found in answer.json()["detail"]


def test_a_full_queue_sends_away_and_says_when_to_come_back(strict: Running) -> None:
    with occupied(strict.service):
        waiting = strict.service.pool.submit(lambda: "later")
        answer = strict.client.post("/v1/score", params=HOME, content=SIREN.read_bytes())
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.json()["error"] == "BusyError"
    assert waiting.result(PATIENCE) == "later"
    assert strict.client.post("/v1/score", params=HOME, content=SIREN.read_bytes()).status_code == 200


def test_a_client_that_leaves_gives_its_place_back(strict: Running) -> None:
    body = SIREN.read_bytes()
    head = f"POST /v1/score?label_set=home HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    pool = strict.service.pool
    with occupied(strict.service):
        connection = talk(strict.url, head, body)
        wait_until(lambda: pool.inside == pool.workers + 1)
        connection.close()
        wait_until(lambda: pool.inside == pool.workers)


def test_work_ends_when_its_client_leaves(serve: Serve) -> None:
    one = serve(threads=1)
    body = recording(120)
    query = "label_set=home&hop=0.1&window=1"
    head = f"POST /v1/timeline?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    connection = talk(one.url, head, body)
    wait_until(lambda: one.service.pool.inside == 1)
    connection.close()
    wait_until(lambda: one.service.pool.inside == 0)
    clips = one.service.metrics.registry.get_sample_value("clapedge_batch_clips_sum") or 0
    assert clips < 1190, "all of it was embedded, though the client had left"


def test_a_client_that_leaves_is_no_fault_of_the_service(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    one = serve(threads=1)
    body = recording(120)
    query = "label_set=home&window=slide&hop=0.1"
    head = f"POST /v1/score?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    connection = talk(one.url, head, body)
    wait_until(lambda: (one.service.metrics.registry.get_sample_value("clapedge_batch_clips_sum") or 0) > 2)
    connection.close()
    wait_until(lambda: one.service.pool.inside == 0)
    wait_until(lambda: one.service.receiving == 0)
    assert one.client.get("/healthz").status_code == 200
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/embed/text", b'{"prompts": ["rain"]}'), ("/v1/labels/check", b'{"labels": [{"name": "rain"}]}')],
)
def test_words_that_wait_for_a_client_that_left_are_not_embedded(strict: Running, path: str, body: bytes) -> None:
    fields = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    head = f"POST {path} HTTP/1.1\r\n{fields}\r\n\r\n"
    pool = strict.service.pool
    with occupied(strict.service):
        connection = talk(strict.url, head.encode(), body)
        wait_until(lambda: pool.inside == pool.workers + 1)
        connection.close()
        wait_until(lambda: pool.inside == pool.workers)


@pytest.mark.parametrize("text", [9999 * "[", 9999 * "1"], ids=["nested", "digits"])
def test_a_label_file_that_is_hard_to_read_is_refused(strict: Running, text: str) -> None:
    files: dict[str, Any] = {"file": SIREN.open("rb"), "label_file": ("labels.toml", f"label = {text}")}
    answer = strict.client.post("/v1/score", files=files)
    assert answer.status_code == 422
    assert "labels.toml" in answer.json()["detail"]


def test_a_body_that_stalls_is_given_up(strict: Running) -> None:
    began = time.monotonic()
    head = b"POST /v1/score?label_set=home HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nfew"
    with talk(strict.url, head) as connection:
        assert b" 408 " in connection.recv(4096).split(b"\r\n")[0]
    assert time.monotonic() - began < PATIENCE / 2


def test_a_body_that_drips_is_given_up(strict: Running) -> None:
    head = b"POST /v1/score?label_set=home HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
    with talk(strict.url, head) as connection:
        connection.settimeout(0.05)
        answer = b""
        ends = time.monotonic() + PATIENCE
        while not answer and time.monotonic() < ends:
            try:
                connection.sendall(b"x")
                answer = connection.recv(4096)
            except TimeoutError:
                continue
    assert b" 408 " in answer.split(b"\r\n")[0]


@pytest.mark.parametrize("piece", [b"", b"POST /v1/score HTTP/1.1\r\nHost:"])
def test_a_head_that_stalls_is_given_up(strict: Running, piece: bytes) -> None:
    with talk(strict.url, piece) as connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(4096) == b""


def test_the_rest_of_a_refused_body_is_not_waited_for(strict: Running) -> None:
    head = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nfew"
    with talk(strict.url, head) as connection:
        assert b" 404 " in everything(connection).split(b"\r\n")[0]


def test_slow_clients_do_not_keep_others_waiting(strict: Running) -> None:
    slow = [
        talk(strict.url, b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nx")
        for _ in range(40)
    ]
    try:
        answer = strict.client.post("/v1/score", params=HOME, content=SIREN.read_bytes())
    finally:
        for connection in slow:
            connection.close()
    assert answer.status_code == 200


def test_bad_uploads_cost_nothing_that_stays(running: Running) -> None:
    chance = random.Random(7)  # noqa: S311 - the same damage in every run
    good = SIREN.read_bytes()
    boundary = {"content-type": "multipart/form-data; boundary=b"}
    asked = running.client.post("/v1/score", params=HOME, content=good)
    assert asked.status_code == 200
    before, threads = descriptors(), threading.active_count()
    statuses = set()
    for _ in range(300):
        cut = good[: chance.randrange(len(good))]
        torn = bytes(byte ^ (chance.random() < 0.01) * chance.randrange(256) for byte in cut[:2000]) + cut[2000:]
        form = b"--b\r\nContent-Disposition: form-data; name=file; filename=../../etc/x\r\n\r\n" + cut
        headers, body = chance.choice([({}, cut), ({}, torn), (boundary, form), (boundary, cut), ({}, b"")])
        statuses.add(running.client.post("/v1/score", params=HOME, content=body, headers=headers).status_code)
    assert statuses <= {200, 400, 422}
    assert {400, 422} <= statuses
    wait_until(lambda: descriptors() <= before + 2)
    assert threading.active_count() <= threads + 2


def test_large_uploads_lie_in_files_that_nobody_else_can_open(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    noise = np.random.default_rng(0).normal(0, 0.1, (48_000 * 30, 2))
    out = io.BytesIO()
    soundfile.write(out, noise, 48_000, format="WAV")
    assert len(out.getvalue()) > 5_000_000
    seen: list[str] = []
    with occupied(running.service):
        connection = httpx.Client(base_url=running.url, timeout=PATIENCE)
        answer: list[httpx.Response] = []
        ask = threading.Thread(
            target=lambda: answer.append(connection.post("/v1/score", params=HOME, content=out.getvalue()))
        )
        ask.start()
        wait_until(lambda: running.service.pool.inside > running.service.pool.workers)
        seen = [entry.name for entry in tmp_path.iterdir()]
    ask.join(PATIENCE)
    connection.close()
    assert answer[0].status_code == 200
    assert seen == []


def test_a_body_without_a_recording_is_short(strict: Running) -> None:
    for path, content in (("/v1/embed/text", b"[" * 2_000_000), ("/v1/labels/check", b" " * 2_000_000)):
        answer = strict.client.post(path, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code == 413, path
    for content in (b"[" * 900_000, b'{"prompts": ' + b"[" * 900_000, b"{}", b"\xff", b'{"prompts": [1]}'):
        answer = strict.client.post("/v1/embed/text", content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in {400, 422}
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"].endswith("; see /openapi.json")


def test_an_upload_that_cannot_be_kept_is_reported(
    strict: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nothing"))
    monkeypatch.setattr("clapedge.serve.uploads.IN_MEMORY", 1000)
    for request in ({"content": SIREN.read_bytes()}, {"files": {"file": SIREN.open("rb")}}):
        answer = strict.client.post("/v1/score", params=HOME, **request)
        assert answer.status_code == 503
        assert "make room" in answer.json()["detail"]


def test_many_uploads_at_once_are_kept_in_files(strict: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clapedge.serve.uploads.MOST_IN_MEMORY", 0)
    for request in ({"content": SIREN.read_bytes()}, {"files": {"file": SIREN.open("rb")}}):
        answer = strict.client.post("/v1/score", params=HOME, **request)
        assert answer.status_code == 200
    assert strict.service.receiving == 0
