"""The TLS port: real handshakes, who is let in, and whose name the server takes from a certificate."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme

from terzetto.client.errors import ConfigurationError
from terzetto.client.wire import codec, operations as o, records as r
from terzetto.testcluster import start_ensemble
from terzetto.testcluster.config import TlsSettings
from terzetto.testcluster.reserved_port import ReservedPort
from terzetto.testcluster.tls_port import subject_of, tls_context

from .port import connect_frame


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def stores(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    folder = tmp_path_factory.mktemp("tls")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    return TlsSettings(folder / "server.pem", None, folder / "authority.pem")


class Servers:
    """TLS servers of one test, by what they want of a client's certificate."""

    def __init__(self, stack: ExitStack, stores: TlsSettings) -> None:
        self._stack = stack
        self._stores = stores

    def start(self, client_auth: str) -> int:
        port = ReservedPort()
        self._stack.callback(port.close)
        settings = {
            "secureClientPort": port.number,
            "secureClientPortAddress": "127.0.0.1",
            "ssl.keyStore.location": self._stores.key_store,
            "ssl.trustStore.location": self._stores.trust_store,
            "ssl.clientAuth": client_auth,
        }
        self._stack.enter_context(start_ensemble(settings=settings))
        return port.number


@pytest.fixture
def servers(stores: TlsSettings) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(stack, stores)


def client_context(authority: trustme.CA, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=authority.cert_pem.bytes().decode())
    if certificate is not None:
        with certificate.private_key_and_cert_chain_pem.tempfile() as path:
            context.load_cert_chain(path)
    return context


class Tls:
    """A blocking client over TLS."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        plain = socket.create_connection(("127.0.0.1", port), 10)
        try:
            self.socket = context.wrap_socket(plain, server_hostname="127.0.0.1")
        except BaseException:
            plain.close()
            raise

    def __enter__(self) -> Tls:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def frame(self) -> bytes:
        return self.read(struct.unpack(">i", self.read(4))[0])

    def identities(self) -> list[tuple[str, str]]:
        """What whoAmI says behind a handshake."""
        self.socket.sendall(connect_frame())
        self.frame()
        self.socket.sendall(o.WHO_AM_I.frame(1))
        frame = self.frame()
        record, _ = codec(r.WhoAmIResponse).decode(frame, 16, len(frame))
        return sorted((info.auth_scheme, info.user) for info in record.client_info)


def test_a_certificate_is_an_identity(servers: Servers, authority: trustme.CA) -> None:
    certificate = authority.issue_cert(
        "client@example.org", common_name="client one", organization_name="Acme, Inc", organization_unit_name="Dev"
    )
    with Tls(servers.start("need"), client_context(authority, certificate)) as client:
        assert client.identities() == [("ip", "127.0.0.1"), ("x509", "CN=client one,OU=Dev,O=Acme\\, Inc")]


def test_no_certificate_is_no_way_in_where_one_is_needed(servers: Servers, authority: trustme.CA) -> None:
    port = servers.start("need")
    # With TLS 1.3 the client learns of the refusal when it reads.
    with pytest.raises((ssl.SSLError, ConnectionResetError, EOFError)):
        with Tls(port, client_context(authority)) as client:
            client.identities()


def test_no_certificate_is_fine_where_one_is_wanted(servers: Servers, authority: trustme.CA) -> None:
    with Tls(servers.start("want"), client_context(authority)) as client:
        assert client.identities() == [("ip", "127.0.0.1")]


def test_words_and_pipelines_inside_tls(servers: Servers, authority: trustme.CA) -> None:
    port = servers.start("none")
    with Tls(port, client_context(authority)) as asking:
        asking.socket.sendall(b"ruok")
        assert asking.socket.recv(100) == b"imok"
    with Tls(port, client_context(authority)) as client:
        client.socket.sendall(connect_frame() + b"".join(o.EXISTS.frame(xid, "/", False) for xid in range(500)))
        assert len(client.frame()) == 37
        assert [struct.unpack_from(">i", client.frame())[0] for _ in range(500)] == list(range(500))


def test_plain_text_on_the_tls_port_is_refused(servers: Servers) -> None:
    with socket.create_connection(("127.0.0.1", servers.start("none")), 10) as plain:
        plain.sendall(connect_frame())
        answer = b""
        try:
            while piece := plain.recv(4096):
                answer += piece
        except ConnectionResetError:
            pass
    # An alert of TLS at most, never a frame.
    assert answer[:1] in (b"", b"\x15")


@pytest.mark.parametrize(
    ("subject", "spelled"),
    [
        ([[("commonName", "a")]], "CN=a"),
        ([[("countryName", "US")], [("organizationName", "A, B")], [("commonName", "x")]], "CN=x,O=A\\, B,C=US"),
        ([[("commonName", "a"), ("userId", "u")]], "CN=a+UID=u"),
        ([[("commonName", ' #a"+<>;\\ ')]], 'CN=\\ #a\\"\\+\\<\\>\\;\\\\\\ '),
        ([[("commonName", "#a")]], "CN=\\#a"),
        ([[("emailAddress", "a@b")]], "1.2.840.113549.1.9.1=#1603614062"),
    ],
)  # fmt: skip
def test_subjects_are_spelled_as_java_does(subject: list[list[tuple[str, str]]], spelled: str) -> None:
    assert subject_of({"subject": subject}) == spelled


def test_no_certificate_has_no_subject() -> None:
    assert subject_of(None) is None
    assert subject_of({}) is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"key_store": None}, "needs ssl.keyStore.location"),
        ({"key_store": Path("/nowhere.pem")}, "ssl.keyStore.location /nowhere.pem cannot be used"),
        ({"trust_store": Path("/nowhere.pem")}, "ssl.trustStore.location /nowhere.pem cannot be used"),
        ({"protocols": ("TLSv1.3", "SSLv3")}, "ssl.enabledProtocols: SSLv3 is not offered"),
        ({"ciphers": ("NOSUCH",)}, "ssl.ciphersuites"),
    ],
)
def test_what_cannot_be_used_is_named(stores: TlsSettings, changed: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {name: getattr(stores, name) for name in TlsSettings.__slots__} | changed
    with pytest.raises(ConfigurationError, match=message):
        tls_context(TlsSettings(**fields))


def test_protocols_bound_the_context(stores: TlsSettings) -> None:
    context = tls_context(TlsSettings(stores.key_store, None, stores.trust_store, protocols=("TLSv1.2",)))
    assert context.maximum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
