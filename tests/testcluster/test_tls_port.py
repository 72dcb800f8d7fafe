"""The TLS port: real handshakes, who is let in, and whose name the server takes from a certificate."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from terzetto.client.errors import ConfigurationError
from terzetto.client.wire import codec, operations as o, records as r
from terzetto.testcluster import start_ensemble
from terzetto.testcluster.config_tls import TlsSettings
from terzetto.testcluster.reserved_port import ReservedPort
from terzetto.testcluster.tls_port import Certificates, TlsListener, server_context, subject_of

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


def unreadable_certificate(authority: trustme.CA, folder: Path) -> Path:
    """Certificate and key, signed by the authority, for a DNS name that is no text."""
    key = ec.generate_private_key(ec.SECP256R1())
    signer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    signing = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(signing, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "odd")])
    names = x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.17"), b"\x30\x04\x82\x02\xff\xfe")
    builder = x509.CertificateBuilder(signer.subject, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(signer.not_valid_before_utc).not_valid_after(signer.not_valid_after_utc)
    certificate = builder.add_extension(names, critical=False).sign(signing, hashes.SHA256())
    path = folder / "odd.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path


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


def test_a_certificate_whose_names_are_no_text_harms_nobody(
    servers: Servers, authority: trustme.CA, tmp_path: Path
) -> None:
    port = servers.start("want")
    context = client_context(authority)
    context.load_cert_chain(unreadable_certificate(authority, tmp_path))
    with pytest.raises((ssl.SSLError, ConnectionResetError, EOFError)):
        with Tls(port, context) as client:
            client.identities()
    with Tls(port, client_context(authority)) as client:
        assert client.identities() == [("ip", "127.0.0.1")]


async def test_a_handshake_under_way_ends_with_its_listener(stores: TlsSettings) -> None:
    listener = await TlsListener.open("127.0.0.1", 0, Certificates(stores, server_context).context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        silent = await trio.open_tcp_stream("127.0.0.1", listener.endpoint.port)
        with trio.fail_after(10):
            while not listener.handshakes:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    with trio.fail_after(10):
        # Without a reset or an end it would be open still.
        try:
            assert await silent.receive_some() == b""
        except trio.BrokenResourceError:
            pass
    await silent.aclose()
    listener.close()


async def test_a_few_that_say_nothing_do_not_close_the_port(
    stores: TlsSettings, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("terzetto.testcluster.tls_port.HANDSHAKES_MAX", 2)
    monkeypatch.setattr("terzetto.testcluster.tls_port.HANDSHAKE_GRACE", 60.0)
    settings = replace(stores, client_auth="none")
    listener = await TlsListener.open("127.0.0.1", 0, Certificates(settings, server_context).context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        streams = [await trio.open_tcp_stream("127.0.0.1", listener.endpoint.port) for _ in range(2)]
        with trio.fail_after(10):
            while listener.handshakes < 2:
                await trio.lowlevel.checkpoint()
            streams.append(await trio.open_tcp_stream("127.0.0.1", listener.endpoint.port))
            assert await streams[2].receive_some() == b"", "the two have a moment left"
            monkeypatch.setattr("terzetto.testcluster.tls_port.HANDSHAKE_GRACE", 0.0)
            comes = await trio.open_ssl_over_tcp_stream(
                "127.0.0.1", listener.endpoint.port, https_compatible=True, ssl_context=client_context(authority)
            )
            await comes.do_handshake()
            assert await streams[0].receive_some() == b"", "the first one has made room"
            # TLS 1.3's client is through before the server is.
            while listener.handshakes != 1:
                await trio.lowlevel.checkpoint()
        for stream in (*streams, comes):
            await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()
    listener.close()


async def test_whoever_arrived_too_late_is_closed_with_the_listener(stores: TlsSettings, authority: trustme.CA) -> None:
    settings = replace(stores, client_auth="none")
    listener = await TlsListener.open("127.0.0.1", 0, Certificates(settings, server_context).context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve)
        stream = await trio.open_ssl_over_tcp_stream(
            "127.0.0.1", listener.endpoint.port, https_compatible=True, ssl_context=client_context(authority)
        )
        await stream.do_handshake()
        with trio.fail_after(10):
            while listener.handshakes:
                await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    with trio.fail_after(10):
        try:
            assert await stream.transport_stream.receive_some() is not None
            assert await stream.transport_stream.receive_some() == b""
        except trio.BrokenResourceError:
            pass
    await trio.aclose_forcefully(stream)
    listener.close()


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
        ([[("commonName", ' #a"+<>;\\ ')]], 'CN=\\ \\#a\\"\\+\\<\\>\\;\\\\\\ '),
        ([[("commonName", "a=b  #c")]], "CN=a\\=b  \\#c"),
        ([[("commonName", "  ")]], "CN=\\ \\ "),
        ([[("commonName", "#a")]], "CN=\\#a"),
        ([[("emailAddress", "a@b")]], "1.2.840.113549.1.9.1=#1603614062"),
        ([[("1.2.3.4", "a" * 200)]], "1.2.3.4=#0c81c8" + "61" * 200),
        ([[("1.2.3.4", "a" * 300)]], "1.2.3.4=#0c82012c" + "61" * 300),
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
        server_context(TlsSettings(**fields))


def test_a_key_that_cannot_be_used_says_why(authority: trustme.CA, tmp_path: Path) -> None:
    """OpenSSL's words for all of these are "PEM lib"."""
    issued, other = authority.issue_cert("127.0.0.1"), authority.issue_cert("127.0.0.1")
    chain, plain = issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()
    secret = serialization.load_pem_private_key(plain, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"s3cr3t"),
    )
    store = tmp_path / "server.pem"

    def told(content: bytes, password: str | None = None) -> str:
        store.write_bytes(content)
        with pytest.raises(ConfigurationError) as caught:
            server_context(TlsSettings(store, password, client_auth="none"))
        assert "s3cr3t" not in str(caught.value)
        return str(caught.value).partition(" cannot be used: ")[2]

    assert told(chain + secret) == "its private key is encrypted, and there is no password"
    assert told(chain + secret, "s3cr3t-not") == "its private key is encrypted, and the password is wrong"
    assert told(chain + secret, "x" * 2000) == "its private key is encrypted, and the password is wrong"
    assert told(chain) == "there is no private key in it"
    assert told(plain) == "there is no certificate in it"
    assert "mismatch" in told(chain + other.private_key_pem.bytes())
    store.write_bytes(chain + secret)
    server_context(TlsSettings(store, "s3cr3t", client_auth="none"))


def test_the_password_of_a_key_may_stand_in_a_file(authority: trustme.CA, tmp_path: Path) -> None:
    issued = authority.issue_cert("127.0.0.1")
    secret = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"s3cr3t"),
    )
    store, words = tmp_path / "server.pem", tmp_path / "password"
    store.write_bytes(issued.cert_chain_pems[0].bytes() + secret)
    words.write_text("s3cr3t\n")
    settings = TlsSettings(store, "another", client_auth="none", key_store_password_path=words)
    certificates = Certificates(settings, server_context)
    before = certificates.context()
    words.write_bytes(b"s3cr3t\xff")
    assert certificates.context() is before
    with pytest.raises(ConfigurationError, match=r"passwordPath .* cannot be used: it is no UTF-8"):
        server_context(settings)
    words.unlink()
    with pytest.raises(ConfigurationError, match=r"passwordPath .* cannot be used: No such file"):
        server_context(settings)
    words.write_text("s3cr3t")
    assert certificates.context() is not before


def test_protocols_bound_the_context(stores: TlsSettings) -> None:
    context = server_context(TlsSettings(stores.key_store, None, stores.trust_store, protocols=("TLSv1.2",)))
    assert context.maximum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
