"""What the raw client says to one standalone server, so that every record and every error is on the wire once.

Decides the conversations on a server with TTL nodes and a superuser; `raw_special` holds those on other servers.
"""

from __future__ import annotations

from typing import Any

from tests.interop.zookeeper import SUPER_AUTH

from .raw_client import TERMINATOR, Capture, RawClient, operation

Fields = dict[str, Any]

OPEN = [[31, "world", "anyone"]]
READ_ONLY = [[1, "world", "anyone"]]
# user:secret, hashed as the server hashes what an auth packet brings.
USER_AUTH = b"user:secret"
USER_DIGEST = "user:5w9W4eL3797Y4Wq8AcKUPPk8ha4="
UNICODE_PATH = "/nodes/übergrößenträger-日本"


async def sessions(capture: Capture) -> None:
    """The handshake in all its forms, ping, and the end of a session."""
    async with capture.session("a session from handshake to close") as client:
        await client.request("ping", "xid -2, both ways")
        await client.request("ping", "whatever xid a ping bears, its reply has -2", xid=77)
    async with capture.session("without the readOnly byte, as clients up to 3.3 send it", read_only=None) as client:
        await client.request("exists", "an ordinary read", path="/", watch=False)
    async with capture.session("asking for read-only, of a server that is not", read_only=True):
        pass
    async with capture.session("protocolVersion 7 and a null password", protocol_version=7, passwd=None):
        pass
    async with capture.session("a timeout below the least", "asks for 1 ms and gets two ticks", time_out=1):
        pass
    async with capture.connect("attached again, later, with another timeout") as first:
        session = await first.handshake("a new session, given up without closeSession")
        await first.request("create", "for lastZxidSeen", path="/session", data=b"", acl=OPEN, flags=1)
    known = {"session_id": session["session_id"], "passwd": session["passwd"]}
    async with capture.connect("the same session attached again") as second:
        again = await second.handshake(
            "session id and password of before", **known, time_out=20_000, last_zxid_seen=first.zxid
        )
        assert again["session_id"] == session["session_id"]
        await second.request("getEphemerals", "the ephemeral is still there", prefix_path="/session")
    async with capture.connect("a wrong password") as stranger:
        wrong = await stranger.handshake("the id, with a password of ones", **{**known, "passwd": b"\x01" * 16})
        assert wrong["time_out"] == 0
        await stranger.await_close()
    async with capture.connect("the session's last connection") as last:
        await last.handshake("id and password", **known)
        await last.close_session()
    async with capture.connect("a session that is no more") as ghost:
        await ghost.handshake("its id and password: the answer has zeros, then the server closes", **known)
        await ghost.await_close()


async def nodes(capture: Capture) -> None:
    """Create in every mode, every read, every write, and the errors of each."""
    async with capture.session("create in every mode") as client:
        await client.request("create", "persistent", path="/nodes", data=b"parent", acl=OPEN, flags=0)
        for flags, mode in enumerate(("persistent", "ephemeral", "persistent sequential", "ephemeral sequential")):
            one, two = f"/nodes/one-{flags}-", f"/nodes/two-{flags}-"
            await client.request("create", mode, path=one, data=b"1", acl=OPEN, flags=flags)
            await client.request("create2", f"{mode}, with Stat", path=two, data=b"2", acl=OPEN, flags=flags)
        await client.request("createContainer", "container", path="/nodes/box", data=b"", acl=OPEN, flags=4)
        ttl: Fields = {"data": b"", "acl": OPEN, "ttl": 3_600_000}
        await client.request("createTTL", "TTL", path="/nodes/ttl", flags=5, **ttl)
        await client.request("createTTL", "TTL, sequential", path="/nodes/ttl-", flags=6, **ttl)
        await client.request("create", "null data", path="/nodes/null", data=None, acl=OPEN, flags=0)
        await client.request("create2", "empty data", path="/nodes/empty", data=b"", acl=OPEN, flags=0)
        await client.request("create", "text beyond ASCII", path=UNICODE_PATH, data=b"\x00\xff", acl=OPEN, flags=0)
        await client.request("create", "a bare suffix", path="/nodes/", data=b"", acl=OPEN, flags=2)
        await create_errors(client)
    async with capture.session("reads") as client:
        await reads(client)
    async with capture.session("writes") as client:
        await writes(client)


