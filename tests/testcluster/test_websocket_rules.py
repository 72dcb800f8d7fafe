"""Who comes in by a WebSocket door, and who a client is behind proxies."""

from __future__ import annotations

import ipaddress
from contextlib import suppress

import pytest
from hypothesis import given, strategies as st

from terzetto.testcluster.websocket_rules import DoorRules, Headers, Refusal, Tokens, parse_networks

TOKEN = "0123456789abcdef"


def refused(rules: DoorRules, target: str, headers: Headers = (), tokens: Tokens | None = None) -> Refusal | None:
    try:
        rules.check(target, headers, tokens)
    except Refusal as refusal:
        return refusal
    return None


@pytest.mark.parametrize(
    ("target", "status"), [("/zk", None), ("/zk?a=b", None), ("/", 404), ("/zk/", 404), ("/ZK", 404)]
)
def test_the_path_is_the_path(target: str, status: int | None) -> None:
    refusal = refused(DoorRules(path="/zk"), target)
    assert (None if refusal is None else refusal.status) == status


@pytest.mark.parametrize(
    ("allowed", "sent", "status"),
    [
        ([], [], None),
        ([], [b"https://evil.example"], 403),
        (["https://app.example"], [], None),
        (["https://app.example"], [b"https://app.example"], None),
        (["https://App.Example"], [b"https://app.example"], None),
        (["https://app.example"], [b"https://app.example.evil"], 403),
        (["https://app.example"], [b"http://app.example"], 403),
        (["https://app.example"], [b"https://app.example:444"], 403),
        (["https://app.example"], [b"null"], 403),
        (["https://app.example"], [b"https://app.example", b"https://evil.example"], 403),
        (["*"], [b"https://evil.example"], None),
    ],
)
def test_origins(allowed: list[str], sent: list[bytes], status: int | None) -> None:
    headers = [(b"origin", origin) for origin in sent]
    refusal = refused(DoorRules(origins=frozenset(allowed)), "/", headers)
    assert (None if refusal is None else refusal.status) == status


@pytest.mark.parametrize(
    ("sent", "comes_in"),
    [
        ([f"Bearer {TOKEN}"], True),
        ([f"bearer  {TOKEN} "], True),
        (["Bearer another-token-of-16"], True),
        ([], False),
        ([TOKEN], False),
        ([f"Basic {TOKEN}"], False),
        ([f"Bearer {TOKEN[:-1]}"], False),
        ([f"Bearer {TOKEN}x"], False),
        (["Bearer "], False),
        ([f"Bearer {TOKEN}", f"Bearer {TOKEN}"], False),
    ],
)
def test_tokens(sent: list[str], comes_in: bool) -> None:
    tokens = Tokens.read(f"# of team a\n{TOKEN}\n\n  another-token-of-16  \n")
    refusal = refused(DoorRules(), "/", [(b"authorization", value.encode()) for value in sent], tokens)
    assert (refusal is None) is comes_in
    if refusal is not None:
        assert refusal.status == 401
        assert dict(refusal.headers)["WWW-Authenticate"].startswith("Bearer")
        assert TOKEN[:-1] not in str(refusal)
    assert TOKEN not in repr(tokens)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "short\n", "with a blank inside it\n", "not-ascii-\xe4\xf6\xfc-at-all\n"]
)
def test_tokens_that_cannot_be_used_are_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match="token") as caught:
        Tokens.read(text)
    assert text.strip() == "" or text.strip() not in str(caught.value)


PROXIES = parse_networks(["10.0.0.0/8", "2001:db8::/32"])


