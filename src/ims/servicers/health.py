"""Whether the service can do its work, for whoever balances load: it cannot without its catalogue."""

import threading
from collections.abc import Callable, Iterable
from typing import Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

HEALTH_SERVICE: Final[str] = health.SERVICE_NAME
LOOK_SECONDS: Final = 1
"""How often the catalogue is asked whether it is there."""

_log = structlog.get_logger("ims.health")


class Health:
    """The standard health service, which follows the catalogue."""

    def __init__(self, services: Iterable[str], is_reachable: Callable[[], bool]) -> None:
        """Take the names that are asked for, and a question to the catalogue that is bounded in time."""
        self._services = tuple(services)
        self._is_reachable = is_reachable
        self._servicer = health.HealthServicer()
        self._serves: bool | None = None
        self._ending = threading.Event()
        self._looking = threading.Thread(target=self._look_again_and_again, name="health", daemon=True)

    def add_to(self, server: grpc.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    def start(self) -> None:
        """Look once, say how it is, and go on looking."""
        self._look()
        self._looking.start()

    def stop(self) -> None:
        """Say for good that nothing is served any more."""
        self._ending.set()
        self._servicer.enter_graceful_shutdown()
        if self._looking.is_alive():
            self._looking.join()

    def _look_again_and_again(self) -> None:
        while not self._ending.wait(LOOK_SECONDS):
            try:
                self._look()
            except Exception:  # noqa: BLE001 - whatever it was, the next look may tell more
                _log.exception("whether the catalogue can be reached is not known")
                self._say(serves=False)

    def _look(self) -> None:
        self._say(serves=self._is_reachable())

    def _say(self, *, serves: bool) -> None:
        if serves == self._serves:
            return
        self._serves = serves
        _log.info("health", serves=serves)
        status = health_pb2.HealthCheckResponse
        for name in self._services:
            self._servicer.set(name, status.SERVING if serves else status.NOT_SERVING)
