"""Read the `mcpServers` file of other MCP clients: which servers there are, how they start.

Knows JSON (with comments), keys, variables and what each client calls things. Starts nothing and
does not know the protocol. What is written wrong is an error with file and key; what is right but
can't be had here (a variable that is not set, a transport of old) is the server's `problem`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from engine.errors import McpError

MAX_FILE_BYTES: Final = 1024 * 1024
START_SECONDS: Final = 10.0
CALL_SECONDS: Final = 60.0
_MILLISECONDS: Final = 1_000  # some clients give `timeout` in ms: nobody means 1,000 seconds

_GROUPS: Final = ("mcpServers", "servers")  # VS Code says `servers`, everybody else the other
_KEYS: Final = (
    *("command", "args", "env", "cwd", "url", "type", "transport", "headers"),
    *("disabled", "enabled", "timeout", "startup_timeout_sec", "serverUrl", "httpUrl"),
)
_URLS: Final = ("url", "serverUrl", "httpUrl")
_STDIO: Final = ("stdio", "local")
_HTTP: Final = ("http", "streamable-http", "streamable_http", "streamableHttp", "remote")
_TRUST: Final = ("autoApprove", "alwaysAllow", "trust", "approve")  # other clients' consents
_FOREIGN: Final = (
    *("description", "name", "title", "icon", "envFile", "dev", "tools", "allowedTools"),
    *("disabledTools", "excludeTools", "includeTools", "enabledTools", "oauth", "auth"),
    *("gallery", "version", "note", "comment", "metadata", "inputs"),
)

_VARIABLE = re.compile(r"\$\{(?:(env|input):)?([A-Za-z_][\w.-]*)(?::-([^}]*))?\}")
_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/|,(?=\s*[}\]])', re.DOTALL)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One server: a program to start (`command`), or an address (`url`).

    `problem` says why it can't be started here. `timeout_seconds` bounds a call,
    `start_seconds` the start. Values are what they are after variables were filled in.
    """

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str = ""
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_disabled: bool = False
    timeout_seconds: float = CALL_SECONDS
    start_seconds: float = START_SECONDS
    problem: str = ""
    source: str = ""

    @property
    def consent_hash(self) -> str:
        """SHA-256 of what would be started, in hex: what a consent is bound to.

        Of `env` the names alone: a new token is no new program.
        """
        parts = [self.command, list(self.args), sorted(self.env), self.cwd, self.url]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @property
    def shown(self) -> str:
        """The command line or address, for a person. Without `env` and `headers`: secrets."""
        if self.url:
            parts = urlsplit(self.url)
            return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
        return " ".join([self.command, *self.args])


@dataclass(frozen=True, slots=True)
class McpConfig:
    """The servers of a file, in its order, and what a person should know of it."""

    servers: tuple[ServerConfig, ...]
    notices: tuple[str, ...] = ()


