"""A Hugging Face hub on localhost: the pieces that huggingface_hub and `engine pull` speak to.

Knows the hub's addresses, headers and redirects to storage on another host. Does not know GGUF.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Request(NamedTuple):
    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class FakeHub:
    """Serves `files` of one repository. The other fields are ways to go wrong."""

    repository: str = "org/Tiny-GGUF"
    files: dict[str, bytes] = field(default_factory=dict)
    status: int = 200  # of everything
    error_code: str = ""
    gated: bool = False  # files only: the listing of a gated repository is public
    break_after: list[int] = field(default_factory=list)  # bytes of each next transfer
    ignores_range: bool = False
    corrupt: bool = False
    storage_status: list[int] = field(default_factory=list)  # of each next transfer
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> FakeHub:
        hub = self

        class Handler(_Handler):
            fake = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def transfers(self) -> list[Request]:
        """The requests for a file's bytes."""
        return [r for r in self.requests if r.method == "GET" and r.path.startswith("/storage/")]

    def listing(self) -> bytes:
        siblings = [
            {
                "rfilename": name,
                "size": len(data),
                "blobId": hashlib.sha1(data).hexdigest(),
                "lfs": {
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size": len(data),
                    "pointerSize": 130,
                },
            }
            for name, data in self.files.items()
        ]
        found = {"id": self.repository, "sha": COMMIT, "siblings": siblings, "private": False}
        return json.dumps(found | {"tags": [], "downloads": 0, "likes": 0}).encode()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.handle_request()

    def do_GET(self) -> None:
        self.handle_request()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def handle_request(self) -> None:
        fake, path = self.fake, self.path
        fake.requests.append(
            Request(
                self.command, path, self.headers.get("Range"), self.headers.get("Authorization")
            )
        )
        if path.startswith("/storage/"):
            self.storage(path.removeprefix("/storage/"))
        elif fake.status != 200:
            self.refuse(fake.status, fake.error_code)
        elif re.fullmatch(
            rf"/api/models/{fake.repository}(/revision/(main|{COMMIT}))?", self.plain
        ):
            self.answer(200, {"Content-Type": "application/json"}, fake.listing())
        elif match := re.fullmatch(rf"/{fake.repository}/resolve/{COMMIT}/(.+)", self.plain):
            self.resolve(match[1])
        else:
            self.refuse(404, "RevisionNotFound" if fake.repository in path else "RepoNotFound")

    @property
    def plain(self) -> str:
        return self.path.partition("?")[0]

    def resolve(self, name: str) -> None:
        """Where the file lies: on another host, as all large files of the hub do."""
        fake = self.fake
        if fake.gated:
            self.refuse(403, "GatedRepo")
        elif name not in fake.files:
            self.refuse(404, "EntryNotFound")
        else:
            data = fake.files[name]
            digest = hashlib.sha256(data).hexdigest()
            headers = {
                "X-Repo-Commit": COMMIT,
                "X-Linked-Etag": f'"{digest}"',
                "X-Linked-Size": str(len(data)),
                "ETag": '"of-the-redirect"',
                "Location": f"http://localhost:{fake.port}/storage/{name}",
            }
            self.answer(302, headers, b"")

    def storage(self, name: str) -> None:
        fake = self.fake
        if fake.storage_status and (status := fake.storage_status.pop(0)) != 200:
            return self.refuse(status, "")
        data = fake.files[name]
        if fake.corrupt:
            data = bytes([data[0] ^ 1]) + data[1:]
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and not fake.ignores_range:
            start = int(wanted[1])
            spread = f"bytes {start}-{len(data) - 1}/{len(data)}"
            return self.answer(206, {"Content-Range": spread}, data[start:])
        return self.answer(200, {}, data)

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.path.startswith("/storage/") and self.fake.break_after:
            self.wfile.write(body[: self.fake.break_after.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(1)
            return
        self.wfile.write(body)

    def refuse(self, status: int, code: str) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
        self.answer(status, headers, b"{}")
