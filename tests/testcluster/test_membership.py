"""The value of a `server.N` line, read and written."""

from __future__ import annotations

import re

import pytest

from terzetto.testcluster.membership import Member, parse_member


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("h:2888:3888", "server.7=h:2888:3888:participant"),
        ("h:2888:3888:observer", "server.7=h:2888:3888:observer"),
        ("h:2888:3888:PARTICIPANT;2181", "server.7=h:2888:3888:participant;0.0.0.0:2181"),
        ("h:2888:3888;10.0.0.1:2181", "server.7=h:2888:3888:participant;10.0.0.1:2181"),
        ("[::1]:2888:3888;[fe80::1]:2181", "server.7=[::1]:2888:3888:participant;[fe80::1]:2181"),
        ("a:1:2|b:3:4:observer", "server.7=a:1:2|b:3:4:observer"),
    ],
)
def test_printed_as_zookeeper_does(text: str, printed: str) -> None:
    member = parse_member(7, text)
    assert str(member) == printed
    assert parse_member(7, printed.removeprefix("server.7=")) == member


def test_parts() -> None:
    assert parse_member(3, "h:2888:3888:observer;2181") == Member(3, (("h", 2888, 3888),), True, "0.0.0.0", 2181)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("h", "must be host:quorumPort:electionPort"),
        ("h:2888", "must be host:quorumPort:electionPort"),
        (":1:2", "has no host"),
        ("h:x:3888", "has the port 'x'"),
        ("h:0:3888", "has the port '0'"),
        ("h:2888:70000", "has the port '70000'"),
        ("h:2888:2888", "one port, 2888"),
        ("h:1:2:boss", "has the role boss"),
        ("h:1:2;a:b:c", "must be [host:]port"),
        ("[::1:1:2", "unclosed bracket"),
        ("[h]:1:2", "no IPv6 address"),
    ],
)
def test_mistakes(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_member(1, text)
