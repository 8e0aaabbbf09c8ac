"""A TCP proxy that counts the bytes it passes on, per connection direction."""

from __future__ import annotations

import selectors
import socket
import threading
from types import TracebackType

_CHUNK = 1 << 16


class ByteProxy:
    """Listens on a loopback port of its own and passes everything on to another one.

    Attributes
    ----------
    port
        Where it listens.
    sent_bytes, received_bytes
        Payload of the TCP streams so far, towards the target and back from it: everything
        above TCP, so TLS and HTTP are included and TCP/IP headers are not.
    """

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.2)
        self.port = int(self._listener.getsockname()[1])
        self.sent_bytes = self.received_bytes = 0
        self._lock = threading.Lock()
        self._open = True
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> ByteProxy:
        self._spawn(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = False
        for thread in self._threads:
            thread.join()
        self._listener.close()

    @property
    def totals(self) -> tuple[int, int]:
        """Bytes so far (sent, received), of the same moment."""
        with self._lock:
            return self.sent_bytes, self.received_bytes

    def _spawn(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)  # type: ignore
        self._threads = [t for t in self._threads if t.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        while self._open:
            try:
                near, _ = self._listener.accept()
            except TimeoutError:
                continue
            self._spawn(self._relay, near)

    def _relay(self, near: socket.socket) -> None:
        """Copy both ways until both sides have ended."""
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        near.settimeout(None)
        with near, far, selectors.DefaultSelector() as ready:
            ready.register(near, selectors.EVENT_READ, far)
            ready.register(far, selectors.EVENT_READ, near)
            while self._open and ready.get_map():
                for key, _ in ready.select(timeout=0.2):
                    source, sink = key.fileobj, key.data
                    if not self._copy(source, sink, towards_target=sink is far):  # type: ignore
                        ready.unregister(source)

    def _copy(self, source: socket.socket, sink: socket.socket, towards_target: bool) -> bool:
        try:
            chunk = source.recv(_CHUNK)
            if chunk:
                sink.sendall(chunk)
            else:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        with self._lock:
            if towards_target:
                self.sent_bytes += len(chunk)
            else:
                self.received_bytes += len(chunk)
        return bool(chunk)
