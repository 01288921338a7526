"""Compile a chat template and run it where it can do no harm and content keeps its marks.

Knows Jinja (the only module that does). Does not know messages, tools or tokens.

A template may do what Hugging Face's `apply_chat_template` lets it do, and append to its own lists.
Operators, calls, filters, joins and printing all go through `Budget` and `Marked`; what can't
(a filter that rebuilds its text) makes the whole result content.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn, cast

from jinja2 import TemplateError as JinjaError
from jinja2 import TemplateSyntaxError, Undefined, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, LoopControlExtension
from jinja2.meta import find_undeclared_variables
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment
from jinja2.visitor import NodeTransformer

from engine.template import filters
from engine.template.limits import CURRENT, Budget, Limits, Refused
from engine.template.marked import call_method, join, tainted
from engine.template.writing import format_text, text_of

__all__ = ["Program", "RaisedByTemplate", "SecurityError", "raise_exception", "syntax_line"]

FILE_NAME: Final = "<chat template>"
_OWN_LISTS: Final = frozenset({"append", "extend", "insert", "pop", "remove", "reverse", "clear"})


class RaisedByTemplate(JinjaError):
    """The template itself called `raise_exception`."""


def raise_exception(message: object) -> NoReturn:
    raise RaisedByTemplate(text_of(CURRENT.get(), message))


class _Generation(Extension):
    """`{% generation %}` marks what a model says, for training. Here its body is just rendered."""

    tags = {"generation"}  # noqa: RUF012 (Jinja declares it as an instance attribute)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body).set_lineno(line)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja with every operation announced to the running `Budget`."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Jinja joins everything that it prints with this: blocks, macros, the whole."""
        return join(CURRENT.get(), pieces)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, list) and attr in _OWN_LISTS:
            return True  # the lists are the template's own or private copies
        return super().is_safe_attribute(obj, attr, value)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"it reaches for {attribute!r} of a {type(obj).__name__}")

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        return None  # `call` below formats

    def getattr(self, obj: Any, attribute: str) -> Any:
        if attribute.startswith("__"):  # also where there is none: no template means well by it
            return self.unsafe_undefined(obj, attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, tuple | list | dict):
            CURRENT.get().weigh(argument)
        return super().getitem(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        return filters.binary(CURRENT.get(), operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        budget = CURRENT.get()
        budget.step()
        budget.hold(len(args) + len(kwargs))
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str) and not isinstance(__obj, type):
            for injected in ("_loop_vars", "_block_vars"):
                kwargs.pop(injected, None)
            return __self._call_text(budget, owner, __obj.__name__, args, kwargs)
        if isinstance(owner, list):
            return filters.call_on_list(budget, owner, __obj, args)
        if not isinstance(__obj, Macro):
            budget.weigh(args, kwargs, owner if isinstance(owner, tuple) else None)
            return filters.held(budget, super().call(__context, __obj, *args, **kwargs))
        budget.depth += 1
        if budget.depth > budget.limits.depth:
            raise Refused(f"its macros call each other over {budget.limits.depth} deep")
        try:
            return super().call(__context, __obj, *args, **kwargs)
        finally:
            budget.depth -= 1

    def _call_text(
        self, budget: Budget, text: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if name == "format_map":
            (kwargs,), args, name = args, (), "format"
        if name == "format":
            return format_text(budget, text, args, kwargs, self.getattr, self.getitem)
        return call_method(budget, text, name, args, kwargs)


@pass_context
def _finalize(context: Context, value: Any) -> str:
    budget = CURRENT.get()
    budget.step()
    return text_of(budget, value)


def _own_filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of ours. It takes the context so that Jinja doesn't run it while compiling."""

    @pass_context
    def run(context: Context, *args: Any, **kwargs: Any) -> Any:
        budget = CURRENT.get()
        budget.step()
        return filters.held(budget, function(budget, *args, **kwargs))

    return run


def _jinja_filter(name: str, plain: SandboxedEnvironment) -> Callable[..., Any]:
    """A filter of Jinja's, its arguments bounded, its text taken for content if any went in."""

    @pass_context
    def run(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        budget = CURRENT.get()
        budget.step()
        value = filters.checked(budget, name, value, args, kwargs)
        out = plain.call_filter(
            name, value, args, kwargs, context=context, eval_ctx=context.eval_ctx
        )
        if isinstance(out, str):
            if any(out is given for given in (value, *args, *kwargs.values())):
                return out
            budget.grow(len(out))
            return tainted(str.__str__(out), value, args, kwargs)
        return filters.held(budget, out)

    return run


def _join_filter(plain: SandboxedEnvironment) -> Callable[..., str]:
    @pass_context
    def run(context: Context, value: Any, d: Any = "", attribute: Any = None) -> str:
        if attribute is not None:
            value = plain.call_filter(
                "map", value, kwargs={"attribute": attribute}, context=context
            )
        return filters.join_filter(CURRENT.get(), value, d)

    return run


class _Instrument(NodeTransformer):
    """Make the template count its loops and compare, join and slice through our functions."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = _filter("·iterate", cast(nodes.Expr, node.iter), node)
        node.body.insert(0, _tick(node))
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, _tick(node))
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filter("·concat", nodes.Tuple(node.nodes, "load"), node)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        part = node.arg
        bounds: list[nodes.Expr] = [
            bound or nodes.Const(None) for bound in (part.start, part.stop, part.step)
        ]
        return _filter("·slice", node.node, node, *bounds)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        if all(_is_constant(operand.expr) for operand in node.ops):
            return node
        compared: nodes.Expr | None = None
        left = node.expr
        for operand in node.ops:
            right = operand.expr
            pair = _filter("·compare", left, node, nodes.Const(operand.op), right)
            compared = pair if compared is None else nodes.And(compared, pair)
            left = right
        assert compared is not None
        compared.set_lineno(node.lineno)
        return compared

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        for pair in node.items:
            if not isinstance(pair.key, nodes.Const):
                pair.key = _filter("·key", pair.key, node)
        return _measured(node, len(node.items))

    def visit_List(self, node: nodes.List) -> nodes.Node:
        self.generic_visit(node)
        return _measured(node, len(node.items))

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return node if node.ctx == "store" else _measured(node, len(node.items))

    def _refuse(self, node: nodes.Node) -> nodes.Node:
        what = re.sub(r"(?<!^)(?=[A-Z])", " ", type(node).__name__).lower()
        raise TemplateSyntaxError(f"a chat template may not use {what!r}", node.lineno)

    visit_Include = visit_Import = visit_FromImport = visit_Extends = _refuse
    visit_EvalContextModifier = visit_ScopedEvalContextModifier = _refuse


def _is_constant(node: nodes.Expr) -> bool:
    if isinstance(node, nodes.List | nodes.Tuple):
        return all(map(_is_constant, node.items))
    return isinstance(node, nodes.Const) and not isinstance(node.value, tuple | list | dict)


def _filter(name: str, node: nodes.Expr, at: nodes.Node, *args: nodes.Expr) -> nodes.Expr:
    made = nodes.Filter(node, name, list(args), [], None, None)
    made.set_lineno(at.lineno)
    return made


def _tick(at: nodes.Node) -> nodes.Node:
    return nodes.ExprStmt(_filter("·tick", nodes.Const(None), at)).set_lineno(at.lineno)


def _measured(node: nodes.Expr, items: int) -> nodes.Expr:
    return _filter("·hold", node, node) if items > 16 else node


def _environment(now: Callable[[], datetime.datetime]) -> _Sandbox:
    extensions = [_Generation, LoopControlExtension]
    plain = _Sandbox()
    env = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=extensions,
        finalize=_finalize,
        optimized=False,  # nothing may run before there is a budget
        cache_size=0,
    )
    env.filters = {name: _jinja_filter(name, plain) for name in env.filters}
    env.filters |= {name: _own_filter(function) for name, function in filters.FILTERS.items()}
    env.filters["join"] = _join_filter(plain)
    env.tests |= filters.bounded_tests(env.tests, env.filters, CURRENT.get)
    env.globals = {
        "range": lambda *args: filters.bounded_range(CURRENT.get(), *args),
        "dict": filters.new_dict,
        "namespace": env.globals["namespace"],
        "cycler": env.globals["cycler"],
        "joiner": env.globals["joiner"],
        "raise_exception": raise_exception,
        "strftime_now": lambda pattern: filters.strftime(CURRENT.get(), now(), pattern),
    }
    return env


def syntax_line(error: BaseException) -> int | None:
    """The line of an error that Jinja found while reading the template."""
    return error.lineno if isinstance(error, TemplateSyntaxError) else None


class Program:
    """A compiled template. Safe to run from several threads at once."""

    def __init__(self, source: str, limits: Limits, now: Callable[[], datetime.datetime]) -> None:
        if len(source) > limits.source:
            raise Refused(f"it has {len(source):,} characters; the limit is {limits.source:,}")
        self._limits = limits
        env = _environment(now)
        # A tree of its own: looking for names folds the constants of the tree it looks at.
        self.reads = frozenset(find_undeclared_variables(env.parse(source)))
        tree = env.parse(source, filename=FILE_NAME)
        code = env.compile(_Instrument().visit(tree), filename=FILE_NAME)
        self._template = env.template_class.from_code(env, code, env.globals)

    def run(self, variables: Mapping[str, Any]) -> tuple[str, Budget]:
        """Render. Raises whatever the template runs into; `line_of` tells where."""
        budget = Budget(self._limits)
        token = CURRENT.set(budget)
        try:
            template = self._template
            context = template.new_context(dict(variables))
            return _Sandbox.concat(template.root_render_func(context)), budget
        finally:
            CURRENT.reset(token)

    def line_of(self, error: BaseException) -> int | None:
        """The template's line where `error` came from, if it came from there."""
        line = syntax_line(error)
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == FILE_NAME:
                line = self._template.get_corresponding_lineno(trace.tb_lineno)
            trace = trace.tb_next
        return line
