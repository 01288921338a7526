"""Render chat templates as Hugging Face documents it: the independent truth for `test_template`.

Knows nothing of the engine. Uses Jinja's own sandbox and filters, with lists that may be changed.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import SandboxedEnvironment

NOW = datetime.datetime(2025, 3, 1, 12, 30)


class AssistantTracker(Extension):
    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_generation_support")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _generation_support(self, caller: Any) -> str:
        return str(caller())


def raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def environment() -> SandboxedEnvironment:
    env = SandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[AssistantTracker, loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


@lru_cache
def compiled(source: str, is_lenient: bool) -> jinja2.Template:
    env = environment()
    if is_lenient:
        env.filters["safe"] = str
        env.filters["tojson"] = lambda value, **how: tojson(
            list(value) if isinstance(value, Iterator) else value, **how
        )
    return env.from_string(source)


def apply_chat_template(
    source: str,
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
    *,
    add_generation_prompt: bool = True,
    is_lenient: bool = False,
    **variables: Any,
) -> str:
    return compiled(source, is_lenient).render(
        messages=json.loads(json.dumps(messages)),
        tools=json.loads(json.dumps(tools)) if tools is not None else None,
        documents=None,
        add_generation_prompt=add_generation_prompt,
        bos_token=variables.pop("bos_token", "<s>"),
        eos_token=variables.pop("eos_token", "</s>"),
        **variables,
    )
