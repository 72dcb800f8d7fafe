"""`terzetto gateway` as a process: what it says, what signals do, which options cannot be meant."""

from __future__ import annotations

import argparse
import http.client
import resource
import signal
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import trio
import trustme

from terzetto.client import ConnectionLoss, Endpoint, TcpTransport, WebSocketOptions, open_zookeeper
from terzetto.testcluster import start_ensemble
from terzetto.testcluster.cli import main
from terzetto.testcluster.cli.gateway import Contexts, make_room
from terzetto.testcluster.reserved_port import ReservedPort

from .test_running import DEADLINE, failing, running

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def hosts() -> Iterator[str]:
    with start_ensemble() as ensemble:
        yield ensemble.hosts


def health(url: str) -> tuple[int, bytes]:
    address = url.partition("://")[2].partition("/")[0]
    connection = http.client.HTTPConnection(address, timeout=DEADLINE)
    connection.request("GET", "/health")
    answer = connection.getresponse()
    return answer.status, answer.read()


def said(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=DEADLINE)
    return err


@pytest.mark.slow
def test_a_gateway_runs_until_a_signal_and_tells_its_clients(hosts: str) -> None:
    async def leave(url: str, process: subprocess.Popen[str]) -> str:
        async with open_zookeeper(url, close_timeout=0.2) as zk:
            suspended = trio.Event()
            reasons: list[str] = []

            def tell(_: str) -> None:
                # A moment later the next gateway has failed, too.
                reasons.append(str(zk.last_error))
                suspended.set()

            zk.add_listener(tell)
            process.send_signal(signal.SIGTERM)
            with trio.fail_after(DEADLINE):
                await suspended.wait()
            return reasons[0]

    with running(["gateway", "--listen", "127.0.0.1:0", "--ensemble", hosts, "--path", "/zk"]) as (process, url):
        assert url.startswith("ws://127.0.0.1:")
        assert url.endswith("/zk")
        assert health(url) == (200, b"serving\n")
        assert "1001 GOING_AWAY (the gateway is leaving)" in trio.run(leave, url, process)
        text = said(process)
        assert process.returncode == 0
    for word in ("ACLs of the scheme ip", "maxClientCnxns", "TLS certificates end"):
        assert word in text
    assert "Traceback" not in text


