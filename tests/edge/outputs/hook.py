"""A server that webhooks post to, for tests: real HTTP on a port of loopback."""

from __future__ import annotations

import asyncio


async def hook(answers: list[int], taken: list[bytes], port: int = 0) -> asyncio.Server:
    """A server that keeps what is posted and gives these statuses, the last one for ever."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        [length] = [
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        ]
        taken.append(head.lower() + await reader.readexactly(length))
        status = answers.pop(0) if len(answers) > 1 else answers[0]
        writer.write(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", port)
