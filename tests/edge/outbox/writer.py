"""A device that puts one entry after another, uploads them meanwhile, and is killed: ``writer.py FOLDER URL FIRST``.

Prints the number of each entry once ``put`` has returned, which is what is promised.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from forwardpass.edge.outbox import Kind, Outbox, Privacy, Uploader


async def main(folder: Path, url: str, first: int) -> None:
    outbox = Outbox(folder / "outbox.sqlite", privacy=Privacy(), linger=0.001)
    await outbox.open()
    uploader = Uploader(outbox, url, folder.name, every=0.0)
    uploading = asyncio.create_task(uploader.run())
    number = first
    while not uploading.done():
        await outbox.put(Kind.USAGE if number % 3 else Kind.RECORD, b'{"n": %d}' % number)
        print(number, flush=True)
        number += 1


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
