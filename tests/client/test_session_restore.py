"""What a new connection begins with: the handshake, what is resumed, what is restored, in which order, since when."""

from __future__ import annotations

import pytest

from terzetto.client import AddWatchMode, AuthFailedError, ConnectionLoss, SessionExpiredError, WireError
from terzetto.client._effects import SaslMechanism, SessionConfig
from terzetto.client._phases import Phase
from terzetto.client._watches import BATCH_CHARACTERS
from terzetto.client.wire import Opcode, codec, records as r
from terzetto.client.wire.operations import EXISTS, GET_CHILDREN, GET_DATA, SET_DATA
from terzetto.client.wire.primitives import LENGTH

from .realm import Realm
from .server_link import Code, Fault, every, nth
from .session_pair import SessionPair, Watcher
from .watch_tables import Release

PASSWD = b"sixteen bytes..."


def opcodes(pair: SessionPair) -> list[int]:
    assert pair.server is not None
    return [request.opcode for request in pair.server.received]


# --- the handshake


def test_a_new_session_is_asked_for_with_nothing() -> None:
    pair = SessionPair(SessionConfig(session_timeout=12.5))
    server = pair.connect()
    assert server.handshake == r.ConnectRequest(0, 0, 12_500, 0, bytes(16), False)
    assert pair.session.session_id == server.session_id
    assert pair.session.timeout == 12.5
    assert pair.states == [("CONNECTED", "CONNECTED")]
    assert pair.session.established == 1


def test_the_servers_timeout_counts() -> None:
    pair = SessionPair(SessionConfig(session_timeout=0.001), Realm(timeout_min_ms=4000))
    pair.connect()
    assert pair.session.timeout == 4.0


@pytest.mark.parametrize("size", range(1, 46, 4))
def test_the_answer_may_come_in_pieces(size: int) -> None:
    pair = SessionPair()
    pair.link_up()
    pair.pump(size)
    assert pair.is_in(Phase.CONNECTED)


def test_a_reconnect_resumes_the_session_with_what_was_seen() -> None:
    pair = SessionPair()
    first = pair.connect()
    pair.realm.create("/a")
    pair.call(EXISTS, "/a", False)
    seen = pair.session.last_zxid
    assert seen == pair.realm.zxid
    pair.cut()
    again = pair.connect()
    assert again.handshake is not None
    record = pair.realm.sessions[first.session_id]
    assert again.handshake == r.ConnectRequest(0, seen, 10_000, first.session_id, record.passwd, False)
    assert pair.session.established == 2
    assert [state for state, _ in pair.states] == ["CONNECTED", "SUSPENDED", "CONNECTED"]


def test_a_session_of_another_client_can_be_resumed() -> None:
    realm = Realm()
    session_id = realm.open_session(10_000)
    passwd = realm.sessions[session_id].passwd
    pair = SessionPair(SessionConfig(client_id=(session_id, passwd)), realm)
    pair.connect()
    assert (pair.session.session_id, pair.session.passwd) == (session_id, passwd)
    assert list(realm.sessions) == [session_id]


@pytest.mark.parametrize("renew", [True, False])
def test_a_session_that_is_over_cannot_be_resumed(renew: bool) -> None:
    pair = SessionPair(SessionConfig(client_id=(0x77, PASSWD), renew_session=renew))
    waiting = pair.submit(EXISTS, "/", False)
    pair.connect()
    assert isinstance(waiting.error, SessionExpiredError)
    assert pair.is_in(Phase.DISCONNECTED if renew else Phase.EXPIRED)
    if renew:
        server = pair.connect()
        assert server.handshake is not None
        assert server.handshake.session_id == 0
        assert pair.session.state == "CONNECTED"


def test_after_a_lost_session_nothing_of_the_old_one_is_known() -> None:
    pair = SessionPair()
    pair.realm.create("/a")
    pair.connect()
    pair.call(EXISTS, "/a", False)
    pair.realm.end_session(pair.session.session_id)
    pair.pump()
    pair.connect()
    assert (pair.session.session_id, pair.session.passwd, pair.session.last_zxid) == (0, bytes(16), 0)
    server = pair.connect()
    assert server.handshake == r.ConnectRequest(0, 0, 10_000, 0, bytes(16), False)


