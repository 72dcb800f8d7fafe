"""Every permission, scheme and operation, asked by every kind of client: ZooKeeper 3.8.0 and this server answer alike.

But for two points in which this server follows later releases: exists needs READ (3.8.4, 3.9.2), and ACLs of the scheme
ip may name IPv6 addresses (3.9.4).
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple, cast

import pytest
import trustme

from terzetto.client import (
    ACL,
    DigestMd5,
    Id,
    KazooException,
    Permissions,
    ZooKeeper,
    make_digest_acl_credential,
    open_zookeeper,
)
from terzetto.testcluster import start_ensemble
from terzetto.testcluster.reserved_port import ReservedPort

from .identities import server_identity
from .zookeeper import TICK_TIME, RealZooKeeper, ServerOptions

SUPER_DIGEST = make_digest_acl_credential("super", "test")
ANN = make_digest_acl_credential("ann", "secret")
CARL = "CN=carl,OU=Unit,O=Acme"
PERMISSIONS = {name: getattr(Permissions, name) for name in ("READ", "WRITE", "CREATE", "DELETE", "ADMIN", "ALL")} | {
    "none": 0,
    "READ+WRITE": Permissions.READ | Permissions.WRITE,
}
IDS = (
    Id("world", "anyone"),
    Id("digest", ANN),
    Id("ip", "127.0.0.1"),
    Id("ip", "127.0.0.0/8"),
    Id("ip", "10.0.0.1"),
    Id("sasl", "bob"),
    Id("x509", CARL),
)
REFUSED_IDS = (
    Id("world", "nobody"),
    Id("auth", ""),
    Id("digest", "ann"),
    Id("digest", "a:b:c"),
    Id("ip", "300.1.1.1"),
    Id("ip", "127.0.0.1/33"),
    Id("super", ""),
    Id("sasl", "a/b/c@d"),
    Id("x509", "no name"),
    Id("unknown", "x"),
)

Answer = Mapping[str, str]


class Place(NamedTuple):
    """A server's two ports."""

    hosts: str
    secure: str


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def configuration(folder: Path) -> dict[str, str]:
    login = folder / "jaas.conf"
    login.write_text(
        'Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_bob="bobsecret"; };\n',
        encoding="utf-8",
    )
    return {"java.security.auth.login.config": str(login)}


@pytest.fixture(scope="module")
def places(
    zookeeper_installed: None, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Place, Place]]:
    """The real server and this one, with every scheme that both know."""
    folder = tmp_path_factory.mktemp("acl")
    keys = {
        **server_identity(authority, folder),
        "ssl.clientAuth": "want",
        "authProvider.1": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
        "authProvider.x509": "org.apache.zookeeper.server.auth.X509AuthenticationProvider",
        "DigestAuthenticationProvider.superDigest": SUPER_DIGEST,
    }
    login = configuration(folder)
    with ExitStack() as stack:
        options = ServerOptions(secure=True, zoo_cfg=keys, jvm_properties=login)
        real = stack.enter_context(RealZooKeeper(options, directory=folder / "server"))
        port = stack.enter_context(closing(ReservedPort()))
        own = {"secureClientPort": port.number, "secureClientPortAddress": "127.0.0.1"}
        here = stack.enter_context(start_ensemble(tick_time=TICK_TIME, settings={**keys, **login, **own}))
        yield Place(real.hosts, real.secure_address), Place(here.hosts, f"127.0.0.1:{port.number}")


@asynccontextmanager
async def clients(place: Place, authority: trustme.CA, folder: Path) -> AsyncIterator[dict[str, ZooKeeper]]:
    """One of each kind."""
    tls = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    identity = authority.issue_cert(
        "carl@example.org", common_name="carl", organization_name="Acme", organization_unit_name="Unit"
    )
    with identity.private_key_and_cert_chain_pem.tempfile(dir=str(folder)) as both:
        tls.load_cert_chain(both)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        yield {
            "stranger": await enter(open_zookeeper(place.hosts)),
            "ann, by digest": await enter(open_zookeeper(place.hosts, auth=[("digest", "ann:secret")])),
            "bob, by SASL": await enter(open_zookeeper(place.hosts, sasl=DigestMd5("bob", "bobsecret"))),
            "carl, by certificate": await enter(open_zookeeper(place.secure, tls=tls, connect_timeout=60.0)),
            "super": await enter(open_zookeeper(place.hosts, auth=[("digest", "super:test")])),
        }


async def told(asked: Awaitable[object]) -> str:
    """What a client is told: nothing but its kind where it worked."""
    try:
        found = await asked
    except KazooException as error:
        return type(error).__name__
    return str(sorted(map(str, cast("list[ACL]", found)))) if isinstance(found, list) else "ok"


async def in_multi(zk: ZooKeeper, change: Callable[[object], object]) -> object:
    transaction = zk.transaction()
    change(transaction)
    (result,) = await transaction.commit()
    if isinstance(result, Exception):
        raise result
    return result


async def acls_of(zk: ZooKeeper, path: str) -> list[ACL]:
    return (await zk.get_acls(path))[0]


