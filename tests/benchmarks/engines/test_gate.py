"""The gate: what nodes call passes unchanged, everything else is refused."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.engines.credentials import ServerCredentials
from benchmarks.engines.gate import Gate

SAID = bytes(range(256)) * 700  # several chunks of the gate's


class Behind(BaseHTTPRequestHandler):
    """Stands for a SuperLink; answers with what it was sent, backwards."""

    protocol_version = "HTTP/1.1"
    heard: list[tuple[str, str, dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append((self.command, self.path, dict(self.headers.items()), body))
        self.send_response_only(418)
        self.send_header("X-Answer", "yes")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])

    def log_message(self, format: str, *arguments: object) -> None: ...


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> ServerCredentials:
    return ServerCredentials.create(tmp_path_factory.mktemp("credentials"))


def served(server: ThreadingHTTPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def heard() -> list[tuple[str, str, dict[str, str], bytes]]:
    return []


@pytest.fixture
def superlink(credentials: ServerCredentials, heard) -> Iterator[int]:
    handler = type("Handler", (Behind,), {"heard": heard})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(credentials.certificate, credentials.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    yield from served(server)


@pytest.fixture
def gate(credentials: ServerCredentials, superlink: int) -> Iterator[int]:
    files = credentials.authority, credentials.certificate, credentials.key
    yield from served(Gate(("127.0.0.1", 0), ("127.0.0.1", superlink), *files))


def sent(port: int, credentials: ServerCredentials, *requests: bytes) -> bytes:
    """Send raw bytes over TLS; returns all that comes back until the gate closes or is silent."""
    context = ssl.create_default_context(cafile=credentials.authority)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as link,
    ):
        for request in requests:
            link.sendall(request)
        answer = b""
        while chunk := link.recv(1 << 16):
            answer += chunk
        return answer


def post(path: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    lines = [b"POST " + path + b" HTTP/1.1", b"Host: here", b"Connection: close", *headers]
    if not any(b"ength" in line or b"ncoding" in line for line in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + body


def test_what_a_node_calls_passes_with_its_headers_and_the_answer_comes_back(
    gate: int, credentials: ServerCredentials, heard
) -> None:
    request = post(b"/v1/fleet/pull-messages", b"Flwr-Signature: abc=", body=SAID)
    head, _, body = sent(gate, credentials, request).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 418 ")
    assert b"X-Answer: yes" in head
    assert body == SAID[::-1]
    ((command, path, headers, said),) = heard
    assert (command, path, said) == ("POST", "/v1/fleet/pull-messages", SAID)
    assert headers["Flwr-Signature"] == "abc="


@pytest.mark.parametrize(
    "request_bytes",
    [
        post(b"/v1/control/start-run", body=b"app"),
        post(b"/v1/control/list-runs"),
        post(b"/v1/runtime/pull-task"),
        post(b"/v1/runtime/responses"),
        post(b"/v1/fleet/../control/start-run"),
        post(b"/v1/fleet/%2e%2e/control/start-run"),
        post(b"/v1/fleet//control/start-run"),
        post(b"//v1/control/start-run"),
        post(b"/v1/fleet/pull-messages/../../control/start-run"),
        post(b"/v1/fleet/pull-messages?x=/v1/control/start-run"),
        post(b"/v1/fleet/pull-messages#x"),
        post(b"/v1/fleet/"),
        post(b"/v1/fleet/Pull-Messages"),
        post(b"https://127.0.0.1/v1/control/start-run"),
        post(b"https://127.0.0.1/v1/fleet/pull-messages"),
        post(b"/docs"),
        post(b"/openapi.json"),
        post(b"/v1/fleet/get-run", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        post(b"/v1/fleet/get-run", b"Content-Length: 0", b"Transfer-Encoding: chunked"),
        post(b"/v1/fleet/get-run", b"Content-Length: 0", b"Content-Length: 5", body=b"POST "),
        post(b"/v1/fleet/get-run", b"Content-Length: -1"),
        post(b"/v1/fleet/get-run", b"Content-Length: 0x1"),
        post(b"/v1/fleet/get-run", b"Content-Length: +1", body=b"x"),
    ],
)
def test_everything_else_is_refused_and_never_reaches_the_superlink(
    gate: int, credentials: ServerCredentials, heard, request_bytes: bytes, capsys
) -> None:
    smuggled = post(b"/v1/control/start-run")
    answer = sent(gate, credentials, request_bytes, smuggled)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.count(b"HTTP/1.1 ") == 1  # the connection ends there
    assert heard == []
    assert "refused 127.0.0.1: '" in capsys.readouterr().out


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"OPTIONS", b"CONNECT"])
def test_nodes_only_post(gate: int, credentials: ServerCredentials, heard, method: bytes) -> None:
    request = method + b" /v1/fleet/get-run HTTP/1.1\r\nHost: here\r\n\r\n"
    answer = sent(gate, credentials, request, post(b"/v1/fleet/get-run"))
    assert answer.startswith(b"HTTP/1.1 501 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert heard == []


def test_a_request_behind_an_allowed_one_is_judged_on_its_own(
    gate: int, credentials: ServerCredentials, heard
) -> None:
    first = post(b"/v1/fleet/get-run", body=b"1234").replace(b"Connection: close\r\n", b"")
    answer = sent(gate, credentials, first, post(b"/v1/control/start-run"))
    assert [path for _, path, _, _ in heard] == ["/v1/fleet/get-run"]
    assert answer.startswith(b"HTTP/1.1 418 ")
    assert b"4321HTTP/1.1 403 " in answer


def test_a_superlink_that_is_not_there_is_said(credentials: ServerCredentials) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    files = credentials.authority, credentials.certificate, credentials.key
    (gate,) = [served(Gate(("127.0.0.1", 0), ("127.0.0.1", port), *files))]
    answer = sent(next(gate), credentials, post(b"/v1/fleet/get-run"))
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert next(gate, None) is None


def test_whoever_dawdles_or_speaks_no_tls_holds_up_nobody(
    gate: int, credentials: ServerCredentials, heard, capsys
) -> None:
    with (
        socket.create_connection(("127.0.0.1", gate)),
        socket.create_connection(("127.0.0.1", gate)) as other,
    ):
        other.sendall(b"POST /v1/fleet/get-run HTTP/1.1\r\n\r\n")
        assert sent(gate, credentials, post(b"/v1/fleet/get-run")).startswith(b"HTTP/1.1 418 ")
    assert "Traceback" not in capsys.readouterr().err
