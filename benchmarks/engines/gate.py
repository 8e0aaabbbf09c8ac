"""The gate: lets nodes through to a SuperLink that listens on loopback, and nothing else.

Flower 1.41 has one port for nodes, for its own executors, and for whoever submits runs, and asks
only nodes for a key: whoever reaches that port has code run on every host of the federation. So
the SuperLink listens on loopback, for the operator, and this program stands where nodes reach it.
It ends TLS, passes on what nodes call (``POST /v1/fleet/…``, which Flower authenticates by the
node's key), and answers everything else with 403.

``python -m benchmarks.engines.gate --port 9443 --superlink 127.0.0.1:8000 --ssl-ca-certfile …
--ssl-certfile … --ssl-keyfile …``
"""

from __future__ import annotations

import argparse
import http.client
import re
import socket
import ssl
import sys
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_NODES_CALL = re.compile(r"/v1/fleet/[a-z]+(-[a-z]+)*")
_HOP_BY_HOP = {
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}
_CHUNK = 1 << 16
_SECONDS = 120.0  # that a connection may stay silent


class Gate(ThreadingHTTPServer):
    """Serves nodes over TLS on behalf of a SuperLink.

    Parameters
    ----------
    address
        Host and port to listen on.
    superlink
        Host and port of the SuperLink.
    authority
        Certificate of the authority that signed the SuperLink's.
    certificate, key
        What the gate shows to nodes.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        superlink: tuple[str, int],
        authority: Path,
        certificate: Path,
        key: Path,
    ) -> None:
        self.superlink = superlink
        self.trusted = ssl.create_default_context(cafile=authority)
        self._shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._shown.load_cert_chain(certificate, key)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Passage)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; whoever dawdles over TLS holds up only its own thread."""
        plain, address = super().get_request()
        plain.settimeout(_SECONDS)
        wrapped = self._shown.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        return wrapped, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about connections that break; what else fails is ours and is told."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Passage(BaseHTTPRequestHandler):
    """One connection of a node, or of somebody who is none; other methods are answered 501."""

    protocol_version = "HTTP/1.1"
    timeout = _SECONDS
    server: Gate

    def do_POST(self) -> None:
        length = self._body_bytes()
        if length is None or not _NODES_CALL.fullmatch(self.path):
            self._refuse()
            return
        try:
            self._pass_on(length)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._answer(HTTPStatus.BAD_GATEWAY, {}, f"the SuperLink: {error}\n".encode())
            self.close_connection = True

    def _body_bytes(self) -> int | None:
        """Return the length of the body; None if it is not said in the one way that is allowed."""
        lengths = self.headers.get_all("Content-Length", ["0"])
        plain = "Transfer-Encoding" not in self.headers and len(lengths) == 1
        return int(lengths[0]) if plain and re.fullmatch(r"[0-9]{1,12}", lengths[0]) else None

    def _pass_on(self, length: int) -> None:
        host, port = self.server.superlink
        link = http.client.HTTPSConnection(
            host, port, timeout=_SECONDS, context=self.server.trusted
        )
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
        headers["Content-Length"] = str(length)
        try:
            link.request("POST", self.path, self._body(length), headers)
            reply = link.getresponse()
            kept = {k: v for k, v in reply.getheaders() if k.lower() not in _HOP_BY_HOP}
            self._answer(reply.status, kept, reply.read())
        finally:
            link.close()

    def _body(self, length: int) -> Iterator[bytes]:
        while length:
            chunk = self.rfile.read(min(length, _CHUNK))
            if not chunk:
                raise OSError("the node ended its request early")
            length -= len(chunk)
            yield chunk

    def _refuse(self) -> None:
        print(f"refused {self.client_address[0]}: {self.requestline[:80]!a}", flush=True)
        self._answer(HTTPStatus.FORBIDDEN, {"Connection": "close"}, b"only nodes pass here\n")
        self.close_connection = True

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing but refusals."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines.gate")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=9443)
    parser.add_argument("--superlink", default="127.0.0.1:8000", metavar="host:port")
    for name in ("--ssl-ca-certfile", "--ssl-certfile", "--ssl-keyfile"):
        parser.add_argument(name, type=Path, required=True)
    options = parser.parse_args(arguments)
    host, _, port = options.superlink.rpartition(":")
    with Gate(
        (options.host, options.port),
        (host, int(port)),
        options.ssl_ca_certfile,
        options.ssl_certfile,
        options.ssl_keyfile,
    ) as gate:
        print(f"gate on {options.host}:{options.port} to {options.superlink}", flush=True)
        gate.serve_forever()


if __name__ == "__main__":
    main()
