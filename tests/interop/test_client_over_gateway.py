"""The native client's tests for real servers, by WebSocket: through the gateway in front of terzetto's server, through
it with TLS in front of the real ZooKeeper, and with nginx before it as the ingress; by the server's own door, too.

Every test of those modules runs here too, but for those that a table names with their reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from terzetto.client import ZooKeeper

from . import test_client_failures, test_client_operations, test_client_watches
from .doors import INGRESS, Breakable, Door, EmbeddedZooKeeper, GatewayProcess, Nginx, nginx_missing
from .zookeeper import SUPER_DIGEST, SUPER_DIGEST_PROPERTY, RealZooKeeper, ServerOptions

NOT_HERE = {
    "test_a_chroot_in_the_connect_string": "beside a gateway the chroot is given by chroot=",
    "test_the_servers_of_an_ensemble_die_one_by_one": "asks which server a client is on; see test_gateway",
    "test_a_server_that_stops": "asks which server a client is on; see test_gateway",
    "test_read_only_servers": "names the servers of an ensemble one by one",
    "test_reconfig_and_tracking": "the ensemble's configuration names no gateways",
    "test_a_bad_server_alone_ends_in_a_clear_error": "the bad server speaks no HTTP; see test_websocket",
    "test_a_server_that_turns_bad_fails_its_requests_in_bounded_time": "the bad server speaks no HTTP",
    "test_an_unknown_error_code_is_an_error_and_no_crash": "the bad server speaks no HTTP",
    "test_frames_may_come_byte_by_byte": "the bad server speaks no HTTP",
}
"""Tests that cannot run by WebSocket, and why."""

NOT_FOR_TERZETTO = {
    "test_commands": "asks for the release; see test_four_letter_words",
    "test_transaction": "asks for what 3.8.0 leaves out of an answer",
    "test_a_session_outlives_a_total_outage": "takes seconds, and does in front of the real server (make soak)",
}
"""Tests that are left out in front of terzetto's server, mostly because it does better, and why."""

OF_TERZETTO = ("terzetto", "own door")

# Fixtures of those modules.
zk = test_client_operations.zk
clients = test_client_watches.clients

for _module in (test_client_operations, test_client_watches, test_client_failures):
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and _name not in NOT_HERE:
            globals()[_name] = _test


@pytest.fixture(
    scope="module",
    params=[
        "terzetto",
        pytest.param("own door", marks=pytest.mark.soak),
        pytest.param("wss", marks=pytest.mark.soak),
        pytest.param("nginx", marks=pytest.mark.soak),
    ],
)
def way(request: pytest.FixtureRequest) -> str:
    """How the server is reached, and which it is."""
    chosen: str = request.param
    return chosen


@pytest.fixture(autouse=True)
def leave_out(way: str, request: pytest.FixtureRequest) -> None:
    """Skips what the table names."""
    name: str = request.node.originalname
    if way in OF_TERZETTO and name in NOT_FOR_TERZETTO:
        pytest.skip(NOT_FOR_TERZETTO[name])


async def test_four_letter_words(zk: ZooKeeper) -> None:
    assert await zk.command(b"ruok") == "imok"
    assert len(await zk.command("mntr")) > 500
    assert (await zk.server_version()).major == 3


def test_the_tables_name_tests_that_there_are() -> None:
    modules = (test_client_failures, test_client_operations, test_client_watches)
    assert {*NOT_HERE, *NOT_FOR_TERZETTO} <= {name for module in modules for name in vars(module)}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[trustme.CA]:
    """Certificates that the client trusts as it trusts the system's own."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(path)
    yield authority
    if before is None:
        del os.environ["SSL_CERT_FILE"]
    else:
        os.environ["SSL_CERT_FILE"] = before


def _open_door(way: str, cleanup: ExitStack, authority: trustme.CA, directory: Path, options: ServerOptions) -> Door:
    server: Breakable
    if way in OF_TERZETTO:
        settings = {key.removeprefix("zookeeper."): value for key, value in options.jvm_properties.items()}
        own = EmbeddedZooKeeper(cleanup, **{"extendedTypesEnabled": "false", **options.zoo_cfg, **settings})
        if way == "own door":
            return Door(own, own.ensemble.websocket_hosts)
        server = own
        return Door(server, GatewayProcess(cleanup, server.address, directory, ["--words", "*"]).url)
    server = cleanup.enter_context(RealZooKeeper(options, directory=directory / "zookeeper"))
    if way == "wss":
        certificate = directory / "gateway.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
        tls = ["--words", "*", "--tls-cert", str(certificate)]
        return Door(server, GatewayProcess(cleanup, server.address, directory, tls).url)
    trusting = ["--words", "*", "--trusted-proxy", "127.0.0.1"]
    gateway = GatewayProcess(cleanup, server.address, directory, trusting)
    locations = INGRESS.replace("GATEWAY", gateway.url.removeprefix("ws://").rstrip("/"))
    return Door(server, f"wss://127.0.0.1:{Nginx(cleanup, authority, directory / 'nginx', locations).port}/zk")


@pytest.fixture(scope="module")
def zookeeper(
    way: str, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Door]:
    """Instead of the real server itself: the same, by WebSocket."""
    _require(way, request)
    options = ServerOptions(
        zoo_cfg={"extendedTypesEnabled": "true", "reconfigEnabled": "false"},
        jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST},
    )
    with ExitStack() as cleanup:
        yield _open_door(way, cleanup, authority, tmp_path_factory.mktemp("door"), options)


@pytest.fixture
def own_zookeeper(
    way: str, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Door]]:
    """Instead of a real server of the test's own: the same, by WebSocket."""
    _require(way, request)
    with ExitStack() as cleanup:

        def start(**options: Any) -> Door:
            return _open_door(way, cleanup, authority, tmp_path_factory.mktemp("own-door"), ServerOptions(**options))

        yield start


def _require(way: str, request: pytest.FixtureRequest) -> None:
    if way in OF_TERZETTO:
        return
    request.getfixturevalue("zookeeper_installed")
    missing = nginx_missing() if way == "nginx" else None
    if missing is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
