"""A service on the demo model: within the process for what needs no sockets, behind uvicorn for what does."""

import asyncio
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from clapedge.serve.models import load
from clapedge.serve.server import Server, address, bind, uvicorn_config
from clapedge.serve.service import Service
from clapedge.serve.settings import Settings

CLIPS = Path(__file__).parents[2] / "engine" / "clapedge" / "demo_clips"
SIREN = CLIPS / "siren.flac"
PATIENCE = 60.0
"""Seconds after which something that should have happened has not."""


@dataclass
class Running:
    """A service and what answers for it."""

    service: Service
    client: httpx.Client
    url: str


@contextmanager
def serving(**settings: Any) -> Iterator[Running]:  # noqa: ANN401 - those of Settings
    """Serve the demo model at a free port of this machine, in a thread."""
    service = made(**settings)
    listener = bind("127.0.0.1", 0)
    server = Server(uvicorn_config(service, page=False), service)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    url = address(listener)
    try:
        wait_until(lambda: server.started)
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            yield Running(service, client, url)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()
    assert not thread.is_alive()


def made(**settings: Any) -> Service:  # noqa: ANN401 - those of Settings
    """Make a service that answers with the demo model."""
    service = Service(Settings(**{"threads": 2, **settings}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        service.models.swap(load(None, "demo", service.settings, service.metrics))
    return service


def wait_until(fact: Callable[[], bool]) -> None:
    """Return as soon as something is the case; fail if it never is."""
    ends = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.005)


@contextmanager
def occupied(service: Service) -> Iterator[None]:
    """Keep every worker of a service busy."""
    release = threading.Event()
    futures = [service.pool.submit(lambda: release.wait(PATIENCE)) for _ in range(service.pool.workers)]
    try:
        yield
    finally:
        release.set()
        for future in futures:
            future.result()
