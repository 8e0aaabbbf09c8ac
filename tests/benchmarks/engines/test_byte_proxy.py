"""The proxy passes on every byte, both ways, and counts them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.engines.byte_proxy import ByteProxy
from tests.processes import until


@pytest.fixture
def doubling_server() -> Iterator[int]:
    """Answers everything it got, twice, once the sender has finished."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                received = b""
                while chunk := peer.recv(1 << 16):
                    received += chunk
                peer.sendall(received * 2)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def exchange(port: int, content: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(content)
        peer.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := peer.recv(1 << 16):
            received += chunk
    return received


@pytest.mark.parametrize("size", [1, 1000, 300_000])
def test_bytes_pass_unchanged_and_are_counted(doubling_server: int, size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    with ByteProxy(doubling_server) as proxy:
        assert exchange(proxy.port, content) == content * 2
        assert exchange(proxy.port, b"xyz") == b"xyzxyz"
        until(lambda: proxy.totals == (size + 3, 2 * size + 6))


def test_a_dead_target_closes_the_connection_and_counts_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with ByteProxy(port) as proxy:
        try:
            answer = exchange(proxy.port, b"hello")
        except OSError:  # closed before or while it was written to
            answer = b""
        assert answer == b""
        assert proxy.totals == (0, 0)
