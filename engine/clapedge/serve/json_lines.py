"""Answers that are sent line by line while the work goes on."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from clapedge.errors import ClapEdgeError
from clapedge.serve.errors import problem

if TYPE_CHECKING:
    from concurrent.futures import Future
from typing import Any

JSON_LINES = "application/jsonl"


class Lines:
    """Lines that a worker writes and a response reads."""

    def __init__(self) -> None:
        """Begin with none; made where the response is made."""
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def write(self, entry: object) -> None:
        """Add a line; any thread may."""
        line = msgspec.json.encode(entry) + b"\n"
        self._loop.call_soon_threadsafe(self._queue.put_nowait, line)

    def end(self, warnings: Sequence[str] = ()) -> None:
        """Say that no line follows but one with warnings, if there are any; any thread may."""
        if warnings:
            self.write({"warnings": warnings})
        self._loop.call_soon_threadsafe(self._queue.put_nowait, None)

    async def next(self) -> bytes | None:
        """Return the next line, or None behind the last one."""
        return await self._queue.get()


async def given_up(future: "Future[Any]", stop: threading.Event) -> None:
    """End some work, if it has not ended, and wait for that; what it came to is nobody's any longer.

    Args:
        future: the work.
        stop: ends it when it is set.
    """
    stop.set()
    future.cancel()
    ended = asyncio.wrap_future(future)
    await asyncio.wait({ended})
    if not ended.cancelled():
        ended.exception()  # which asyncio would else report as lost


class LinesResponse(StreamingResponse):
    """JSON Lines. The work ends with the response, and a failure after the first line becomes the last line."""

    def __init__(
        self,
        first: bytes | None,
        lines: Lines,
        future: "Future[Any]",
        stop: threading.Event,
        close: Callable[[], Awaitable[None]],
    ) -> None:
        """Send lines.

        Args:
            first: the first line, which was waited for so that a failure before it has a status of its own.
            lines: the others.
            future: the work.
            stop: ends the work when it is set.
            close: gives back what the work reads.
        """
        super().__init__(self._lines(first, lines, future), media_type=JSON_LINES)
        self._future, self._stop, self._close = future, stop, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines, and end the work however this ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await given_up(self._future, self._stop)
            await self._close()

    async def _lines(self, first: bytes | None, lines: Lines, future: "Future[Any]") -> AsyncIterator[bytes]:
        """Yield the lines, and the failure if the work ends in one."""
        line = first
        while line is not None:
            yield line
            line = await lines.next()
        error = future.exception()
        if isinstance(error, ClapEdgeError):
            told = problem(error)
            yield msgspec.json.encode({"error": told.detail, "status": told.status}) + b"\n"