@pytest.mark.slow
def test_tokens_and_tls_and_a_new_certificate_without_a_restart(hosts: str, tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    certificate, tokens = tmp_path / "gateway.pem", tmp_path / "tokens"
    old.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    tokens.write_text(f"{TOKEN}\n")

    async def reach(url: str, authority: trustme.CA) -> str:
        context = ssl.create_default_context()
        authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
        options = WebSocketOptions(token=TOKEN)
        async with open_zookeeper(url, tls=context, websocket=options, connect_timeout=None, close_timeout=1) as zk:
            with trio.fail_after(DEADLINE):
                while zk.last_error is None and not zk.connected:
                    await trio.lowlevel.checkpoint()
            return "connected" if zk.connected else str(zk.last_error)

    options = ["--listen", "127.0.0.1:0", "--ensemble", hosts, "--tls-cert", str(certificate)]
    with running(["gateway", *options, "--token-file", str(tokens)]) as (process, url):
        assert url.startswith("wss://")
        assert trio.run(reach, url, old) == "connected"
        assert "certificate verify failed" in trio.run(reach, url, new)
        new.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        while "were read again" not in (line := process.stderr.readline()):
            assert line, "the gateway has ended"
        assert trio.run(reach, url, new) == "connected"
        tokens.write_text("another-token-of-16\n")
        assert "HTTP 401 Unauthorized" in trio.run(reach, url, new)
        certificate.write_text("nonsense")
        process.send_signal(signal.SIGHUP)
        while "the old certificates stay" not in (line := process.stderr.readline()):
            assert line, "the gateway has ended"
        halves = new.issue_cert("127.0.0.1"), new.issue_cert("127.0.0.1")
        halves[0].private_key_pem.write_to_path(certificate)
        halves[1].cert_chain_pems[0].write_to_path(certificate, append=True)
        process.send_signal(signal.SIGHUP)
        while "the old certificates stay" not in (line := process.stderr.readline()):
            assert line, "the gateway has ended"
        assert "HTTP 401 Unauthorized" in trio.run(reach, url, new)
        process.terminate()
        text = said(process)
        assert process.returncode == 0
    assert TOKEN not in text


async def who(url: str, tls: ssl.SSLContext | None = None, headers: dict[str, str] | None = None) -> str:
    """Which certificate the servers know a client by, or why it does not come in."""
    options = WebSocketOptions(headers=headers or {})
    async with open_zookeeper(url, tls=tls, websocket=options, connect_timeout=None, close_timeout=1) as zk:
        with trio.fail_after(DEADLINE):
            while zk.last_error is None and not zk.connected:
                await trio.lowlevel.checkpoint()
        if not zk.connected:
            return str(zk.last_error)
        return "".join(info.user for info in await zk.who_am_i() if info.auth_scheme == "x509") or "anyone"


@pytest.mark.slow
def test_certificates_are_asked_for_at_the_door_and_shown_to_the_servers(tmp_path: Path) -> None:
    authority, onward = trustme.CA(), trustme.CA()
    for name, issuer in (("door", authority), ("gateway", onward), ("server", onward)):
        issued = issuer.issue_cert("127.0.0.1", common_name=name)
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / f"{name}.pem")
    authority.cert_pem.write_to_path(tmp_path / "clients.pem")
    onward.cert_pem.write_to_path(tmp_path / "servers.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)  # pyright: ignore[reportUnknownMemberType]
    with closing(ReservedPort()) as port:
        settings = {
            "secureClientPort": port.number,
            "secureClientPortAddress": "127.0.0.1",
            "ssl.keyStore.location": tmp_path / "server.pem",
            "ssl.trustStore.location": tmp_path / "servers.pem",
        }
        options = {"tls-cert": "door", "tls-client-ca": "clients", "ensemble-ca": "servers", "ensemble-cert": "gateway"}
        files = [f"--{option}={tmp_path}/{name}.pem" for option, name in options.items()]
        listen = ["gateway", "--listen", "127.0.0.1:0", "--ensemble", f"127.0.0.1:{port.number}"]
        with start_ensemble(settings=settings), running([*listen, *files]) as (_, url):
            assert "certificate required" in trio.run(who, url, context)
            authority.issue_cert("client", common_name="app").configure_cert(context)  # pyright: ignore[reportUnknownMemberType]
            assert trio.run(who, url, context).startswith("CN=gateway,")


@pytest.mark.slow
def test_what_the_options_say_is_what_the_door_asks(hosts: str) -> None:
    options = [
        "--path=/zk",
        "--health-path=/ready",
        "--origin=https://app.example",
        "--trusted-proxy=127.0.0.0/8",
        "--forwarded-header=forwarded",
        "--max-connections=3",
        "--max-connections-per-address=2",
        "--max-frame=5000",
        "--words=ruok",
    ]

    async def ask(url: str) -> None:
        assert "HTTP 404" in await who(url.replace("/zk", "/"))
        assert "HTTP 400" in await who(url, headers={"X-Forwarded-For": "10.0.0.1"})
        assert "HTTP 403" in await who(url, headers={"Forwarded": "for=10.0.0.1", "Origin": "https://evil.example"})
        here = WebSocketOptions(headers={"Forwarded": "for=10.0.0.1", "Origin": "https://app.example"})
        async with open_zookeeper(url, websocket=here) as zk:
            assert await zk.command(b"ruok") == "imok"
            with pytest.raises(ConnectionLoss, match="the command srvr is not passed on"):
                await zk.command(b"srvr")
            async with open_zookeeper(url, websocket=here):
                assert "HTTP 503" in await who(url, headers={"Forwarded": "for=10.0.0.1"}), "two of each address"
                assert await who(url, headers={"Forwarded": "for=10.0.0.2"}) == "anyone"
                there = WebSocketOptions(headers={"Forwarded": "for=10.0.0.2"})
                async with open_zookeeper(url, websocket=there):
                    assert "HTTP 503" in await who(url, headers={"Forwarded": "for=10.0.0.3"}), "three in all"
            with pytest.raises(ConnectionLoss, match="1009"):
                await zk.create("/long", bytes(6000))

    listen = ["gateway", "--listen", "127.0.0.1:0", "--ensemble", hosts]
    with running([*listen, *options]) as (_, url):
        address = url.partition("://")[2].partition("/")[0]
        connection = http.client.HTTPConnection(address, timeout=DEADLINE)
        connection.request("GET", "/ready")
        assert connection.getresponse().status == 200
        connection.close()
        trio.run(ask, url)


async def test_what_the_servers_are_asked_for_is_read_again_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = trustme.CA(), trustme.CA()
    authority = tmp_path / "authority.pem"
    old.cert_pem.write_to_path(authority)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    new.issue_cert("127.0.0.1").configure_cert(server)  # pyright: ignore[reportUnknownMemberType]
    chosen = ("tls_cert", "tls_key", "tls_client_ca", "ensemble_cert")
    contexts = Contexts(argparse.Namespace(**dict.fromkeys(chosen), ensemble_ca=str(authority)))
    listener = await TcpTransport(server_tls=server).listen(Endpoint("127.0.0.1", 0, "127.0.0.1"))
    async with trio.open_nursery() as nursery:

        async def answer() -> None:
            while True:
                connection = await listener.accept()
                try:
                    with suppress(trio.BrokenResourceError):
                        await connection.receive()
                finally:
                    with trio.CancelScope(shield=True):
                        await connection.aclose()

        nursery.start_soon(answer)
        with pytest.raises(trio.BrokenResourceError):
            await contexts.onward.dial(listener.endpoint)
        new.cert_pem.write_to_path(authority)
        contexts.read_again()
        await (await contexts.onward.dial(listener.endpoint)).aclose()
        authority.write_text("nonsense")
        contexts.read_again()
        assert "the old certificates stay" in caplog.text
        await (await contexts.onward.dial(listener.endpoint)).aclose()
        nursery.cancel_scope.cancel()
    listener.close()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--listen", "nowhere"], "must be HOST:PORT"),
        (["--listen", "127.0.0.1:70000"], "must be HOST:PORT"),
        (["--ensemble", "a:1/app"], "without a chroot"),
        (["--ensemble", "ws://a/"], "plain servers"),
        (["--path", "zk"], "must begin with a slash"),
        (["--origin", "example.com"], "no origin"),
        (["--trusted-proxy", "10.0.0.300"], "10.0.0.300"),
        (["--words", "stats"], "no four letter word"),
        (["--max-connections", "-1"], "must not be negative"),
        (["--drain-timeout", "0"], "seconds above 0"),
        (["--handshake-timeout", "nan"], "seconds above 0"),
        (["--tls-key", "key.pem"], "need --tls-cert"),
        (["--tls-cert", "/no/such/file"], "cannot be used"),
        (["--ensemble-cert", "/no/such/file"], "needs --ensemble-ca"),
        (["--ensemble-ca", "/no/such/file"], "cannot be used"),
        (["--token-file", "/no/such/file"], "--token-file /no/such/file cannot be used"),
    ],
)
def test_options_that_cannot_be_meant(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_silent(verbose: bool) -> None:
        """Nothing of this process's own logging is changed."""

    monkeypatch.setattr("terzetto.testcluster.cli.gateway.start_logging", be_silent)
    assert main(["gateway", "--listen", "127.0.0.1:0", "--ensemble", "127.0.0.1:1", *options]) == 2
    assert told in capsys.readouterr().err


@pytest.fixture
def few_open_files() -> Iterator[int]:
    """This process may have few files open, but more if it asks; gives how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 600), hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("connections", [10, 100, 10**9, 0])
def test_there_is_room_for_all_connections(
    connections: int, few_open_files: int, caplog: pytest.LogCaptureFixture
) -> None:
    make_room(connections)
    most = 1 << 40 if few_open_files == resource.RLIM_INFINITY else few_open_files
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if connections == 0:
        assert soft == few_open_files
    else:
        assert soft > min(2 * connections, most - 1)
    assert ("need" in caplog.text) is (2 * connections > most)


@pytest.mark.slow
def test_a_port_that_is_taken_is_a_clear_error(hosts: str) -> None:
    status, line = failing("gateway", "--listen", hosts, "--ensemble", hosts)
    assert status == 1
    assert f"cannot listen at {hosts}: Address already in use" in line
