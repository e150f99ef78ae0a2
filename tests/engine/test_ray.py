"""A batch on a local Ray cluster of several worker processes: the rows of the local engine, whatever dies."""

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from clapedge import Engine
from clapedge.batch.embedding_writer import appending
from clapedge.batch.ray import Actors, connect
from clapedge.batch.ray import embed_files as embed_files_on_ray
from clapedge.batch.run import Progress, embed_files, embedding_config
from clapedge.model.bundle import default_directory

pytest.importorskip("ray.data", reason="the extra ray is not installed: pip install 'clapedge[ray]'")

COUNT = 80
ACTORS = Actors(
    bundle=str(default_directory()),
    provider="cpu",
    precision="auto",
    fusion="long",
    options={"window": "first"},
    count=2,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Make short recordings, one of them damaged."""
    root = tmp_path_factory.mktemp("recordings")
    generator = np.random.default_rng(1)
    for index in range(COUNT):
        soundfile.write(root / f"{index:03}.wav", generator.normal(0, 0.1, 4_000), 16_000)
    (root / "040.wav").write_bytes(b"RIFF\xff\xff\xff\x7fWAVEnothing that follows is right")
    return tuple(sorted(map(str, root.iterdir())))


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Stop the cluster of this machine when the tests are done with it."""
    yield
    connect().shutdown()


def on_this_machine(files: tuple[str, ...], kept: Path) -> dict[str, bytes]:
    """Embed recordings with the local engine and return the archive's files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        engine = Engine.load(threads=1)
    with appending(kept, embedding_config(engine, {"window": "first"})) as archive:
        list(embed_files(engine, files, archive, workers=2, window="first"))
    return {path.name: path.read_bytes() for path in kept.iterdir()}


def actors_alive() -> list[int]:
    """Return the processes of this test's actors."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, check=True, text=True).stdout  # noqa: S607
    rows = [line.split(maxsplit=2) for line in listed.splitlines()[1:]]
    parents = {int(pid): int(parent) for pid, parent, *_ in rows}

    def is_ours(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    named = [int(row[0]) for row in rows if len(row) > 2 and row[2].startswith("ray::") and "EmbeddingActor" in row[2]]
    return [pid for pid in named if is_ours(pid)]


@pytest.mark.usefixtures("cluster")
def test_a_ray_run_whose_workers_are_killed_keeps_what_a_local_run_keeps(
    files: tuple[str, ...], tmp_path: Path
) -> None:
    killed: set[int] = set()
    later: set[int] = set()

    def kill_once(progress: Progress) -> None:
        if killed:
            later.update(actors_alive())
        elif progress.embedded >= 3:
            killed.update(actors_alive())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    config = ACTORS.config()
    with appending(tmp_path / "ray", config) as archive:
        for done in embed_files_on_ray(files, archive, ACTORS.like(config)):
            kill_once(done)
    assert killed
    assert later - killed, "what was left was done by other processes"
    assert (done.embedded, list(done.failures)) == (COUNT - 1, [files[40]])
    kept = {path.name: path.read_bytes() for path in (tmp_path / "ray").iterdir()}
    assert kept == on_this_machine(files, tmp_path / "local")


def test_the_command_writes_the_same_bytes_on_ray(files: tuple[str, ...], tmp_path: Path) -> None:
    for where in ("local", "ray"):
        command = [sys.executable, "-m", "clapedge.cli", "batch", *files, "-o", str(tmp_path / f"{where}.jsonl")]
        done = subprocess.run(
            [*command, "-l", "rain,siren", "--engine", where, "--workers", "2"],
            capture_output=True,
            check=False,
            text=True,
        )
        assert done.returncode == 1
        assert done.stderr.count("error:") == 1
    assert (tmp_path / "ray.jsonl").read_bytes() == (tmp_path / "local.jsonl").read_bytes()
