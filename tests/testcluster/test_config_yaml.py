"""The same settings in YAML, and each mistake with its line."""

from __future__ import annotations

import pytest

from terzetto.client.errors import ConfigurationError
from terzetto.testcluster.config_syntax import Setting
from terzetto.testcluster.config_yaml import parse_yaml


def pairs(settings: list[Setting]) -> list[tuple[str, str]]:
    return [(setting.key, setting.value) for setting in settings]


def test_yaml_flat_and_nested() -> None:
    text = "tickTime: 2000\nautopurge:\n  snapRetainCount: 4\n4lw.commands.whitelist: [srvr, mntr]\nforceSync: no\n"
    settings = parse_yaml(text, "zoo.yaml")
    assert pairs(settings) == [
        ("tickTime", "2000"),
        ("autopurge.snapRetainCount", "4"),
        ("4lw.commands.whitelist", "srvr,mntr"),
        ("forceSync", "no"),
    ]
    assert [setting.line for setting in settings] == [1, 3, 4, 5]


def test_yaml_servers() -> None:
    text = """
server:
  - {id: 1, host: a.example, ports: [2888, 3888], clientPort: 2181}
  - {id: 2, host: "::1", ports: [2888, 3888], role: observer, clientPort: 2181, clientHost: 127.0.0.1}
  - id: 3
    host: c.example
    ports: [2888, 3888]
"""
    settings = parse_yaml(text, "zoo.yaml")
    assert pairs(settings) == [
        ("server.1", "a.example:2888:3888:participant;2181"),
        ("server.2", "[::1]:2888:3888:observer;127.0.0.1:2181"),
        ("server.3", "c.example:2888:3888:participant"),
    ]
    assert [setting.line for setting in settings] == [3, 4, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "f.yaml:1: the file must be a mapping"),
        ("a: b\n[1, 2]: c", "f.yaml:2: a key must be a plain word"),
        ("a: 'b", "f.yaml:1: no YAML"),
        ("a: b\nserver: [{id: 1, host: h}]", "f.yaml:2: a server without ports"),
        ("server: [{id: 1, host: h, ports: [1, 2], portz: 3}]", "unknown key 'portz' of a server"),
        ("server: [1]", "f.yaml:1: a server is a mapping"),
        ("server: [{id: 1, host: h, ports: [1, 2], clientHost: x}]", "needs clientPort"),
        ("a: [[1]]", "f.yaml:1: a plain value is expected"),
        ("a: \x00", "f.yaml: no YAML"),
    ],
)
def test_yaml_mistakes_have_their_line(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_yaml(text, "f.yaml")
    assert message in str(caught.value)


def test_empty_yaml() -> None:
    assert parse_yaml("# nothing\n", "f.yaml") == []
