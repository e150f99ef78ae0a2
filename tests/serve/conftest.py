"""Fixtures of the service: the engine beside it, and services."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from tests.serve.staging import Running, made, serving

from clapedge.engine import Engine
from clapedge.serve.app import create_app


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Return the engine that the command line would use."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Engine.load(threads=2)


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    """Yield a service with ordinary limits."""
    with serving() as one:
        yield one


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Yield what starts services with settings of their own; they end with the test."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serving(**settings))


@pytest.fixture
def app() -> Iterator[Any]:
    """Yield an application without a server."""
    service = made()
    yield create_app(service, page=False)
    service.close()
