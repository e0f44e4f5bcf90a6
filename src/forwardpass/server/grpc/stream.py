"""``ModelStreamInfer``: many requests in one call, answered in the order in which they are done.

An error is an answer like another (``error_message``, with the request's id). So many requests may
be under way or wait to be written; more stay unread, so that a client which does not read its
answers cannot fill memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from forwardpass.errors import NotReady
from forwardpass.server.grpc.call import StreamedCall
from forwardpass.server.grpc.door import Door
from forwardpass.server.grpc.status import abort

MOST = 256  # requests of one stream that are read and whose answers are not written


class Stream:
    """One call of the method. ``stop`` ends it early: what was read is answered first."""

    def __init__(self, door: Door, context: Any) -> None:
        self._door = door
        self._context = context
        self._under_way: set[StreamedCall] = set()
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue()  # None: look again whether all is done
        self._room = asyncio.Semaphore(MOST)
        self._reading: asyncio.Task[None] | None = None
        self._stopped = False

    async def run(self, messages: AsyncIterator[bytes]) -> None:
        """Until the client has sent all and has all answers, or is gone."""
        reading = self._reading = asyncio.ensure_future(self._read(messages))
        reading.add_done_callback(lambda _: self._answers.put_nowait(None))
        try:
            while not (reading.done() and not self._under_way and self._answers.empty()):
                answer = await self._answers.get()
                if answer is not None:
                    await self._context.write(answer)
                    self._room.release()
        finally:
            reading.cancel()
            for call in list(self._under_way):
                self._door.cancel(call)
        if self._stopped:
            await abort(self._context, NotReady("the server is stopping; send what is not answered to another"))

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()

    async def _read(self, messages: AsyncIterator[bytes]) -> None:
        async for message in messages:
            await self._room.acquire()
            call = StreamedCall(self._answered)
            self._under_way.add(call)
            self._door.begin(call, message, self._context.time_remaining())

    def _answered(self, call: StreamedCall, answer: bytes) -> None:
        self._under_way.discard(call)
        self._answers.put_nowait(answer)
        self._door.end(call)