async def create_errors(client: RawClient) -> None:
    """Everything a create can be refused for without another server."""

    async def refused(comment: str, path: str = "/nodes/x", acl: object = OPEN, flags: int = 0) -> None:
        header = await client.request("create", comment, path=path, data=b"", acl=acl, flags=flags)
        assert header["err"] < 0, comment

    await refused("NodeExists", path="/nodes")
    await refused("NoNode: the parent is missing", path="/nodes/a/b")
    await refused("NoChildrenForEphemerals", path="/nodes/one-1-/child")
    await refused("BadArguments: an unknown flag", flags=7)
    await refused("BadArguments: no path", path="nodes")
    await refused("InvalidACL: an empty list", acl=[])
    await refused("InvalidACL: a null list", acl=None)
    await refused("InvalidACL: an unknown scheme", acl=[[31, "unheard", "of"]])
    await refused("MarshallingError: a null id", acl=[[31, "digest", None]])
    ttl: Fields = {"path": "/nodes/never", "data": b"", "acl": OPEN, "flags": 5}
    await client.request("createTTL", "BadArguments: a ttl of 0", ttl=0, **ttl)


async def reads(client: RawClient) -> None:
    """Every read, on a node that is there and on one that is not."""
    here, gone = "/nodes/one-0-", "/nodes/gone"
    for name in ("exists", "getData", "getChildren", "getChildren2"):
        await client.request(name, "there", path=here, watch=False)
        await client.request(name, "NoNode", path=gone, watch=False)
    for name in ("getACL", "getAllChildrenNumber"):
        await client.request(name, "there", path=here)
        await client.request(name, "NoNode", path=gone)
    await client.request("getData", "null data, stored as null", path="/nodes/null", watch=False)
    await client.request("getData", "empty data", path="/nodes/empty", watch=False)
    await client.request("getData", "data that is no text", path=UNICODE_PATH, watch=False)
    await client.request("getChildren", "many children", path="/nodes", watch=False)
    await client.request("getChildren2", "many children, with Stat", path="/nodes", watch=False)
    await client.request("getAllChildrenNumber", "all descendants of the root", path="/")
    await client.request("getData", "the empty path is the root", path="", watch=False)
    await client.request(
        "getData", "the configuration, empty on a standalone server", path="/zookeeper/config", watch=False
    )
    await client.request("exists", "MarshallingError: a null path", path=None, watch=False)
    await client.request("sync", "echoes its path", path="/nodes")
    await client.request("sync", "echoes a null path too", path=None)
    await client.request("create", "owned by this session", path="/nodes/mine", data=b"", acl=OPEN, flags=1)
    await client.request("getEphemerals", "all of the session", prefix_path=None)
    await client.request("getEphemerals", "none below this prefix", prefix_path="/other")
    await client.request("whoAmI", "the address only")