def test_another_session_than_the_one_asked_for_is_a_rejection() -> None:
    pair = SessionPair(SessionConfig(client_id=(0x77, PASSWD)))
    server = pair.link_up()
    pair.session.queue.take(1000)
    response = codec(r.ConnectResponse).encode(r.ConnectResponse(0, 10_000, 0x78, PASSWD, False))
    server.send(LENGTH.pack(len(response)) + response)
    pair.receive()
    assert pair.session.state == "LOST"
    assert pair.is_in(Phase.DISCONNECTED)
    assert ("LOST", "EXPIRED_SESSION") in pair.states


@pytest.mark.parametrize(
    "data",
    [
        LENGTH.pack(16) + bytes(12) + (-119).to_bytes(4, "big", signed=True),
        LENGTH.pack(37) + bytes(37),
        LENGTH.pack(37) + b"\xff" * 37,
        LENGTH.pack(1 << 30),
        LENGTH.pack(-5),
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_no_garbage_in_place_of_an_answer_ends_the_session(data: bytes, size: int) -> None:
    pair = SessionPair()
    pair.connect()
    pair.cut()
    pair.log.clear()
    waiting = pair.submit(EXISTS, "/", False)
    server = pair.link_up()
    pair.session.sent_bytes(len(pair.session.queue.take(1000)), pair.now)
    server.out[:] = [data]
    pair.receive(size)
    assert isinstance(pair.dropped, WireError)
    pair.cut(pair.dropped)
    assert pair.session.state == "SUSPENDED"
    pair.connect()
    assert waiting.error is None
    assert waiting.done


def test_requests_right_behind_the_answer_are_not_lost() -> None:
    """The answer, and the first event, in one chunk."""
    pair = SessionPair()
    watcher = Watcher()
    pair.realm.create("/a")
    pair.connect()
    pair.read(GET_DATA, "data", "/a", watcher)
    pair.cut()
    pair.realm.set("/a")
    pair.link_up()
    pair.send()
    pair.receive()
    pair.send()
    pair.receive()
    assert watcher.told == [("CHANGED", "/a")]


# --- read-only servers


def test_a_read_only_servers_session_is_not_asked_for_elsewhere() -> None:
    pair = SessionPair(SessionConfig(read_only=True))
    server = pair.connect(read_only=True)
    assert server.handshake is not None
    assert server.handshake.read_only
    assert pair.states == [("CONNECTED", "CONNECTED_RO")]
    assert (pair.session.is_read_only, pair.session.session_id, pair.session.resumable_id) == (True, 0x7E, 0)
    pair.cut()
    assert not pair.session.is_read_only
    again = pair.connect()
    assert again.handshake is not None
    assert again.handshake.session_id == 0
    assert pair.states[-1] == ("CONNECTED", "CONNECTED")


def test_a_real_session_survives_a_stay_at_a_read_only_server() -> None:
    pair = SessionPair(SessionConfig(read_only=True))
    pair.connect()
    real = pair.session.session_id
    pair.cut()
    pair.connect(read_only=True)
    assert pair.session.session_id == 0x7E
    assert pair.session.resumable_id == real
    pair.cut()
    pair.connect()
    assert pair.session.session_id == real
    assert "LOST" not in [state for state, _ in pair.states]


def test_a_read_only_server_is_no_proof_and_refuses_writes() -> None:
    pair = SessionPair(SessionConfig(read_only=True))
    pair.connect(read_only=True)
    write = pair.call(SET_DATA, "/", b"x", -1)
    assert type(write.error).__name__ == "NotReadOnlyCallError"
    assert pair.session.proof.deadline == float("-inf")


# --- credentials and watches


def test_credentials_come_before_watches_and_both_before_the_users() -> None:
    credentials = (("digest", b"a:1"), ("digest", b"b:2"))
    pair = SessionPair(SessionConfig(auth=credentials))
    pair.realm.create("/a")
    pair.connect()
    pair.read(GET_DATA, "data", "/a", Watcher())
    pair.cut()
    pair.submit(EXISTS, "/", False)
    pair.connect()
    assert opcodes(pair) == [Opcode.AUTH, Opcode.AUTH, Opcode.SET_WATCHES, Opcode.EXISTS]
    assert pair.server is not None
    assert pair.server.identities == list(credentials)


def test_nobody_is_told_of_a_connection_before_everything_is_restored() -> None:
    pair = SessionPair(SessionConfig(auth=(("digest", b"a:1"),)))
    server = pair.link_up()
    server.paused = True
    pair.send()
    pair.receive()
    pair.send()
    # The credential has been taken at once, what stands behind it has not.
    pair.submit(EXISTS, "/", False)
    assert not pair.session.queue.open
    assert pair.states == []
    pair.pump()
    assert pair.states == [("CONNECTED", "CONNECTED")]


def test_what_is_restored_looks_back_to_what_was_seen_last() -> None:
    pair = SessionPair()
    pair.realm.create("/a")
    pair.connect()
    watchers = {kind: Watcher(kind) for kind in ("data", "exist", "child", "quiet")}
    pair.read(GET_DATA, "data", "/a", watchers["data"])
    pair.read(EXISTS, "exist", "/b", watchers["exist"])
    pair.read(GET_CHILDREN, "child", "/a", watchers["child"])
    pair.read(GET_DATA, "data", "/", watchers["quiet"])
    seen = pair.session.last_zxid
    pair.cut()
    pair.realm.set("/a")
    pair.realm.create("/b")
    pair.realm.create("/a/c")
    server = pair.connect()
    assert server.received[0].record == r.SetWatches(seen, ["/a", "/"], ["/b"], ["/a"])
    assert {name: watcher.told for name, watcher in watchers.items()} == {
        "data": [("CHANGED", "/a")],
        "exist": [("CREATED", "/b")],
        "child": [("CHILD", "/a")],
        "quiet": [],
    }
    pair.realm.set("/")
    pair.pump()
    assert watchers["quiet"].told == [("CHANGED", "/")]


@pytest.mark.parametrize("release", Release)
def test_persistent_watches_are_restored_and_told_nothing_of_what_was_missed(release: Release) -> None:
    pair = SessionPair(release=release)
    pair.realm.create("/a")
    pair.connect()
    plain, recursive = Watcher("plain"), Watcher("recursive")
    pair.add_watch("/a", AddWatchMode.PERSISTENT, plain)
    pair.add_watch("/", AddWatchMode.PERSISTENT_RECURSIVE, recursive)
    pair.pump()
    pair.cut()
    pair.realm.set("/a")
    server = pair.connect()
    assert server.received[0].opcode == Opcode.SET_WATCHES2
    assert plain.events == recursive.events == []
    pair.realm.create("/a/b")
    pair.pump()
    assert plain.told == [("CHILD", "/a")]
    assert recursive.told == [("CREATED", "/a/b")]


def many_watches(pair: SessionPair, count: int = 3) -> list[tuple[str, Watcher]]:
    """Enough of them for as many batches."""
    found: list[tuple[str, Watcher]] = []
    for index in range(count):
        path = f"/{index}" + "x" * (BATCH_CHARACTERS - 10)
        pair.realm.create(path)
        watcher = Watcher(str(index))
        pair.read(GET_DATA, "data", path, watcher)
        found.append((path, watcher))
    return found


def test_all_batches_look_back_to_the_same_moment() -> None:
    """The answer to the first one already has a newer zxid."""
    pair = SessionPair()
    pair.connect()
    watched = many_watches(pair)
    seen = pair.session.last_zxid
    pair.cut()
    for path, _ in watched:
        pair.realm.set(path)
    server = pair.connect()
    assert [request.record.relative_zxid for request in server.received] == [seen] * 3
    assert [watcher.told for _, watcher in watched] == [[("CHANGED", path)] for path, _ in watched]


def test_they_still_do_when_the_link_is_lost_in_the_middle() -> None:
    pair = SessionPair()
    pair.connect()
    watched = many_watches(pair)
    seen = pair.session.last_zxid
    pair.cut()
    pair.realm.set(watched[2][0])
    pair.rules.append(nth(2, Opcode.SET_WATCHES, Fault.CUT))
    first = pair.connect()
    assert len(first.received) >= 2
    # The answer to the first batch has shown the change, and its news is not yet restored.
    assert pair.session.last_zxid > seen
    assert watched[2][1].events == []
    pair.rules.clear()
    second = pair.connect()
    assert [request.record.relative_zxid for request in second.received] == [seen] * 3
    assert watched[2][1].told == [("CHANGED", watched[2][0])]
    pair.cut()
    third = pair.connect()
    assert [request.record.relative_zxid for request in third.received] == [pair.session.last_zxid] * 2


def test_a_server_that_does_not_restore_the_watches_is_left() -> None:
    pair = SessionPair()
    pair.realm.create("/a")
    pair.connect()
    pair.read(GET_DATA, "data", "/a", Watcher())
    pair.cut()
    pair.rules.append(every(Opcode.SET_WATCHES, Code(-5)))
    pair.connect()
    assert isinstance(pair.dropped, ConnectionLoss)
    assert "refused to restore the watches" in str(pair.dropped)
    assert pair.session.state == "SUSPENDED"
    assert len(pair.session.watches) == 1


def test_watches_of_a_lost_session_end_and_streams_go_on_in_the_next() -> None:
    pair = SessionPair()
    pair.realm.create("/a")
    pair.connect()
    one_shot, callback, stream = Watcher("one"), Watcher("cb"), Watcher("stream", survives_session=True)
    pair.read(GET_DATA, "data", "/a", one_shot)
    pair.add_watch("/a", AddWatchMode.PERSISTENT, callback)
    pair.add_watch("/a", AddWatchMode.PERSISTENT, stream)
    pair.pump()
    pair.realm.end_session(pair.session.session_id)
    pair.pump()
    pair.connect()
    assert one_shot.told == callback.told == [("NONE", "/a")]
    assert stream.events == []
    server = pair.connect()
    assert server.received[0].record == r.SetWatches2(0, [], [], [], ["/a"], [])
    pair.realm.set("/a")
    pair.pump()
    assert stream.told == [("CHANGED", "/a")]
    assert len(one_shot.events + callback.events) == 2


# --- SASL


class Mechanism:
    """Answers each challenge with its turn's token, then is content."""

    blocks = False

    def __init__(self, initial: bytes, answers: list[bytes | Exception | None]) -> None:
        self._initial = initial
        self._answers = answers
        self.challenges: list[bytes | None] = []

    def initial(self) -> bytes:
        return self._initial

    def respond(self, challenge: bytes | None) -> bytes | None:
        self.challenges.append(challenge)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def sasl_pair(mechanism: SaslMechanism) -> SessionPair:
    pair = SessionPair(SessionConfig(sasl=lambda server: mechanism, auth=(("digest", b"a:1"),)))
    pair.realm.create("/a")
    return pair


def answer_sasl(pair: SessionPair, token: bytes | None, err: int = 0) -> None:
    assert pair.server is not None
    body = codec(r.SetSASLResponse).encode(r.SetSASLResponse(token))
    xid = pair.server.received[-1].xid
    pair.server.take()
    pair.server.reply(xid, 0, err, body)
    pair.receive()
    pair.send()


def test_sasl_comes_before_everything_else() -> None:
    mechanism = Mechanism(b"", [b"response", None])
    pair = sasl_pair(mechanism)
    server = pair.link_up()
    pair.rules.append(every(Opcode.SASL, Fault.IGNORE))
    waiting = pair.submit(EXISTS, "/a", False)
    pair.send()
    pair.receive()
    pair.send()
    assert [(request.opcode, request.record.token) for request in server.received] == [(Opcode.SASL, b"")]
    answer_sasl(pair, b"challenge")
    answer_sasl(pair, None)
    assert mechanism.challenges == [b"challenge", None]
    pair.pump()
    assert opcodes(pair) == [Opcode.SASL, Opcode.SASL, Opcode.AUTH, Opcode.EXISTS]
    assert waiting.error is None


@pytest.mark.parametrize(
    ("answers", "err", "text"),
    [
        ([], -115, ""),
        ([AuthFailedError("wrong realm")], 0, "wrong realm"),
        ([RuntimeError("a bug of the mechanism")], 0, "a bug of the mechanism"),
    ],
)
def test_a_failed_conversation_is_the_end(answers: list[bytes | Exception | None], err: int, text: str) -> None:
    pair = sasl_pair(Mechanism(b"hello", answers))
    pair.link_up()
    pair.rules.append(every(Opcode.SASL, Fault.IGNORE))
    waiting = pair.submit(EXISTS, "/a", False)
    pair.send()
    pair.receive()
    pair.send()
    answer_sasl(pair, b"challenge", err)
    assert pair.is_in(Phase.AUTH_FAILED)
    assert isinstance(waiting.error, AuthFailedError)
    assert text in str(waiting.error)
