"""What KServe's own client gets, as JSON on standard output. A program of its own: it cannot share a
process with the other public client, whose messages have the same names.

Usage: python kserve_client.py ADDRESS
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import warnings
from typing import Any

warnings.simplefilter("ignore")
logging.disable()


async def ask(address: str) -> dict[str, Any]:
    import grpc
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    client = InferenceGRPCClient(address, timeout=20)
    ready = [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready("one")]
    typed = InferInput("x", [2, 2], "FP32", data=[1.5, 2, 3, 4])
    answer = await client.infer(InferRequest("one", [typed], request_id="mine"))
    raw = InferInput("x", [1, 2], "FP32")
    raw.set_data_from_numpy(typed.as_numpy()[:1], binary_data=True)
    second = await client.infer(InferRequest("one", [raw]))
    try:
        await client.infer(InferRequest("nobody", [typed]))
    except grpc.RpcError as error:
        refused = str(error)[:200]
    await client.close()
    return {
        "ready": ready,
        "id": answer.id,
        "typed": answer.outputs[0].as_numpy().tolist(),
        "raw": second.outputs[0].as_numpy().tolist(),
        "refused": refused,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(ask(sys.argv[1]))))
