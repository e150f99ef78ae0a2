"""`clapedge score --server`: the same output as without it, from a process that loads nothing heavy."""

import csv
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.serve.staging import CLIPS, PATIENCE, SIREN, Running, occupied, serving

from clapedge.cli.remote import Remote, opener
from clapedge.errors import AudioError, ProviderError, UsageError
from clapedge.terminal import path_of

TIMES = re.compile(r"\d+ ms · ")


def score(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `clapedge score`."""
    command = [sys.executable, "-m", "clapedge.cli", "score", *arguments]
    return subprocess.run(command, input=given, capture_output=True, timeout=PATIENCE, check=False)


def without_times(output: bytes, output_format: str) -> object:
    """Return an output without what differs from run to run."""
    text = output.decode()
    if output_format == "table":
        return TIMES.sub("", text)
    if output_format == "csv":
        return [{**row, "ms": ""} for row in csv.DictReader(io.StringIO(text))]
    records = json.loads(text) if output_format == "json" else [json.loads(line) for line in text.splitlines()]
    return [{**record, "ms": None} for record in records]


@pytest.mark.parametrize("output_format", ["table", "json", "jsonl", "csv"])
def test_every_format_is_what_it_is_without_a_server(running: Running, output_format: str) -> None:
    recordings = [str(CLIPS / "siren.flac"), "nothing.wav", str(CLIPS / "labels.toml"), str(CLIPS / "door-knock.flac")]
    options = ["--labels", str(CLIPS / "labels.toml"), "--format", output_format, "--top-k", "3"]
    here = score(*recordings, *options, "--threads", "1")
    there = score(*recordings, *options, "--server", running.url)
    assert here.returncode == there.returncode == 1
    assert without_times(there.stdout, output_format) == without_times(here.stdout, output_format)
    assert there.stderr.count(b"error: ") == 2


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="its file names are always Unicode")
def test_names_that_are_not_utf8_are_the_same_with_a_server(running: Running, tmp_path: Path) -> None:
    good, damaged = tmp_path / os.fsdecode(b"T\xfcr.flac"), tmp_path / os.fsdecode(b"\xd3\xea.wav")
    good.write_bytes(SIREN.read_bytes())
    damaged.write_bytes(b"RIFF")
    recordings = [str(damaged), str(good), str(tmp_path / os.fsdecode(b"\xff"))]
    options = ["--labels", "home", "--format", "jsonl"]
    here = score(*recordings, *options, "--threads", "1")
    there = score(*recordings, *options, "--server", running.url)
    assert here.returncode == there.returncode == 1
    assert without_times(there.stdout, "jsonl") == without_times(here.stdout, "jsonl")
    records = [json.loads(line) for line in there.stdout.splitlines()]
    assert [path_of(record["file"]) for record in records] == recordings


def test_options_reach_the_server(running: Running) -> None:
    options = ["-l", "siren，rain", "--template", "the sound of {}", "--multi", "--threshold", "0.1", "--explain"]
    spans = ["--start", "1", "--duration", "2", "--window", "slide", "--hop", "1", "--pad", "zero"]
    here = score(str(SIREN), *options, *spans, "--threads", "1")
    there = score(str(SIREN), *options, *spans, "--server", running.url)
    assert there.returncode == 0, there.stderr
    assert without_times(there.stdout, "table") == without_times(here.stdout, "table")


def test_standard_input_is_sent_as_it_comes(running: Running) -> None:
    done = score("-", "--labels", "home", "--format", "jsonl", "--server", running.url, given=SIREN.read_bytes())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["file"] == "-"


@pytest.mark.parametrize(
    ("arguments", "status", "found"),
    [
        (["--labels", "nothing"], 2, "there is no label set 'nothing'"),
        (["-l", "rain,rain"], 2, "is given twice"),
        (["-l", "a,b", "--labels", "home"], 2, "--labels is given with -l"),
        (["--labels", str(CLIPS / "siren.flac")], 2, "cannot be sent"),
        (["-l", "a,b", "--threads", "2"], 2, "--threads is chosen when a service is started"),
        (["-l", "a,b", "--provider-option", "x=1"], 2, "--provider-option is chosen"),
        ([], 2, "names no labels"),
    ],
)
def test_what_is_wrong_with_a_request_is_reported(
    running: Running, arguments: list[str], status: int, found: str
) -> None:
    done = score(str(SIREN), *arguments, "--server", running.url)
    assert done.returncode == status, done.stderr
    assert found in done.stderr.decode()


@pytest.mark.parametrize("server", ["127.0.0.1:7860", "ftp://x", "http://", "http://x:port", "http://[::1", "unix"])
def test_an_invalid_address_is_reported(server: str) -> None:
    with pytest.raises(UsageError, match="is not an address"):
        Remote(server)


@pytest.mark.parametrize("key", ["0123456789abcde\nf", "0123456789abcdéf"])
def test_secrets_are_taken_from_one_place_and_not_shown(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    with pytest.raises(UsageError, match="CLAPEDGE_API_KEY") as raised:
        Remote("http://me:secret@host")
    assert "secret" not in str(raised.value)
    monkeypatch.setenv("CLAPEDGE_API_KEY", key)
    with pytest.raises(UsageError, match="CLAPEDGE_API_KEY") as raised:
        Remote("http://host")
    assert "0123" not in str(raised.value)


def test_a_server_that_is_not_there_or_is_another_one_is_reported(tmp_path: Path) -> None:
    fields = {"labels": ["a,b"]}
    with Remote(f"unix:{tmp_path}/x.sock") as remote, pytest.raises(ProviderError, match="does not answer"):
        remote.score("x", opener(str(SIREN)), fields, None)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        def answer() -> None:
            connection, _ = other.accept()
            connection.recv(65_536)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{other.getsockname()[1]}"
        with Remote(url) as remote, pytest.raises(ProviderError, match="is it clapedge serve"):
            remote.score("x", opener(str(SIREN)), fields, None)
        thread.join(PATIENCE)


def test_a_key_is_asked_for_and_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"label_set": "home"}
    with serving(keys=("0123456789abcdef",)) as one:
        with Remote(one.url) as remote, pytest.raises(UsageError, match="CLAPEDGE_API_KEY"):
            remote.score("x", opener(str(SIREN)), fields, None)
        monkeypatch.setenv("CLAPEDGE_API_KEY", "0123456789abcdef")
        with Remote(one.url) as remote:
            assert remote.score("x", opener(str(SIREN)), fields, None).labels


def test_what_is_sent_away_is_a_failure_of_that_recording(tmp_path: Path) -> None:
    large = tmp_path / "large.wav"
    large.write_bytes(bytes(3_000_000))
    with serving(threads=1, queue=0, max_upload=1_500_000) as one, Remote(one.url) as remote:
        with pytest.raises(AudioError, match=r"1.5 MB"):
            remote.score("x", opener(str(large)), {"label_set": "home"}, None)
        with occupied(one.service), pytest.raises(AudioError, match="queue is full"):
            remote.score("x", opener(str(SIREN)), {"label_set": "home"}, None)
        assert remote.score("x", opener(str(SIREN)), {"label_set": "home"}, None).labels


def test_neither_numpy_nor_a_runtime_is_loaded(running: Running) -> None:
    code = (
        "import sys\nfrom clapedge.cli import cli\n"
        f"cli.main(['score', {str(SIREN)!r}, '-l', 'a,b', '--server', {running.url!r}], standalone_mode=False)\n"
        "print(sorted(name for name in sys.modules if '.' not in name), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert "siren.flac" in done.stdout
    for name in ("numpy", "onnxruntime", "soundfile", "soxr", "tokenizers", "fastapi"):
        assert f"'{name}'" not in done.stderr