async def writes(client: RawClient) -> None:
    """Every write to a node that exists, and its errors."""
    path = "/nodes/one-0-"
    await client.request("setData", "any version", path=path, data=b"new", version=-1)
    await client.request("setData", "the right version", path=path, data=b"newer", version=1)
    await client.request("setData", "null data", path=path, data=None, version=2)
    await client.request("setData", "BadVersion", path=path, data=b"", version=1)
    await client.request("setData", "NoNode", path="/nodes/gone", data=b"", version=-1)
    await client.request("setData", "BadArguments: not a path", path="/nodes//x", data=b"", version=-1)
    await client.request("setData", "NoAuth: the configuration", path="/zookeeper/config", data=b"", version=-1)
    acl = [[1, "world", "anyone"], [31, "digest", USER_DIGEST], [3, "ip", "127.0.0.0/8"]]
    await client.request("setACL", "three entries", path=path, acl=acl, version=0)
    await client.request("getACL", "the digest is hidden from who may not change it", path=path)
    await client.request("setACL", "NoAuth", path=path, acl=OPEN, version=-1)
    await client.request("setACL", "BadVersion", path="/nodes", acl=OPEN, version=9)
    await client.request("delete", "NotEmpty", path="/nodes", version=-1)
    await client.request("delete", "BadVersion", path="/nodes/null", version=5)
    await client.request("delete", "NoNode", path="/nodes/gone", version=-1)
    await client.request("delete", "BadArguments: the root", path="/", version=-1)
    await client.request("delete", "done, without a body", path="/nodes/null", version=0)


async def auth(capture: Capture) -> None:
    """Auth packets that succeed and fail, what they allow, and SASL where none is configured."""
    async with capture.session("digest authentication") as client:
        await client.request("create", "for the others", path="/auth", data=b"", acl=OPEN, flags=0)
        await client.request(
            "create", "InvalidACL: auth, as nobody", path="/auth/x", data=b"", acl=[[31, "auth", ""]], flags=0
        )
        await client.request("auth", "digest", type=0, scheme="digest", auth=USER_AUTH)
        await client.request("auth", "the xid comes back as it was", xid=9, type=7, scheme="ip", auth=b"")
        await client.request("whoAmI", "address and user")
        mine: Fields = {"path": "/auth/mine", "data": b"private", "flags": 0}
        await client.request(
            "create", "scheme auth with a null id, as kazoo writes it", acl=[[31, "auth", None]], **mine
        )
        await client.request("getACL", "auth has become the user's digest", path="/auth/mine")
    async with capture.session("refused without authentication") as client:
        await client.request("getData", "NoAuth", path="/auth/mine", watch=False)
        await client.request("getChildren2", "NoAuth", path="/auth/mine", watch=False)
        await client.request("getACL", "NoAuth", path="/auth/mine")
        await client.request("setData", "NoAuth", path="/auth/mine", data=b"", version=-1)
        await client.request("create2", "NoAuth", path="/auth/mine/x", data=b"", acl=OPEN, flags=0)
        await client.request("getAllChildrenNumber", "NoAuth", path="/auth/mine")
        await client.request("auth", "the superuser", type=0, scheme="digest", auth=SUPER_AUTH.encode())
        await client.request("whoAmI", "super, digest and address")
        await client.request("getData", "the superuser reads everything", path="/auth/mine", watch=False)
    async with capture.connect("an auth packet that fails") as client:
        await client.handshake()
        header = await client.request("auth", "AuthFailed, then the server closes", type=0, scheme="none", auth=b"x")
        assert header["err"] == -115
        await client.await_close()
    async with capture.session("sasl, where the server has none") as client:
        await client.request("sasl", "a null token comes back", token=b"")


