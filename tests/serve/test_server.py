"""The server as a process: sockets, signals, and the end without losing a request."""

import http.client
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from tests.serve.staging import CLIPS, PATIENCE, SIREN, occupied, serving, wait_until

from clapedge.cli.remote import Remote, opener
from clapedge.errors import UsageError
from clapedge.labels import LabelSet
from clapedge.serve import server as servers


@contextmanager
def process(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Yield a served process that answers, and the lines of its log."""
    command = [sys.executable, "-m", "clapedge.cli", "serve", "--no-page", "--threads", "1", *arguments]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    log: list[str] = []
    reader = threading.Thread(target=lambda: deque(map(log.append, started.stderr or ()), maxlen=0))
    reader.start()
    try:
        wait_until(lambda: any("answering at" in line for line in log) or started.poll() is not None)
        yield started, log
    finally:
        started.kill()
        started.wait(PATIENCE)
        reader.join(PATIENCE)


def test_sigterm_ends_a_service_when_its_requests_are_answered() -> None:
    with process("--port", "0") as (started, log):
        address = re.search(r"http://([\d.]+):(\d+)", "".join(log))
        assert address
        body = SIREN.read_bytes()
        connection = http.client.HTTPConnection(address[1], int(address[2]), timeout=PATIENCE)
        connection.putrequest("POST", "/v1/score?label_set=home")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:1000])
        resting = http.client.HTTPConnection(address[1], int(address[2]), timeout=PATIENCE)
        resting.request("GET", "/readyz")
        assert json.loads(resting.getresponse().read())["ready"] is True
        started.send_signal(signal.SIGTERM)
        wait_until(lambda: any("ending" in line for line in log))
        resting.request("GET", "/readyz")
        answer = resting.getresponse()
        assert answer.status == 503
        assert json.loads(answer.read())["ready"] is False
        assert answer.getheader("connection") == "close"
        connection.send(body[1000:])
        answer = connection.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["labels"]
        assert started.wait(PATIENCE) == 0
        resting.close()
        connection.close()


def test_an_upload_that_still_comes_when_a_service_ends_is_answered() -> None:
    with process("--port", "0") as (started, log):
        found = re.search(r"http://([\d.]+):(\d+)", "".join(log))
        assert found
        address = found[1], int(found[2])
        body = SIREN.read_bytes()
        connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
        connection.putrequest("POST", "/v1/score?label_set=home")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:1000])
        started.send_signal(signal.SIGTERM)

        def shut() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(address) != 0

        wait_until(shut)
        connection.send(body[1000:])
        assert connection.getresponse().status == 200
        assert started.wait(PATIENCE) == 0
        connection.close()


def test_long_prompts_leave_nothing_in_the_log() -> None:
    with process("--port", "0") as (started, log):
        url = re.search(r"http://\S+", "".join(log))
        assert url
        with httpx.Client(base_url=url[0], timeout=PATIENCE) as client:
            assert client.post("/v1/embed/text", json={"prompts": ["q7z " * 120]}).status_code == 200
        started.terminate()
        started.wait(PATIENCE)
        wait_until(lambda: any("ended" in line for line in log))
        assert "only the first" not in "".join(log)


def test_a_unix_socket_serves_the_command_line_and_nobody_else_on_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "clapedge.sock"
    with process("--host", f"unix:{path}") as (started, _):
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with Remote(f"unix:{path}") as remote:
            for name in ("siren.flac", "smoke-alarm.flac"):
                result = remote.score(name, opener(str(CLIPS / name)), {"labels": ["siren,rain"]}, None)
                assert result.file == name
        started.send_signal(signal.SIGTERM)
        assert started.wait(PATIENCE) == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "found"),
    [
        (["--bundle", "nothing"], 3, "does not exist"),
        (["--labels", "nothing.toml"], 2, "nothing.toml"),
        (["--max-upload", "much"], 2, "not a size"),
        (["--host", "256.256.256.256"], 2, "choose another --host"),
        (["--host", "unix:/nothing/x.sock"], 2, "choose another path"),
        (["--api-key-file", "nothing"], 2, "key file nothing"),
    ],
)
def test_what_keeps_a_service_from_starting_is_one_line_and_a_status(
    arguments: list[str], status: int, found: str
) -> None:
    command = [sys.executable, "-m", "clapedge.cli", "serve", "--no-page", "--port", "0", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == status
    assert found in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_socket_that_nobody_listens_at_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "x.sock")
    first = servers.bind(f"unix:{path}", 0)
    first.close()
    second = servers.bind(f"unix:{path}", 0)
    second.listen()
    with pytest.raises(UsageError, match="another service listens there"):
        servers.bind(f"unix:{path}", 0)
    second.close()
    Path(path).unlink()
    Path(path).write_text("not a socket")
    with pytest.raises(UsageError, match="choose another path"):
        servers.bind(f"unix:{path}", 0)


def test_a_port_in_use_is_reported() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="choose another --host or --port"):
            servers.bind("127.0.0.1", taken.getsockname()[1])


def test_a_service_that_ends_finishes_what_waits_in_its_queue() -> None:
    with serving(threads=1, queue=4) as one:
        with occupied(one.service):
            later = one.service.submit_score(SIREN, LabelSet.of(["siren", "rain"])).future
        one.service.draining = True
        assert later.result(PATIENCE).top.name == "siren"
        assert one.client.get("/readyz").status_code == 503


def test_this_process_keeps_its_umask_when_a_socket_is_made(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        servers.bind(f"unix:{tmp_path / 'x.sock'}", 0).close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
