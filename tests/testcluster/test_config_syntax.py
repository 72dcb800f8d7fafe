"""Java properties, by java.util.Properties' own rules; and which file is read as what."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from terzetto.client.errors import ConfigurationError
from terzetto.testcluster.config_syntax import Setting, parse_properties, read_settings


def pairs(settings: list[Setting]) -> list[tuple[str, str]]:
    return [(setting.key, setting.value) for setting in settings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", [("a", "b")]),
        ("a = b", [("a", "b")]),
        ("a:b", [("a", "b")]),
        ("a b", [("a", "b")]),
        ("a\tb c", [("a", "b c")]),
        ("a : = b", [("a", "= b")]),
        ("a", [("a", "")]),
        ("a=", [("a", "")]),
        ("  a=b  ", [("a", "b")]),
        ("# a=b\n! c=d\n  # e=f\n\na=b", [("a", "b")]),
        ("a=b\\\n   c", [("a", "bc")]),
        ("a=b\\\\\nc=d", [("a", "b\\"), ("c", "d")]),
        ("a=b\\\n# no comment", [("a", "b# no comment")]),
        ("a\\ b=c", [("a b", "c")]),
        ("a\\=b=c", [("a=b", "c")]),
        ("a=\\u0041\\n\\t\\q", [("a", "A\n\tq")]),
        ("a=b\r\nc=d\re=f", [("a", "b"), ("c", "d"), ("e", "f")]),
        ("a=1\na=2", [("a", "1"), ("a", "2")]),
        ("server.1=h:1:2;3", [("server.1", "h:1:2;3")]),
        ("a=b\\", [("a", "b")]),
    ],
)
def test_properties(text: str, expected: list[tuple[str, str]]) -> None:
    assert pairs(parse_properties(text, "f")) == expected


def test_properties_know_their_lines() -> None:
    settings = parse_properties("# one\n\na=b\\\n  c\nd=e\n", "zoo.cfg")
    assert [setting.place for setting in settings] == ["zoo.cfg:3", "zoo.cfg:5"]


def test_properties_refuse_half_an_escape() -> None:
    with pytest.raises(ConfigurationError, match=r"zoo\.cfg:2: \\u needs four"):
        parse_properties("a=b\nc=\\u12", "zoo.cfg")


@given(st.text())
def test_properties_never_crash(text: str) -> None:
    with suppress(ConfigurationError):
        settings = parse_properties(text, "f")
        assert all(1 <= setting.line <= 1 + text.count("\n") + text.count("\r") for setting in settings)


def test_files_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "zoo.cfg").write_bytes(b"dataDir=/tmp/d\xe9\n")
    (tmp_path / "zoo.yml").write_bytes("dataDir: /tmp/dé\n".encode())
    assert pairs(read_settings(tmp_path / "zoo.cfg")) == pairs(read_settings(tmp_path / "zoo.yml"))
    with pytest.raises(ConfigurationError, match=r"none\.cfg: cannot be read: No such file"):
        read_settings(tmp_path / "none.cfg")