def load_config(path: str | Path, environ: Mapping[str, str] | None = None) -> McpConfig:
    """Read a file. Raises McpError naming file and key for what is wrong with it."""
    path = Path(path).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise McpError(f"{path}: {error.strerror}", path=str(path), reason="config") from error
    if len(data) > MAX_FILE_BYTES:
        raise McpError(
            f"{path}: is over {MAX_FILE_BYTES} bytes, the most that a list of servers may have",
            path=str(path),
            reason="config",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise McpError(f"{path}: not UTF-8 text", path=str(path), reason="config") from error
    return parse_config(text, str(path), environ)


def parse_config(
    text: str, source: str = "", environ: Mapping[str, str] | None = None
) -> McpConfig:
    """As `load_config`, from text; `source` is what errors call it."""
    reader = _Reader(source or "<mcp>", os.environ if environ is None else environ)
    return reader.read(text)


class _Reader:
    """One file on its way to values."""

    def __init__(self, source: str, environ: Mapping[str, str]) -> None:
        self._source = source
        self._environ = environ
        self._notices: list[str] = []

    def read(self, text: str) -> McpConfig:
        try:
            document = json.loads(_without_comments(text))
        except (ValueError, RecursionError) as error:
            self._fail("", f"not JSON: {error}")
        group, servers = self._group(document)
        made = [self._server(f"{group}.{name}", name, value) for name, value in servers.items()]
        return McpConfig(tuple(made), tuple(self._notices))

    def _group(self, document: Any) -> tuple[str, dict[str, Any]]:
        if not isinstance(document, dict):
            self._fail("", f"expected an object with mcpServers, found {_kind(document)}")
        if "mcp" in document and isinstance(document["mcp"], dict):  # settings.json of VS Code
            document = document["mcp"]
        found = [name for name in _GROUPS if name in document]
        if not found:
            close = get_close_matches(" ".join(document), _GROUPS, 1, 0.5)
            close = close or [n for key in document for n in get_close_matches(key, _GROUPS, 1)]
            hint = f"; did you mean {close[0]!r}?" if close else ""
            keys = ", ".join(map(repr, document)) or "nothing"
            self._fail("", f"has no 'mcpServers', but {keys}{hint}")
        servers = document[found[0]]
        if not isinstance(servers, dict):
            self._fail(found[0], f"expected an object of servers, found {_kind(servers)}")
        return found[0], servers

    def _server(self, place: str, name: str, value: Any) -> ServerConfig:
        if not isinstance(value, dict):
            self._fail(place, f"expected an object with command or url, found {_kind(value)}")
        if not name.strip():
            self._fail(place, "a server needs a name")
        self._check_keys(place, value)
        problems: list[str] = []

        def text(key: str) -> str:
            return self._expand(self._text(place, value, key), problems)

        env, headers = self._texts(place, value, "env"), self._texts(place, value, "headers")
        url = next((text(key) for key in _URLS if key in value), "")
        server = ServerConfig(
            name=name,
            command=str(Path(command).expanduser()) if (command := text("command")) else "",
            args=tuple(self._expand(item, problems) for item in self._args(place, value)),
            env={key: self._expand(item, problems) for key, item in env.items()},
            cwd=str(Path(cwd).expanduser()) if (cwd := text("cwd")) else "",
            url=url,
            headers={key: self._expand(item, problems) for key, item in headers.items()},
            is_disabled=self._flag(place, value, "disabled", False)
            or not self._flag(place, value, "enabled", True),
            timeout_seconds=self._seconds(place, value, "timeout", CALL_SECONDS),
            start_seconds=self._seconds(place, value, "startup_timeout_sec", START_SECONDS),
            source=self._source,
        )
        problems += self._check_transport(place, value, server)
        return replace(server, problem="; ".join(dict.fromkeys(problems)))

    def _check_keys(self, place: str, value: Mapping[str, Any]) -> None:
        for key in value:
            if key in _KEYS:
                continue
            close = get_close_matches(key, _KEYS, 1, 0.75)
            if close and key not in _FOREIGN + _TRUST:
                self._fail(f"{place}.{key}", f"unknown key; did you mean {close[0]!r}?")
            why = "nobody is trusted by it" if key in _TRUST else "not used"
            self._notices.append(f"{self._source}: {place}.{key}: {why}")

    def _check_transport(
        self, place: str, value: Mapping[str, Any], server: ServerConfig
    ) -> list[str]:
        kind = self._text(place, value, "type") or self._text(place, value, "transport")
        if kind and kind not in (*_STDIO, *_HTTP, "sse"):
            close = get_close_matches(kind, [*_STDIO, *_HTTP, "sse"], 1)
            hint = f"did you mean {close[0]!r}?" if close else "there are: stdio, http"
            self._fail(f"{place}.type", f"unknown transport {kind!r}; {hint}")
        if bool(server.command) == bool(server.url):
            both = "both command and url" if server.url else "neither command nor url"
            self._fail(place, f"has {both}; a server needs one of them")
        if (kind in _STDIO and server.url) or (kind in _HTTP and server.command):
            wanted = "command" if kind in _STDIO else "url"
            self._fail(f"{place}.type", f"{kind!r} needs {wanted!r}")
        if kind == "sse":
            return ["the old HTTP+SSE transport is not spoken; give the streamable HTTP url"]
        if not server.url:
            return []
        try:
            parts = urlsplit(server.url)
            is_url = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
        except ValueError:
            is_url = False
        if not is_url:
            self._fail(f"{place}.url", f"expected http:// or https://, found {server.url[:80]!r}")
        return []

    def _text(self, place: str, value: Mapping[str, Any], key: str) -> str:
        found = value.get(key, "")
        if not isinstance(found, str):
            self._fail(f"{place}.{key}", f"expected text, found {_kind(found)}")
        if "\0" in found:
            self._fail(f"{place}.{key}", "holds a NUL character")
        return found

    def _args(self, place: str, value: Mapping[str, Any]) -> list[str]:
        found = value.get("args", [])
        if not isinstance(found, list):
            self._fail(f"{place}.args", f"expected a list of texts, found {_kind(found)}")
        return [self._text(f"{place}.args", {str(i): x}, str(i)) for i, x in enumerate(found)]

    def _texts(self, place: str, value: Mapping[str, Any], key: str) -> dict[str, str]:
        found = value.get(key, {})
        if not isinstance(found, dict):
            self._fail(f"{place}.{key}", f"expected an object of texts, found {_kind(found)}")
        made = {}
        for name, item in found.items():
            is_number = isinstance(item, int | float) and not isinstance(item, bool)
            given = str(item) if is_number else item  # "PORT": 8080 is what many write
            made[name] = self._text(f"{place}.{key}", {name: given}, name)
        return made

    def _flag(self, place: str, value: Mapping[str, Any], key: str, default: bool) -> bool:
        found = value.get(key, default)
        if not isinstance(found, bool):
            self._fail(f"{place}.{key}", f"expected true or false, found {_kind(found)}")
        return found

    def _seconds(self, place: str, value: Mapping[str, Any], key: str, default: float) -> float:
        found = value.get(key, default)
        if isinstance(found, bool) or not isinstance(found, int | float) or not found > 0:
            self._fail(f"{place}.{key}", f"expected seconds above 0, found {found!r}")
        if found >= _MILLISECONDS:
            self._notices.append(
                f"{self._source}: {place}.{key}: {found} is taken for milliseconds"
            )
            return found / 1_000
        return float(found)

    def _expand(self, text: str, problems: list[str]) -> str:
        """Fill in `${VAR}`, `${env:VAR}` and `${VAR:-default}`, once: values are not read again."""

        def fill(match: re.Match[str]) -> str:
            kind, name, default = match.groups()
            if kind == "input":
                problems.append(f"{match[0]} is what editors ask for; write ${{NAME}} and set it")
            elif name in ("workspaceFolder", "workspaceRoot"):
                return os.getcwd()
            elif name == "userHome":
                return str(Path.home())
            elif name in self._environ:
                return self._environ[name]
            elif default is None:
                problems.append(f"the environment variable {name} is not set")
            return default or ""

        return _VARIABLE.sub(fill, text)

    def _fail(self, key: str, problem: str) -> NoReturn:
        where = f"{self._source}: {key}" if key else self._source
        raise McpError(f"{where}: {problem}", path=self._source, key=key, reason="config")


def _without_comments(text: str) -> str:
    """JSON as editors keep it: comments outside of texts, and a last comma, are taken out."""
    return _COMMENT.sub(lambda match: match[0] if match[0][0] == '"' else "", text)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return "null" if value is None else names.get(type(value), "a number")
