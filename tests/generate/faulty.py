"""An S3 server on loopback and a proxy before it that misbehaves to order."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ERRORS = {
    403: ("AccessDenied", "Access Denied"),
    500: ("InternalError", "We encountered an internal error."),
    503: ("SlowDown", "Reduce your request rate."),
}
_DROPPED = {"connection", "transfer-encoding", "content-length", "keep-alive"}

# What may happen to a request for a while: an error answer, a reset connection before or after the server has done its work, a
# body of which half arrives at the server, an answer of which half arrives here.
FAULTS = ("500", "503", "reset before", "reset after", "half sent", "half read")


@dataclass(frozen=True)
class Request:
    """What the proxy saw: HTTP method, path without query, body bytes."""

    method: str
    path: str
    body: int


class Proxy:
    """Forwards to `port` on loopback.

    Args:
        port: of the real server.
        misbehave: request number (from 0) and request -> a fault or None.
    """

    def __init__(
        self, port: int, misbehave: Callable[[int, Request], str | None] = lambda n, r: None
    ) -> None:
        self.misbehave = misbehave
        self.requests: list[Request] = []
        self.injected: list[str] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy._handle(self, port)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, handler: BaseHTTPRequestHandler, port: int) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        request = Request(handler.command, handler.path.split("?")[0], len(body))
        with self._lock:
            fault = self.misbehave(len(self.requests), request)
            self.requests.append(request)
            if fault is not None:
                self.injected.append(fault)
        if fault is not None and fault.isdigit():
            self._refuse(handler, int(fault))
        elif fault == "reset before":
            _reset(handler)
        elif fault == "half sent":
            _send_half(handler, port, body)
            _reset(handler)
        else:
            answer, data = _forward(handler, port, body)
            if fault == "reset after":
                _reset(handler)
            else:
                _reply(handler, answer, data, whole=fault != "half read")

    @staticmethod
    def _refuse(handler: BaseHTTPRequestHandler, status: int) -> None:
        code, message = _ERRORS[status]
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/xml")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(text)


def _forward(
    handler: BaseHTTPRequestHandler, port: int, body: bytes
) -> tuple[http.client.HTTPResponse, bytes]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {name: value for name, value in handler.headers.items() if name.lower() != "expect"}
    link.request(handler.command, handler.path, body or None, headers)
    answer = link.getresponse()
    data = answer.read()
    link.close()
    return answer, data


def _reply(
    handler: BaseHTTPRequestHandler, answer: http.client.HTTPResponse, data: bytes, whole: bool
) -> None:
    handler.send_response_only(answer.status, answer.reason)
    length = answer.getheader("Content-Length") if handler.command == "HEAD" else str(len(data))
    for name, value in answer.getheaders():
        if name.lower() not in _DROPPED:
            handler.send_header(name, value)
    handler.send_header("Content-Length", length or "0")
    handler.end_headers()
    if handler.command == "HEAD":
        return
    if whole:
        handler.wfile.write(data)
    else:
        handler.wfile.write(data[: len(data) // 2])
        handler.wfile.flush()
        _reset(handler)


def _send_half(handler: BaseHTTPRequestHandler, port: int, body: bytes) -> None:
    """Announce the whole body to the server and send half of it."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as link:
        lines = [f"{handler.command} {handler.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in handler.headers.items() if name.lower() != "expect"]
        link.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body[: len(body) // 2])


def _reset(handler: BaseHTTPRequestHandler) -> None:
    """Close with RST and not with FIN, as a crashed peer does."""
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
