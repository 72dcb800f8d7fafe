"""Connect strings, the order of servers, and the pauses between rounds."""

from __future__ import annotations

import random

import pytest

from terzetto.client import ConfigurationError, Endpoint
from terzetto.client._hosts import HostList, parse_hosts

SERVERS = [Endpoint("a", 1, "a"), Endpoint("b", 2, "b"), Endpoint("c", 3, "c")]


@pytest.mark.parametrize(
    ("hosts", "addresses", "chroot"),
    [
        ("localhost", ["localhost:2181"], None),
        ("h1:1,h2:2", ["h1:1", "h2:2"], None),
        (" h1:1 , h2 ", ["h1:1", "h2:2181"], None),
        ("h1:1,h2:2/app/x", ["h1:1", "h2:2"], "/app/x"),
        ("h1:1/", ["h1:1"], None),
        ("[::1]:2181", ["[::1]:2181"], None),
        ("[::1],[fe80::1]:5/a", ["[::1]:2181", "[fe80::1]:5"], "/a"),
        (["h1:1", "h2:2"], ["h1:1", "h2:2"], None),
        (("h1:1", "h2:2", "/app"), ["h1:1", "h2:2"], "/app"),
        (["[::1]:9"], ["[::1]:9"], None),
        ("ws://gw/zk", ["ws://gw:80/zk"], None),
        ("WSS://gw", ["wss://gw:443/"], None),
        ("h1:1,wss://[::1]:8/a/b?c=d,h2", ["h1:1", "wss://[::1]:8/a/b", "h2:2181"], None),
        (["ws://gw:1/a,b", "h1:1"], ["ws://gw:1/a,b", "h1:1"], None),
    ],
)
def test_connect_strings(hosts: str | list[str], addresses: list[str], chroot: str | None) -> None:
    endpoints, found = parse_hosts(hosts)
    assert [str(endpoint) for endpoint in endpoints] == addresses
    assert found == chroot
    assert all(endpoint.server_name == endpoint.host for endpoint in endpoints)


@pytest.mark.parametrize(
    ("hosts", "rule"),
    [
        ("", "empty entry"),
        ("h1:1,,h2:2", "empty entry"),
        ("/app", "empty entry"),
        ([], "name no server"),
        ("h:0", "'0' is not a number from 1 to 65535"),
        ("h:65536", "'65536' is not a number"),
        ("h:x", "'x' is not a number"),
        ("h:", "'' is not a number"),
        ("h:\N{SUPERSCRIPT TWO}", "is not a number"),
        ("::1", "an IPv6 address stands in brackets"),
        ("[::1", "expected '[address]:port'"),
        ("[::1]x", "expected '[address]:port'"),
        (":2181", "expected a host name"),
        ("a b:1", "expected a host name"),
        ("a\0b", "expected a host name"),
        ("x" * 64, "is no host name"),
        ("http://gateway/zk", "did you mean ws://"),
        ("https://gateway/zk", "did you mean wss://"),
        ("ftp://gateway/zk", "only ws:// and wss:// are known"),
        ("ws:///zk", "expected 'ws://host:port/path'"),
        ("ws://gateway:0/", "expected 'ws://host:port/path'"),
        ("ws://gateway:65536/", "expected 'ws://host:port/path'"),
        ("ws://gateway:x/", "expected 'ws://host:port/path'"),
        ("ws://[::1/", "expected 'ws://host:port/path'"),
        ("ws://gateway/a b", "printable ASCII"),
        ("ws://gateway/#f", "without a fragment"),
        ("ws://gate\nway/", "no line ends"),
        ("ws://gateway/,h1:1/app", "the chroot is given by chroot="),
        (["ws://gateway/", "/app"], "the chroot is given by chroot="),
        ("h:1/a//b", "empty element"),
        ([1], "must be a str"),
    ],
)
def test_what_is_no_connect_string_is_refused_by_name_and_rule(hosts: str | list[str], rule: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_hosts(hosts)
    assert rule in str(caught.value)


def test_a_round_has_every_server_once_in_the_order_given_or_any() -> None:
    plain = HostList(SERVERS, random.Random(1), shuffle=False)
    assert plain.next_round() == SERVERS
    shuffled = HostList(SERVERS, random.Random(1))
    rounds = [shuffled.next_round() for _ in range(50)]
    assert all(sorted(order, key=str) == SERVERS for order in rounds)
    assert {order[0] for order in rounds} == set(SERVERS)
    assert shuffled.endpoints == SERVERS
    assert len(shuffled) == 3


@pytest.mark.parametrize(
    "hosts",
    [
        "ws://user:s3cr3t@gateway/",
        "ws://s3cr3t@gateway/",
        "ws://gateway:x/?token=s3cr3t",
        "h:x,ws://gateway/?token=s3cr3t",
        ["h:x", "wss://user:s3cr3t@gateway/"],
        "ws://gateway/a b?token=s3cr3t",
        "ws://gateway/?token=s3cr3t#fragment",
        "ws://user:s3cr3t/more@gateway/",
        "user:s3cr3t@zk:2181",
        "user:s3cr3t@zk/app/",
        ["user:s3cr3t@zk:x"],
        "ws://user:s3cr3t?more@gateway/",
        "ws://user:s3cr3t#more@gateway/",
        "ws://user:s3cr3t,more@gateway/",
        "ws://user:1,s3cr3t@gateway/",
        "http://user:s3cr3t@gateway/?more",
        "ws://gateway/?more=s3cr3t@x y",
    ],
)
def test_a_mistake_is_told_without_the_secrets_beside_it(hosts: str | list[str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_hosts(hosts)
    assert "s3cr3t" not in str(caught.value)
