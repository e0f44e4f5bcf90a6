"""The gRPC door's listening: the library's server with our services, and its drain.

The library binds by itself, so the socket that held the port since the start is handed over by
address: both are bound for a moment, and only the library's listens.
"""

from __future__ import annotations

import socket

import grpc

from forwardpass.config import Settings
from forwardpass.errors import InvalidSettings
from forwardpass.server.control import Control
from forwardpass.server.dataplane import DataPlane
from forwardpass.server.grpc import health, reflection, service
from forwardpass.server.statistics import Statistics

# Calls that the library holds until we take them, of one connection and of all. Beyond its usual thousand it
# cancels some without a word, and beyond a connection's it refuses what came in one burst; our own queue says why.
MAX_STREAMS, MAX_UNSEEN = 1 << 16, 1 << 20


class GrpcServer:
    """Listens from ``start`` to ``stop``."""

    def __init__(self, dataplane: DataPlane, control: Control, statistics: Statistics, settings: Settings) -> None:
        self._settings = settings
        self._service = service.InferenceService(dataplane, control, statistics)
        self._health = health.Health(dataplane, service.NAME)
        self._server = grpc.aio.server(options=_options(settings))
        known = (service.NAME, health.NAME)
        services = {service.NAME: self._service.handlers(), health.NAME: self._health.handlers()}
        services |= dict.fromkeys(reflection.NAMES, reflection.handlers(known))
        table = [grpc.method_handlers_generic_handler(name, methods) for name, methods in services.items()]
        self._server.add_generic_rpc_handlers(tuple(table))

    async def start(self, sock: socket.socket) -> None:
        """Listen where ``sock`` is bound, and close it. Raises ``InvalidSettings`` where that fails."""
        host, port = sock.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise InvalidSettings(f"cannot listen for gRPC on {address}: {error}; choose another --grpc-port") from None
        await self._server.start()
        sock.close()
        self.rebuild()

    def rebuild(self) -> None:
        """Models have come, become ready or gone; or the server has begun to stop."""
        self._service.door.rebuild()
        self._health.changed()

    async def stop(self) -> None:
        """Take no more calls, finish those under way within the drain timeout."""
        self._health.close()
        self._service.stop_streams()
        await self._server.stop(self._settings.drain_timeout)


def _options(settings: Settings) -> list[tuple[str, int]]:
    milliseconds = {
        "grpc.max_connection_idle_ms": settings.keep_alive,
        "grpc.keepalive_time_ms": settings.keep_alive,  # a peer that vanished is noticed
        "grpc.server_handshake_timeout_ms": settings.receive_timeout,
    }
    return [
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_send_message_length", settings.max_body_bytes),
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.server.max_pending_requests", MAX_UNSEEN),
        ("grpc.server.max_pending_requests_hard_limit", MAX_UNSEEN),
        ("grpc.so_reuseport", int(settings.reuse_port)),  # else a port in use is an error, not shared
        *((name, max(1, round(seconds * 1000))) for name, seconds in milliseconds.items()),
    ]