def operations(zk: ZooKeeper, path: str, acl: ACL) -> Iterator[tuple[str, Awaitable[object]]]:
    """Every operation that asks for a permission, and those that ask for none; what changes comes last."""
    yield "get", zk.get(path)
    yield "exists", zk.exists(path)
    yield "get_children", zk.get_children(path)
    yield "count_descendants", zk.count_descendants(path)
    yield "get_acls", acls_of(zk, path)
    yield "sync", zk.sync(path)
    yield "check", in_multi(zk, lambda multi: multi.check(path, -1))  # type: ignore[attr-defined]
    yield "set", zk.set(path, b"changed")
    yield "set in multi", in_multi(zk, lambda multi: multi.set_data(path, b"x"))  # type: ignore[attr-defined]
    yield "create", zk.create(f"{path}/new")
    yield "create sequential", zk.create(f"{path}/s-", sequence=True, ephemeral=True)
    yield "create container", zk.create(f"{path}/container", container=True)
    yield "create in multi", in_multi(zk, lambda multi: multi.create(f"{path}/m", b""))  # type: ignore[attr-defined]
    yield "delete child", zk.delete(f"{path}/child")
    yield "delete child in multi", in_multi(zk, lambda multi: multi.delete(f"{path}/other"))  # type: ignore[attr-defined]
    yield "set_acls", zk.set_acls(path, [acl])


async def matrix(place: Place, authority: trustme.CA, folder: Path) -> Answer:
    """What everybody is told about everything."""
    answers: dict[str, str] = {}
    async with clients(place, authority, folder) as asking:
        root = asking["super"]
        for number, id in enumerate(IDS):
            for permission, bits in PERMISSIONS.items():
                acl = ACL(bits, id)
                for who, zk in asking.items():
                    # Children of a protected znode are open: what they answer is not the question.
                    path = f"/{number}-{bits}-{who.split(',')[0]}"
                    made = root.transaction()
                    made.create(path, b"data", acl=[acl])
                    made.create(f"{path}/child", b"")
                    made.create(f"{path}/other", b"")
                    await made.commit()
                    for operation, asked in operations(zk, path, acl):
                        answers[f"{operation} by {who} of {permission} for {id.scheme}:{id.id}"] = await told(asked)
    return answers


async def test_every_permission_scheme_and_operation(
    places: tuple[Place, Place], authority: trustme.CA, tmp_path: Path
) -> None:
    there, here = [await matrix(place, authority, tmp_path) for place in places]
    different = {case: (there[case], here[case]) for case in there if there[case] != here[case]}
    later = {case for case in there if case.startswith("exists ") and there[case] != here[case]}
    assert {here[case] for case in later} == {"NoAuthError"}
    assert all(here[case] == here[case.replace("exists", "get", 1)] for case in here if case.startswith("exists "))
    assert not different.keys() - later
    assert len(there) == len(here) == len(IDS) * len(PERMISSIONS) * 5 * 16
    # Neither side says yes, or no, to everything.
    assert 0.2 < sum(answer == "NoAuthError" for answer in there.values()) / len(there) < 0.8


async def given(place: Place, authority: trustme.CA, folder: Path) -> Answer:
    """What becomes of an ACL that a client gives to a znode of its own, and of what it then does to it."""
    answers: dict[str, str] = {}
    async with clients(place, authority, folder) as asking:
        for who, zk in asking.items():
            for number, id in enumerate((*IDS, *REFUSED_IDS)):
                path = f"/own-{who.split(',')[0]}-{number}"
                acl = ACL(Permissions.ALL, id)
                case = f"{who} with {id.scheme}:{id.id}"
                answers[f"{case}: create"] = await told(zk.create(path, b"", acl=[acl]))
                answers[f"{case}: twice"] = await told(zk.create(f"{path}-twice", b"", acl=[acl, acl]))
                answers[f"{case}: shown"] = await told(acls_of(asking["super"], path))
                answers[f"{case}: to others"] = await told(acls_of(asking["stranger"], path))
                answers[f"{case}: set"] = await told(zk.set_acls(path, [ACL(Permissions.READ, id)]))
                answers[f"{case}: set again"] = await told(zk.set_acls(path, [acl]))
            infos = await zk.who_am_i()
            answers[f"{who} is"] = str(sorted((info.auth_scheme, info.user) for info in infos))
    return answers


async def test_what_becomes_of_an_acl(places: tuple[Place, Place], authority: trustme.CA, tmp_path: Path) -> None:
    there, here = [await given(place, authority, tmp_path) for place in places]
    different = {case: (there[case], here[case]) for case in there if there[case] != here[case]}
    assert not different
    assert len(there) > 500
    assert set(there.values()) > {"ok", "InvalidACLError", "NoNodeError", "NoAuthError"}


async def test_only_this_server_takes_ipv6_addresses(places: tuple[Place, Place]) -> None:
    acl = ACL(Permissions.ALL, Id("ip", "::1"))
    answers: list[str] = []
    for place in places:
        async with open_zookeeper(place.hosts) as zk:
            answers.append(await told(zk.create("/ipv6", acl=[acl])))
    assert answers == ["InvalidACLError", "ok"]
