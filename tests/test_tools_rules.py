"""Which calls run, ask or don't: rules, tools' own policies, rules as text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from approving import OBJECT, erase, read, remote, send, verdict

from engine.errors import ToolDefinitionError, UsageError
from engine.tools import Tool, as_tool, tool
from engine.tools.approval import (
    Approvals,
    Rule,
    Rules,
    read_rules,
    rules_of,
)
from engine.tools.consents import Consents
from engine.tools.mcp.definitions import tool_name

# --- policies without a person


@pytest.mark.parametrize(
    "item, rules, allowed",
    [
        (read, [], True),
        (send, [], False),
        (erase, [], False),
        (remote(), [], False),
        (send, [Rule("allow", "send")], True),
        (send, [Rule("allow", "s*")], True),
        (read, [Rule("deny", "r*")], False),
        (read, [Rule("ask")], False),
        (remote(), [Rule("allow", server="files")], True),
        (remote(), [Rule("allow", server="f*")], True),
        (remote(), [Rule("allow", server="other")], False),
        (read, [Rule("allow", server="*"), Rule("ask", "read")], False),
        (remote(), [Rule("allow", server="files"), Rule("ask", "files__read")], False),
        (remote(), [Rule("ask", server="files"), Rule("allow", "files__read")], True),
        (remote(), [Rule("deny", server="files"), Rule("allow", "files__read")], False),
        (read, [Rule("ask", "read"), Rule("allow", "re*")], False),
        (read, [Rule("allow", "re*"), Rule("ask", "read")], False),
    ],
)
def test_the_most_specific_rule_decides_and_deny_beats_all(item, rules, allowed):
    approvals = Approvals(Rules(rules))
    approvals.meet([as_tool(item)])
    assert (verdict(approvals, item, path="a") is None) is allowed


@pytest.mark.parametrize(
    "pattern, path, allowed",
    [
        ("src/*", "src/a.py", True),
        ("src/*", "docs/a.md", False),
        ("src/*", "src/../../etc/passwd", False),
        ("src/*", "src\\..\\..\\etc", False),
        ("*.md", "a..b.md", True),
        ("*", "..", False),
        ("src/*", "x\nsrc/a", False),
        ("src/*", "src/deep/a.py", True),
        ("src/**", "src\\..\\x", False),
        ("src/**", "src/a b;c", True),
        ("src/**", "src/a\nb", True),
        ("src/?", "src/;", False),
        ("src/[!a]", "src/b", True),
        ("src/[!a]", "src/a", False),
        ("src/[!a]", "src/ ", False),
        ("cat src/*", "cat src/x", True),
        ("cat src/*", "cat src/x /etc/passwd", False),
        ("cat src/*", "cat src/x; rm -rf ~", False),
        ("cat src/*", "cat src/x;rm", False),
        ("cat src/*", "cat src/$(rm)", False),
        ("cat src/*", "cat src/`rm`", False),
        ("cat src/*", "cat src/x|sh", False),
        ("cat src/*", "cat src/x\nrm", False),
        ("cat src/*", "cat src/x\u2028rm", False),
        ("cat src/**", "cat src/x --file=../../etc", False),
        ("cat src/**", "cat src/x a:.. b", False),
        ("cat src/**", 'cat src/x ".."', False),
        ("git diff *", "git diff a..b", True),
        ("a.b(c)", "a.b(c)", True),
        ("a.b", "axb", False),
    ],
)
def test_a_rule_about_arguments_allows_what_it_names_and_no_way_out_of_it(pattern, path, allowed):
    rules = Rules([Rule("ask", "read"), Rule("allow", "read", when={"path": pattern})])
    assert (verdict(Approvals(rules), as_tool(read), path=path) is None) is allowed


@pytest.mark.parametrize(
    "rule, arguments, policy",
    [
        (Rule("allow", when={"paths": '[[]"src/*"]'}), {"paths": ["src/a"]}, "allow"),
        (Rule("allow", when={"paths": '[[]"src/*"]'}), {"paths": ["src/a", "b"]}, "ask"),
        (Rule("allow", when={"paths": "**src/**"}), {"paths": ["src/a", "b"]}, "allow"),
        (Rule("allow", when={"paths": "**src/**"}), {"paths": ["src/a", ".."]}, "ask"),
        (Rule("allow", when={"paths": "**src/**"}), {"paths": {"src/": "..\\x"}}, "ask"),
        (Rule("allow", when={"paths": '[[]"src/*"]'}), {"paths": ["src/a\nb"]}, "ask"),
        (Rule("allow", when={"a.b": "x"}), {"a.b": "x"}, "allow"),
        (Rule("allow", when={"a.b": "x"}), {"a": {"b": "x"}}, "allow"),
        (Rule("allow", when={"a.b": "x"}), {"a": {"b": "x"}, "a.b": "x"}, "ask"),
        (Rule("deny", when={"a.b": "/etc/*"}), {"a": {"b": "/etc/x"}, "a.b": "x"}, "deny"),
        (Rule("deny", when={"a.b.c": "x"}), {"a.b": {"c": "x"}}, "deny"),
        (Rule("deny", when={"path": "*.pem"}), {"path": ["a.pem", "b"]}, "deny"),
        (Rule("deny", when={"path": "*secret*"}), {"path": "a; cat secret"}, "deny"),
    ],
)
def test_what_allows_reads_narrowly_and_what_denies_widely(rule, arguments, policy):
    item = Tool.from_schema("f", "", OBJECT, lambda **_: 1)
    assert Rules([rule], default="ask").policy(item, arguments)[0] == policy


@pytest.mark.parametrize(
    "arguments, policy",
    [
        ({"force": True}, "deny"),
        ({"force": "yes"}, "deny"),
        ({"force": 1}, "deny"),
        ({}, "deny"),
        ({"force": "false"}, "allow"),
        ({"force": "neither"}, "allow"),  # and fails, for it is no argument of this tool
    ],
)
def test_what_denies_looks_at_arguments_as_the_tool_gets_them(arguments, policy):
    @tool
    def push(force: bool = True) -> None:
        """Push."""

    assert (
        Rules([Rule("deny", "push", when={"force": "true"})]).policy(push, arguments)[0] == policy
    )
    allow = Rules([Rule("allow", "push", when={"force": "true"})], default="ask")
    assert allow.policy(push, {"force": "yes"})[0] == "ask", "what allows is what was written"


@pytest.mark.parametrize(
    "pattern, server, remote_name, matches",
    [
        ("files:delete file", "files", "delete file", True),
        ("files:파일삭제", "files", "파일삭제", True),
        ("files:delete_" + "x" * 80, "files", "delete_" + "x" * 80, True),
        ("files:a[1]", "files", "a[1]", True),
        ("files:files__read", "files", "read", True),
        ("my[1]:*", "my[1]", "read", True),
        ("files:read_*", "files", "x__read_a", False),
        ("files:read", "other", "read", False),
        ("read", "files", "read", False),
    ],
)
def test_rules_know_a_server_s_tool_by_both_of_its_names(pattern, server, remote_name, matches):
    name = tool_name(server, remote_name)
    item = Tool.from_schema(name, "", OBJECT, lambda: 1, server=server, remote=remote_name)
    assert (Rules(rules_of("deny", [pattern])).policy(item, {})[0] == "deny") is matches


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Rule("denny", "x"),
        lambda: Rule("deny", "send", {"to": "x"}),
        lambda: Rule("deny", 1),
        lambda: Rule("deny", when={"a": 1}),
        lambda: Rule("deny", when="a"),
        lambda: Rules(default="nope"),
        lambda: Rules(server_default="nope"),
        lambda: Rules([("deny", "x")]),
    ],
)
def test_what_can_t_be_a_rule_is_refused_when_it_is_made(wrong):
    with pytest.raises(UsageError):
        wrong()


def test_a_tool_s_own_deny_beats_rules_that_allow():
    item = Tool.from_schema("f", "", OBJECT, lambda **_: 1, approve="deny")
    for rule in (Rule("allow", "f"), Rule("allow", when={"a": "b"}), Rule("ask", "f")):
        assert Rules([rule]).policy(item, {"a": "b"})[0] == "deny"


def test_a_rule_about_arguments_reaches_inside_objects_and_compares_other_values_as_json():
    rule = Rule("deny", when={"where.port": "22", "where.hosts": '*"prod"*'})
    rules = Approvals(Rules([rule]))
    assert verdict(rules, read, where={"port": 22, "hosts": ["prod"]})
    assert verdict(rules, read, where={"port": 80, "hosts": ["prod"]}) is None
    assert verdict(rules, read, where="22") is None


def test_a_denial_names_the_rule_and_what_would_ask_says_that_nobody_is_there():
    rules = Rules([Rule("deny", "read", when={"path": "*.key"})])
    assert "deny: tool read, path = '*.key'" in str(verdict(Approvals(rules), read, path="a.key"))
    assert "nobody can be asked" in str(verdict(Approvals(), erase))


def test_an_approve_that_is_no_policy_is_refused_with_the_tool():
    with pytest.raises(ToolDefinitionError, match="'f'.*approve is one of allow, ask, deny"):
        tool(name="f", approve="maybe")(lambda: 1)  # type: ignore[arg-type]


# --- rules as text


def test_rules_are_read_from_toml(tmp_path):
    path = tmp_path / "rules.toml"
    path.write_text(
        """
        default = "ask"
        server_default = "deny"
        [tools]
        "read_*" = "allow"
        [servers]
        files = "ask"
        [[rules]]
        tool = "run_command"
        when = { command = "git status*" }
        policy = "allow"
        """
    )
    assert read_rules(path) == Rules(
        (
            Rule("allow", "read_*"),
            Rule("ask", server="files"),
            Rule("allow", "run_command", when={"command": "git status*"}),
        ),
        "ask",
        "deny",
    )


@pytest.mark.parametrize(
    "text, where",
    [
        ("x = ", "rules.toml: "),
        ("tool = {}", "unknown key 'tool'; did you mean 'tools'"),
        ("default = 'yes'", "default: expected allow, ask, deny, found 'yes'"),
        ("tools = 1", "tools: expected a table"),
        ("tools = { a = 1 }", "tools.a: expected allow, ask, deny, found 1"),
        ("[[rules]]\ntool = 'a'", r"rules\[0\].policy: expected"),
        ("rules = [1]", r"rules\[0\]: expected a table"),
        ("[[rules]]\npolicy = 'ask'\nwhen = { a = 1 }", "when.a: expected a pattern"),
        ("[[rules]]\npolicy = 'ask'\nserver = 1", "server: expected a name"),
        ("[[rules]]\npolicy = 'ask'\nargs = {}", "unknown key 'args'"),
    ],
)
def test_a_mistake_in_a_rules_file_names_file_and_key(tmp_path, text, where):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=where) as caught:
        read_rules(path)
    assert str(path) in caught.value.message


def test_rules_of_a_command_line():
    assert rules_of("allow", ["read_*", "files:*", "files:read"]) == [
        Rule("allow", "read_*"),
        Rule("allow", "*", "files"),
        Rule("allow", "read", "files"),
    ]
    assert rules_of("deny", [" read ", "files : read"]) == [
        Rule("deny", "read"),
        Rule("deny", "read", "files"),
    ]
    for wrong in ("", " ", ":read", " : read"):
        with pytest.raises(UsageError, match="expected TOOL or SERVER:TOOL"):
            rules_of("allow", [wrong])


def test_consents_say_what_they_are_about(tmp_path: Path):
    path = tmp_path / "consents.json"
    Consents(path).add("key", send)
    assert json.loads(path.read_text())["always"]["key"]["tool"] == "send"
