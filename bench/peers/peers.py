"""Who is compared: the packages of each peer, how its server is started and how it is asked.

The one table of versions. Each peer is asked in its own words: V2 where it speaks it, otherwise
``{"instances": [row]}``; "binary" is the fastest form of a tensor that its HTTP door takes. What a peer
does not offer is said in ``missing``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.peers import mlserver_folder
from bench.peers.place import Place

BOUNDARY = "forwardpass-bench"
RUNTIME = ("onnxruntime==1.31.1", "numpy==2.4.6", "pillow==13.0.0", "tokenizers==0.23.3")


@dataclass(frozen=True)
class Ask:
    """A request in a peer's words. ``bodies`` is a pattern of files, ``header_length`` names one that holds it."""

    path: str
    content_type: str
    bodies: str
    header_length: str | None = None


@dataclass(frozen=True)
class Peer:
    """``asks`` by kind: ``tiny``, ``binary``, ``text``, ``image``. ``ready`` is a path that answers 200 in the end."""

    name: str
    packages: tuple[str, ...]
    command: Callable[[Place], list[str]]
    ready: str
    asks: Mapping[str, Ask]
    environ: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    waits: bool = False  # its batching makes a lone request wait: measured without it as well
    together: bool = False  # one start answers ``tiny`` and ``binary``
    setup: str = ""  # how it is set up, for the table


def module(place: Place, name: str) -> list[str]:
    return [str(place.programs / "python"), "-m", f"bench.peers.serve.{name}"]


def fastapi(place: Place) -> list[str]:
    app = "bench.peers.serve.fastapi_server:app"
    return [str(place.programs / "python"), "-m", "uvicorn", app, "--port", str(place.port), "--no-access-log"]


def mosec(place: Place) -> list[str]:
    # 64 images wait 2 to 3 s on one core, Mosec's own limit is 3 s.
    limits = ["--timeout", "30000", "--log-level", "warning"]
    return [*module(place, "mosec_server"), "--address", "127.0.0.1", "--port", str(place.port), *limits]


def bentoml(place: Place) -> list[str]:
    address = ["--host", "127.0.0.1", "--port", str(place.port)]
    return [str(place.programs / "bentoml"), "serve", "bench.peers.serve.bentoml_server:Peer", *address]


def mlserver(place: Place) -> list[str]:
    return [str(place.programs / "mlserver"), "start", str(mlserver_folder.write(place))]


def forwardpass(place: Place) -> list[str]:
    model = Path("build/bench/models") / ("tiny" if place.kind == "binary" else place.kind)
    ports = ["--port", str(place.port), "--grpc-port", "0"]
    return [str(place.programs / "forwardpass"), "serve", str(model), *ports, "--cores", "1"]


JSON, BYTES = "application/json", "application/octet-stream"
TINY, TEXT = "plain.json", "instances_*.json"


def plain(path: str, raw: str) -> dict[str, Ask]:
    """Rows as ``instances``, tensors and images as the body itself."""
    return {
        "tiny": Ask(path, JSON, TINY),
        "binary": Ask(raw, BYTES, "tiny.f32"),
        "text": Ask(path, JSON, TEXT),
        "image": Ask(raw, "image/jpeg", "image.jpg"),
    }


PEERS = (
    Peer(
        "Forwardpass",
        (),
        forwardpass,
        "/readyz",
        {
            "tiny": Ask("/v2/models/tiny/infer", JSON, "tiny.json"),
            "binary": Ask("/v2/models/tiny/infer", BYTES, "tiny.bin", "tiny.bin.header"),
            "text": Ask("/v2/models/text/infer", JSON, "text_*.json"),
            "image": Ask("/v1/models/image:predict", "image/jpeg", "image.jpg"),
        },
        together=True,
        setup="its defaults; V2 JSON, V2 binary, JPEG as the body",
    ),
    Peer(
        "Mosec",
        ("mosec==0.9.8", "msgpack==1.2.4"),
        mosec,
        "/",
        plain("/inference", "/inference") | {"binary": Ask("/inference", "application/msgpack", "tiny.msgpack")},
        waits=True,
        setup="dynamic batching, its shortest wait (1 ms); JSON, MessagePack, JPEG as the body",
    ),
    Peer(
        "LitServe",
        ("litserve==0.2.19",),
        lambda place: module(place, "litserve_server"),
        "/health",
        plain("/predict", "/predict"),
        setup="batching with no wait (its default), one worker; JSON, raw bytes, JPEG as the body",
    ),
    Peer(
        "MLServer",
        ("mlserver==1.7.1", "uvloop==0.21.0"),
        mlserver,
        "/v2/models/peer/ready",
        {
            "tiny": Ask("/v2/models/peer/infer", JSON, "tiny.json"),
            "text": Ask("/v2/models/peer/infer", JSON, "text_*.json"),
            "image": Ask("/v2/models/peer/infer", JSON, "image_base64.json"),
        },
        missing={"binary": "its HTTP door reads no binary tensors"},
        waits=True,
        setup="adaptive batching (1 ms), one parallel worker (its default); V2 JSON, JPEG as base64",
    ),
    Peer(
        "BentoML",
        ("bentoml==1.4.39",),
        bentoml,
        "/readyz",
        {
            "tiny": Ask("/predict", JSON, TINY),
            "text": Ask("/predict", JSON, TEXT),
            "image": Ask("/predict", f"multipart/form-data; boundary={BOUNDARY}", "image.multipart"),
        },
        {"BENTOML_DO_NOT_TRACK": "True"},
        missing={"binary": "its HTTP door takes tensors as JSON only (pickle is refused there)"},
        waits=True,
        setup="adaptive batching, one worker; JSON, JPEG as multipart",
    ),
    Peer(
        "Ray Serve",
        ("ray[serve]==2.60.0",),
        lambda place: module(place, "ray_server"),
        "/-/healthz",
        plain("/", "/"),
        {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0", "RAY_DISABLE_IMPORT_WARNING": "1"},
        together=True,
        setup="`serve.batch` with no wait, one replica, no dashboard; JSON, raw bytes, JPEG as the body",
    ),
    Peer(
        "FastAPI",
        ("fastapi==0.165.0", "uvicorn[standard]==0.54.0"),
        fastapi,
        "/health",
        plain("/predict", "/predict-raw"),
        together=True,
        setup="`async def`, pydantic, uvloop, no access log, no batching; JSON, raw bytes, JPEG as the body",
    ),
)
OURS = PEERS[0]
