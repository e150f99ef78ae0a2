"""Responses of JSON Lines, each line sent as soon as the work has it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack

import msgspec
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from clapedge.errors import ClapEdgeError
from clapedge.serve.disconnect import cancel, wait_while_connected
from clapedge.serve.errors import problem_of
from clapedge.serve.service import Job, Service

JSON_LINES = "application/jsonl"


class LinesResponse(StreamingResponse):
    """JSON Lines. The work ends with the response; an error after the first line becomes the last line."""

    def __init__(self, service: Service, records: Callable[[Job], Iterator[object]]) -> None:
        """Queue the work; `begin` has to be awaited before the response is sent.

        Args:
            service: does the work.
            records: yields the records, in a worker.

        Raises:
            BusyError: the queue is full.
        """
        super().__init__(self._lines(), media_type=JSON_LINES)
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._first: bytes | None = None
        self._resources = AsyncExitStack()

        def work(job: Job) -> None:
            for record in records(job):
                self._put(msgspec.json.encode(record) + b"\n")

        self._submission = service.submit(work)
        self._submission.future.add_done_callback(lambda _: self._put(None))

    async def begin(self, request: Request, resources: AsyncExitStack) -> None:
        """Wait for the first line, so that an error before it has a status of its own.

        Args:
            request: the request.
            resources: what the work reads; emptied, to be closed after the response.

        Raises:
            GoneError: the client left.
            ClapEdgeError: the work failed.
        """
        first = asyncio.ensure_future(self._queue.get())
        await wait_while_connected(request, first, self._submission)
        self._first = first.result()
        if self._first is None:
            self._submission.future.result()
        self._resources = resources.pop_all()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines, and end the work even if that fails."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await cancel(self._submission)
            await self._resources.aclose()

    def _put(self, line: bytes | None) -> None:
        """Add a line, or None after the last one; any thread may call it."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, line)

    async def _lines(self) -> AsyncIterator[bytes]:
        """Yield the lines, and the error if the work ends with one."""
        line = self._first
        while line is not None:
            yield line
            line = await self._queue.get()
        error = self._submission.future.exception()
        if isinstance(error, ClapEdgeError):
            problem = problem_of(error)
            yield msgspec.json.encode({"error": problem.detail, "status": problem.status}) + b"\n"
