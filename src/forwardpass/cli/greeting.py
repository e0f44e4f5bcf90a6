"""What ``serve`` prints once it is ready: the models, the addresses, a ``curl`` line for each model.

In flow the models as the server holds them, out flows text. Knows nothing of how they are served.
"""

from __future__ import annotations

from collections.abc import Sequence

from forwardpass.cli.curl import curl_line
from forwardpass.cli.output import table, title
from forwardpass.server.served import ServedModel, newest

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - shown as an address to ask, not listened on


def base_url(host: str, port: int) -> str:
    """The address to ask a server that listens on ``host``."""
    return f"http://{address(host, port)}"


def address(host: str, port: int) -> str:
    """The same as gRPC clients take it."""
    asked = _ANYWHERE.get(host, host)
    return f"[{asked}]:{port}" if ":" in asked else f"{asked}:{port}"


def greeting(models: Sequence[ServedModel], base: str, plan: str, grpc: str | None = None) -> str:
    """All that is printed, as one text.

    ``plan`` says how the machine is used, ``grpc`` is the address of that door, if it is open.
    """
    rows = [[item.name, item.version, item.state, str(item.plan or ""), _about(item)] for item in models]
    addresses = [
        ("plan", plan),
        ("page", f"{base}/"),
        ("OpenAPI", f"{base}/openapi.json"),
        ("metrics", f"{base}/metrics"),
    ]
    addresses += [("gRPC", grpc)] if grpc else []
    waiting = models and not any(served.ready for served in models)
    parts = [
        title(f"{'no model is ready yet' if waiting else 'ready'} at {base}"),
        "",
        table(["model", "version", "state", "workers", "description"], rows),
        "",
        *(f"{what:<8} {where}" for what, where in addresses),
    ]
    lines = [curl_line(base, served.name, served.info, served.signature) for served in _answering(models)]
    return "\n".join([*parts, *(["", title("try it"), *lines] if lines else [])])


def _about(served: ServedModel) -> str:
    if served.ready:
        return " ".join(served.info.description.split())
    return " ".join(served.reason.split())


def _answering(models: Sequence[ServedModel]) -> list[ServedModel]:
    """The version of each model that answers where none is named, if it can."""
    names = dict.fromkeys(served.name for served in models)
    chosen = [newest([served for served in models if served.name == name]) for name in names]
    return [served for served in chosen if served.ready]