async def multis(capture: Capture) -> None:
    """multi and multiRead: every operation, success, failure, refusal."""
    async with capture.session("multi and multiRead") as client:
        await client.request("create", "for the others", path="/multi", data=b"", acl=OPEN, flags=0)
        node: Fields = {"data": b"m", "acl": OPEN}
        every = [
            operation("create", path="/multi/a", flags=0, **node),
            operation("create2", path="/multi/b-", flags=2, **node),
            operation("createContainer", path="/multi/c", flags=4, **node),
            operation("createTTL", path="/multi/d", flags=5, ttl=60_000, **node),
            operation("check", path="/multi/a", version=0),
            operation("setData", path="/multi/a", data=b"n", version=0),
            operation("delete", path="/multi/a", version=1),
        ]
        await client.request("multi", "one of each", operations=[*every, TERMINATOR])
        failing = [
            operation("create", path="/multi/e", flags=0, **node),
            operation("check", path="/multi", version=7),
            operation("setData", path="/multi", data=b"", version=-1),
        ]
        await client.request("multi", "rolled back by the second", operations=[*failing, TERMINATOR])
        await client.request("multi", "empty", operations=[TERMINATOR])
        foreign = [operation("getData", path="/multi", watch=False)]
        await client.request("multi", "MarshallingError: a read among writes", operations=[*foreign, TERMINATOR])
        asked = [
            operation("getData", path="/multi", watch=False),
            operation("getChildren", path="/multi", watch=False),
            operation("getData", path="/multi/gone", watch=False),
            operation("getChildren", path="/multi/d", watch=True),
        ]
        await client.request("multiRead", "three answers and a NoNode", operations=[*asked, TERMINATOR])
        await client.request("multiRead", "empty", operations=[TERMINATOR])
        writing = [operation("delete", path="/multi/d", version=-1)]
        header = await client.request("multiRead", "a write: -5 and a terminator", operations=[*writing, TERMINATOR])
        assert header["err"] == -5


async def watches(capture: Capture) -> None:
    """Every way to set and remove a watch, every event, and setWatches after a reconnect."""
    async with capture.session("one-shot watches") as client:
        await client.request("create", "for the others", path="/watch", data=b"", acl=OPEN, flags=0)
        await client.request("exists", "NoNode, and yet the watch is set", path="/watch/a", watch=True)
        await client.request("create", "NodeCreated first", path="/watch/a", data=b"", acl=OPEN, flags=0)
        await client.request("getData", "sets a data watch", path="/watch/a", watch=True)
        await client.request("setData", "NodeDataChanged first", path="/watch/a", data=b"1", version=-1)
        await client.request("getChildren", "sets a child watch", path="/watch", watch=True)
        await client.request("getChildren2", "sets a child watch", path="/watch/a", watch=True)
        await client.request("exists", "sets a data watch", path="/watch/a", watch=True)
        await client.request("delete", "NodeDeleted once, NodeChildrenChanged", path="/watch/a", version=-1)
        assert client.events == [[1, "/watch/a"], [3, "/watch/a"], [2, "/watch/a"], [4, "/watch"]]
    async with capture.session("persistent watches, and their removal") as client:
        await persistent_watches(client)
    await watches_restored(capture)


async def persistent_watches(client: RawClient) -> None:
    """addWatch in both modes, removeWatches and checkWatches in every type, and the errors."""
    await client.request("addWatch", "persistent", path="/watch", mode=0)
    await client.request("addWatch", "persistent and recursive", path="/watch/deep", mode=1)
    await client.request("addWatch", "MarshallingError: an unknown mode", path="/watch", mode=2)
    await client.request("create", "NodeChildrenChanged", path="/watch/b", data=b"", acl=OPEN, flags=0)
    await client.request("create", "NodeCreated, NodeChildrenChanged", path="/watch/deep", data=b"", acl=OPEN, flags=0)
    await client.request("create", "NodeCreated of the descendant", path="/watch/deep/x", data=b"", acl=OPEN, flags=0)
    await client.request("setData", "NodeDataChanged of the descendant", path="/watch/deep/x", data=b"", version=-1)
    await client.request("delete", "NodeDeleted of the descendant", path="/watch/deep/x", version=-1)
    await client.request("checkWatches", "there", path="/watch", type=3)
    await client.request("checkWatches", "NoWatcher", path="/nowhere", type=3)
    await client.request("removeWatches", "MarshallingError: type 4 came with 3.9", path="/watch", type=4)
    await client.request("removeWatches", "the children's half", path="/watch", type=1)
    await client.request("removeWatches", "the data's half", path="/watch", type=2)
    await client.request("removeWatches", "NoWatcher: nothing is left", path="/watch", type=3)
    await client.request("removeWatches", "any", path="/watch/deep", type=3)
    await client.request("delete", "silent now", path="/watch/deep", version=-1)
    assert [kind for kind, _ in client.events] == [4, 1, 4, 1, 3, 2]


