"""The keys of a server's WebSocket doors, as they stand in zoo.cfg."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from terzetto.client.errors import ConfigurationError
from terzetto.testcluster.config import load_config
from terzetto.testcluster.config_websocket import WebSocketSettings
from terzetto.testcluster.websocket_rules import DoorRules


def load(tmp_path: Path, *lines: str) -> WebSocketSettings:
    path = tmp_path / "zoo.cfg"
    path.write_text("\n".join([f"dataDir={tmp_path}", "clientPort=2181", *lines]) + "\n")
    return load_config(path).websocket


def test_there_is_no_door_unless_asked_for(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings == WebSocketSettings()
    assert not settings.is_open


def test_every_key(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        "webSocketPort=8080",
        "webSocketAddress=127.0.0.1",
        "secureWebSocketPort=8443",
        "secureWebSocketAddress=[::1]",
        "webSocketPath=/zk",
        "webSocketOrigins=https://a.example, https://b.example:444",
        "webSocketTokenFile=/etc/tokens",
        "webSocketTrustedProxies=10.0.0.0/8,192.0.2.1",
        "webSocketForwardedHeader=forwarded",
        "ssl.keyStore.location=/etc/server.pem",
        "ssl.clientAuth=none",
    )
    assert settings.is_open
    assert settings == WebSocketSettings(
        port=8080,
        address="127.0.0.1",
        secure_port=8443,
        secure_address="::1",
        path="/zk",
        origins=("https://a.example", "https://b.example:444"),
        token_file=Path("/etc/tokens"),
        proxies=(ipaddress.IPv4Network("10.0.0.0/8"), ipaddress.IPv4Network("192.0.2.1/32")),
        forwarded_header="forwarded",
    )
    assert settings.rules() == DoorRules(
        path="/zk",
        origins=frozenset({"https://a.example", "https://b.example:444"}),
        proxies=settings.proxies,
        forwarded_header="forwarded",
    )


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("webSocketPort=0", "webSocketPort must be between 1 and 65535"),
        ("webSocketPath=zk", "must begin with a slash"),
        ("webSocketOrigins=a.example", "no origin"),
        ("webSocketTrustedProxies=10.0.0.1/8", "has host bits set"),
        ("webSocketForwardedHeader=x-real-ip", "must be x-forwarded-for or forwarded"),
        ("secureWebSocketPort=8443", "secureWebSocketPort needs ssl.keyStore.location"),
        ("webSocketport=8080", "did you mean webSocketPort"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=r"zoo\.cfg") as caught:
        load(tmp_path, line)
    assert told in str(caught.value)