@pytest.mark.parametrize(
    ("peer", "sent", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["10.0.0.1"], "192.0.2.1"),
        ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["192.0.2.7:4711"], "192.0.2.7"),
        ("10.0.0.1", ["203.0.113.9, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["203.0.113.9", "192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["203.0.113.9, 192.0.2.7, 10.1.1.1 , 10.2.2.2"], "192.0.2.7"),
        ("10.0.0.1", ["10.3.3.3, 10.1.1.1"], "10.3.3.3"),
        ("10.0.0.1", ["garbage, 192.0.2.7"], "192.0.2.7"),
        ("10.0.0.1", ["2001:db9::7"], "2001:db9::7"),
        ("10.0.0.1", ["[2001:db9::7]:443"], "2001:db9::7"),
        ("10.0.0.1", ["::ffff:192.0.2.7"], "192.0.2.7"),
        ("2001:db8::1", ["192.0.2.7"], "192.0.2.7"),
        ("a-name", ["192.0.2.7"], "a-name"),
    ],
)
def test_the_nearest_address_that_is_no_trusted_proxy_is_the_client(peer: str, sent: list[str], client: str) -> None:
    rules = DoorRules(proxies=PROXIES)
    assert rules.client_ip([(b"x-forwarded-for", value.encode()) for value in sent], peer) == client
    assert DoorRules().client_ip([(b"x-forwarded-for", value.encode()) for value in sent], peer) == peer


@pytest.mark.parametrize("sent", [None, "", "unknown", "192.0.2.7, ", "192.0.2.300", "10.1.1.1," * 40 + "10.1.1.1"])
def test_a_trusted_proxy_that_is_silent_or_talks_nonsense_lets_nobody_in(sent: str | None) -> None:
    """Its own address must not become the client's: that might be allowed more."""
    headers = [] if sent is None else [(b"x-forwarded-for", sent.encode())]
    with pytest.raises(Refusal) as caught:
        DoorRules(proxies=PROXIES).client_ip(headers, "10.0.0.1")
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("sent", "client"),
    [
        (["for=192.0.2.7"], "192.0.2.7"),
        (['For="192.0.2.7:4711"; proto=https;by=10.0.0.1'], "192.0.2.7"),
        (['for="[2001:db9::7]:80"'], "2001:db9::7"),
        (["for=203.0.113.9, for=192.0.2.7;proto=http, for=10.1.1.1"], "192.0.2.7"),
        (['for=192.0.2.7;host="a,b"'], "192.0.2.7"),
        (["for=203.0.113.9", "for=192.0.2.7"], "192.0.2.7"),
        (["for=_hidden"], None),
        (["for=unknown"], None),
        ([], None),
        (["proto=https"], None),
        (["for=192.0.2.7;for=192.0.2.8"], None),
        (["for=192.0.2.7;;proto=http;"], "192.0.2.7"),
        (['for=203.0.113.9;x="', 'for="[2001:db9::7]"'], None),
        (['for=203.0.113.9;x=", for="[2001:db9::7]"'], None),
        (['for=203.0.113.9;x="\\", for="[2001:db9::7]"'], None),
        (['for=", for=192.0.2.7, for=10.1.1.1;by="x"'], None),
        (["for=203.0.113.9 for=192.0.2.7"], None),
    ],
)
def test_the_header_of_rfc_7239_where_the_operator_says_so(sent: list[str], client: str | None) -> None:
    rules = DoorRules(proxies=PROXIES, forwarded_header="forwarded")
    # What a client may have sent itself counts for nothing.
    headers = [(b"x-forwarded-for", b"10.9.9.9"), *((b"forwarded", value.encode()) for value in sent)]
    if client is None:
        with pytest.raises(Refusal):
            rules.client_ip(headers, "10.0.0.1")
    else:
        assert rules.client_ip(headers, "10.0.0.1") == client


@given(st.lists(st.tuples(st.sampled_from([b"x-forwarded-for", b"forwarded"]), st.binary(max_size=80)), max_size=4))
def test_no_header_makes_more_than_an_address_or_a_refusal(headers: list[tuple[bytes, bytes]]) -> None:
    for name in ("x-forwarded-for", "forwarded"):
        with suppress(Refusal):
            ipaddress.ip_address(DoorRules(proxies=PROXIES, forwarded_header=name).client_ip(headers, "10.0.0.1"))


@pytest.mark.parametrize(
    "given_rules",
    [
        {"path": "zk"},
        {"path": "/a b"},
        {"path": "/a?b"},
        {"path": "/health"},
        {"health_path": "health"},
        {"origins": frozenset({"app.example"})},
        {"origins": frozenset({"https://app.example/path"})},
        {"forwarded_header": "x-real-ip"},
    ],
)
def test_rules_that_cannot_be_meant(given_rules: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must|cannot|no origin"):
        DoorRules(**given_rules)  # type: ignore[arg-type]