async def watches_restored(capture: Capture) -> None:
    """What a client tells the server after a reconnect, and which events come back at once."""
    async with capture.connect("before the reconnect") as first:
        session = await first.handshake("a session that will be attached again")
        for name in ("kept", "changed", "deleted", "parent"):
            await first.request("create2", path=f"/watch/{name}", data=b"", acl=OPEN, flags=0)
    async with capture.session("changes while it is away") as other:
        await other.request("setData", path="/watch/changed", data=b"2", version=-1)
        await other.request("delete", path="/watch/deleted", version=-1)
        await other.request("create", path="/watch/parent/child", data=b"", acl=OPEN, flags=0)
        await other.request("create", path="/watch/created", data=b"", acl=OPEN, flags=0)
    known = {key: session[key] for key in ("session_id", "passwd")}
    async with capture.connect("setWatches after a reconnect") as client:
        await client.handshake("attached again", **known, last_zxid_seen=first.zxid)
        lists: Fields = {
            "relative_zxid": first.zxid,
            "data_watches": ["/watch/kept", "/watch/changed", "/watch/deleted"],
            "exist_watches": ["/watch/created", "/watch/missing"],
            "child_watches": ["/watch/kept", "/watch/parent"],
        }
        await client.request("setWatches", "four events before the reply; xid -8 as the C client's", xid=-8, **lists)
        assert sorted(client.events) == [
            [1, "/watch/created"],
            [2, "/watch/deleted"],
            [3, "/watch/changed"],
            [4, "/watch/parent"],
        ]
        await client.request("setData", "a restored watch fires", path="/watch/kept", data=b"", version=-1)
    async with capture.connect("setWatches2 after a reconnect") as client:
        await client.handshake("attached again", **known, last_zxid_seen=first.zxid)
        persistent: Fields = {
            "persistent_watches": ["/watch"],
            "persistent_recursive_watches": ["/watch/parent", "/watch/missing"],
        }
        await client.request("setWatches2", "with persistent watches", **lists, **persistent)
        await client.request("delete", "NodeDeleted and NodeChildrenChanged", path="/watch/parent/child", version=-1)
        nothing: Fields = {name: [] for name in (*lists, *persistent)}
        await client.request("setWatches2", "empty lists", **{**nothing, "relative_zxid": client.zxid})
        await client.request(
            "setWatches", "MarshallingError: null lists", **dict.fromkeys([*lists], None) | {"relative_zxid": 0}
        )
        await client.close_session()


async def refusals(capture: Capture) -> None:
    """Requests that no client should send."""
    async with capture.session("bodies that are not the record") as client:
        await client.raw(4, bytes.fromhex("00000010 2f73686f7274"), "MarshallingError: a string longer than its frame")
        await client.raw(4, bytes.fromhex("fffffffe 00"), "MarshallingError: a length of -2")
        await client.raw(3, bytes.fromhex("00000001 2f"), "MarshallingError: the watch byte is missing")
        await client.raw(3, bytes.fromhex("00000001 2f 07"), "any byte but 0 is true")
        await client.raw(3, bytes.fromhex("00000001 2f 00 abcdef"), "bytes after the record are ignored")
        await client.request(
            "reconfig",
            "ReconfigDisabled",
            joining_servers=None,
            leaving_servers="3",
            new_members=None,
            cur_config_id=-1,
        )
    async with capture.connect("an unknown opcode") as client:
        await client.handshake()
        header = await client.raw(77, b"", "Unimplemented with zxid -1, then the server closes")
        assert header["err"] == -6
        await client.await_close()


SCENARIOS = {
    "sessions": sessions,
    "nodes": nodes,
    "auth": auth,
    "multi": multis,
    "watches": watches,
    "refusals": refusals,
}
