"""An MCP server over HTTP that misbehaves as its path tells: `server.url("sse_drop")`.

Runs in threads of the test's process and keeps what it was sent.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

KEY = "Bearer s3cret"
TOOL = {"name": "echo", "inputSchema": {"type": "object", "properties": {}}}


class WebServer:
    """A server on a free port of this machine. A context manager."""

    def __init__(self, elsewhere: str = "") -> None:
        self.elsewhere = elsewhere  # where redirects lead
        self.seen: list[tuple[str, str, dict[str, str]]] = []  # path, JSON-RPC method, headers
        self.release = threading.Event()  # lets answers that hang go on
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"

    def calls(self) -> int:
        return sum(method == "tools/call" for _, method, _ in self.seen)

    def _handler(web) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # the client went away
                    super().handle()

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self.reply(405, b"")

            do_DELETE = do_GET

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                message = json.loads(body)
                path = self.path.strip("/")
                web.seen.append((path, message.get("method", ""), dict(self.headers.items())))
                if path == "unauthorized" and self.headers.get("authorization") != KEY:
                    self.reply(401, b"")
                elif path == "nothing":
                    self.reply(404, b"")
                elif path == "redirect":
                    self.reply(307, b"", location=web.elsewhere)
                elif path == "moved":
                    self.reply(307, b"", location="/json")
                elif "id" not in message:
                    self.reply(202, b"")
                elif message["method"] == "tools/call":
                    getattr(self, path, self.json)(message)
                else:
                    self.json(message)

            def reply(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def answer(self, message: Any) -> bytes:
                results: dict[str, Any] = {
                    "initialize": {
                        "protocolVersion": "2025-06-18",
                        "capabilities": {"tools": {}},
                        "serverInfo": {"name": "web", "version": "1"},
                    },
                    "tools/list": {"tools": [TOOL]},
                    "tools/call": {"content": [{"type": "text", "text": "from the web"}]},
                }
                result = results[message["method"]]
                return json.dumps(
                    {"jsonrpc": "2.0", "id": message["id"], "result": result}
                ).encode()

            def json(self, message: Any) -> None:
                self.reply(200, self.answer(message), content_type="application/json")

            def stream(self, data: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = True

            def sse(self, message: Any) -> None:
                self.stream(b"event: message\ndata: " + self.answer(message) + b"\n\n")

            def sse_drop(self, message: Any) -> None:
                self.stream(b'event: message\ndata: {"jsonrpc": "2.0", ')

            def slow(self, message: Any) -> None:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "100")
                self.end_headers()
                self.wfile.write(b"{")
                self.wfile.flush()
                web.release.wait()

            def cut(self, message: Any) -> None:
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", "100")
                self.end_headers()
                self.wfile.write(b"{")
                self.close_connection = True

            def big(self, message: Any) -> None:
                self.reply(200, b'"' + b"x" * 2_000_000 + b'"', content_type="application/json")

            def packed(self, message: Any) -> None:
                packed = gzip.compress(self.answer(message))
                kinds = {"content_type": "application/json", "content_encoding": "gzip"}
                self.reply(200, packed, **kinds)

            def page(self, message: Any) -> None:
                self.reply(200, b"<html>", content_type="text/html")

            def broken(self, message: Any) -> None:
                self.reply(503, b"", content_type="text/plain")

        return Handler
