"""Curator's framework and recipes do the same work on ZooKeeper 3.8.0 and on this server, with the same outcome.

Answers, errors, events and what is left in the tree are compared, Stat for Stat. Masked are clocks and the identifiers
that Curator invents; zxids are compared where nothing runs at the same time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest

from terzetto.testcluster import BlockingEnsemble, start_ensemble
from terzetto.testcluster.ids import session_password

from .curator import CuratorError, CuratorPeer
from .curator_scripts import SCRIPTS
from .rawclient import RawClient, request
from .zookeeper import TICK_TIME, RealZooKeeper, ServerOptions

DEADLINE = 20.0
NO_SWEEP_MS = 3_600_000
CLOSE_SESSION = -11

_ONE_AT_A_TIME = ("framework", "transactions")
# Names hold identifiers that Curator invents, so that their order says nothing.
_UNORDERED = re.compile(r"- (tree|children) ")
_WANTED = re.compile(r"(.*) ([12]) (\S+ .*)")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r'(?<="registrationTimeUTC":)\d+')
_ZXID = re.compile(r"(?<=xid=)\d+")


class Server(NamedTuple):
    """A server under test: the connect string, how it is halted and continued, and how a session is ended."""

    hosts: str
    pause: Callable[[], None]
    resume: Callable[[], None]
    expire: Callable[[int], object]


@pytest.fixture(scope="module")
def there(curator_installed: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    options = ServerOptions(
        zoo_cfg={"extendedTypesEnabled": "true"}, jvm_properties={"znode.container.checkIntervalMs": NO_SWEEP_MS}
    )
    with RealZooKeeper(options, directory=tmp_path_factory.mktemp("curator")) as real:

        def expire(session_id: int) -> None:
            with RawClient(real.port) as thief:
                # In one piece: the owner, who has lost his connection by the first, must not come between.
                then = request(1, CLOSE_SESSION)
                greeting = thief.connect(session_id=session_id, password=session_password(session_id), then=then)
                assert greeting.session_id == session_id
                thief.read_until(1)

        yield Server(real.hosts, real.pause, real.resume, expire)


@pytest.fixture(scope="module")
def here(curator_installed: None) -> Iterator[Server]:
    settings = {"znode.container.checkIntervalMs": str(NO_SWEEP_MS)}
    with start_ensemble(tick_time=TICK_TIME, settings=settings) as ensemble:
        yield server_of(ensemble)


def server_of(ensemble: BlockingEnsemble) -> Server:
    (sid,) = ensemble.sids
    return Server(ensemble.hosts, lambda: ensemble.pause(sid), lambda: ensemble.resume(sid), ensemble.expire_session)


@contextmanager
def two(hosts: str) -> Iterator[list[CuratorPeer]]:
    with ExitStack() as peers:
        yield [peers.enter_context(CuratorPeer(hosts)) for _ in range(2)]


@pytest.fixture(scope="module")
def pair_there(there: Server) -> Iterator[list[CuratorPeer]]:
    with two(there.hosts) as peers:
        yield peers


@pytest.fixture(scope="module")
def pair_here(here: Server) -> Iterator[list[CuratorPeer]]:
    with two(here.hosts) as peers:
        yield peers


class Play:
    """A script on its way, and what was answered.

    Args:
        peers: the two processes.
        zxids: whether they are compared, counted from the script's beginning.
    """

    def __init__(self, peers: list[CuratorPeer], *, zxids: bool) -> None:
        self._peers = peers
        self._zxids = zxids
        begin = peers[0].ask("- create EPHEMERAL_SEQUENTIAL /begin-")
        found = _ZXID.search(peers[0].ask(f"- exists {begin}"))
        assert found is not None
        self._first = int(found.group())
        self.lines: list[str] = []

    def run(self, script: str) -> list[str]:
        for line in script.strip().splitlines():
            self.line(line)
        return self.lines

    def line(self, line: str) -> None:
        who, _, command = line.partition(" ")
        if who == "until":
            count, path = command.split()
            self._until(lambda answer: _length(answer) == int(count), 0, f"- children {path}")
        elif who == "until-answer":
            parts = _WANTED.fullmatch(command)
            assert parts is not None, line
            wanted, number, command = parts.groups()
            self._until(lambda answer: answer == wanted, int(number) - 1, command)
        else:
            self._command(line, self._peers[int(who[0]) - 1], who[1:], command)

    def _command(self, line: str, peer: CuratorPeer, how: str, command: str) -> None:
        if how == "+":
            peer.send(command)
            return
        call = (lambda: peer.take(command, line, DEADLINE)) if how == "-" else (lambda: peer.ask(command))
        answer = self._answer(call)
        assert "Exception: no such" not in answer, f"{line}: {answer}"
        answer = self._masked(answer)
        if how == "~" or _UNORDERED.match(command):
            answer = ", ".join(sorted(answer[1:-1].split(", ")))
        self.lines.append(f"{line} -> {answer}")

    def _answer(self, call: Callable[[], str]) -> str:
        try:
            return call()
        except CuratorError as error:
            return f"! {error}"

    def _until(self, condition: Callable[[str], bool], number: int, command: str) -> None:
        end = time.monotonic() + DEADLINE
        while True:
            answer = self._answer(lambda: self._peers[number].ask(command))
            if condition(answer):
                return
            assert time.monotonic() < end, f"{command!r} still answers {answer}"

    def _masked(self, text: str) -> str:
        text = _TIME.sub("TIME", _UUID.sub("UUID", text))
        return _ZXID.sub(lambda found: str(int(found.group()) - self._first) if self._zxids else "Z", text)


def _length(answer: str) -> int:
    return 0 if answer in ("[]", "! NONODE") else answer.count(", ") + 1


@pytest.mark.slow
@pytest.mark.parametrize("recipe", SCRIPTS)
def test_a_recipe_has_the_same_outcome(
    pair_there: list[CuratorPeer], pair_here: list[CuratorPeer], recipe: str
) -> None:
    zxids = recipe in _ONE_AT_A_TIME
    expected = Play(pair_there, zxids=zxids).run(SCRIPTS[recipe])
    assert len(expected) > 3
    assert Play(pair_here, zxids=zxids).run(SCRIPTS[recipe]) == expected


@pytest.mark.slow
def test_a_lock_whose_owner_was_killed_is_free_when_the_session_has_expired(there: Server, here: Server) -> None:
    def scenario(hosts: str) -> list[str]:
        with CuratorPeer(hosts) as heir:
            with CuratorPeer(hosts, session_timeout=3.0) as owner:
                owner.ask("m new mutex /killed")
                answers = [owner.ask("m acquire 5000")]
                heir.ask("m new mutex /killed")
                answers.append(heir.ask("m acquire 10"))
                owner.kill()
            answers += [heir.ask("m acquire 20000"), heir.ask("m release"), heir.ask("- children /killed")]
            return answers

    expected = ["true", "false", "true", "ok", "[]"]
    assert scenario(there.hosts) == expected
    assert scenario(here.hosts) == expected


@pytest.mark.slow
def test_what_is_registered_comes_back_in_a_new_session(there: Server, here: Server) -> None:
    def scenario(server: Server) -> list[str]:
        with CuratorPeer(server.hosts) as lasting, CuratorPeer(server.hosts) as peer:
            play = Play([peer, lasting], zxids=False)
            play.run("""
1 - states 1 10000
1 m new member /lost/members one alpha
2 m new member /lost/members two beta
until-answer {one=alpha, two=beta} 2 m members
1 n new node EPHEMERAL /lost/node data
1 n await 5000
1 l new latch /lost/latch one
1 l await 5000
1 d new discovery /lost/services
1 d register web id host 80 payload
2 c new cache /lost/node
2~ c events 2 10000
""")
            server.expire(peer.session_id)
            play.run("""
1 - states 3 20000
1 l await 10000
until-answer data 2 - data /lost/node
until-answer [id@host:80=payload] 1 d instances web
until-answer {one=alpha, two=beta} 2 m members
""")
            assert int(peer.ask("- session"), 16) != peer.session_id
            return play.lines

    assert scenario(here) == scenario(there)


@pytest.mark.slow
def test_a_server_that_halts_suspends_clients_and_keeps_their_sessions(there: Server, here: Server) -> None:
    def scenario(server: Server) -> list[str]:
        # Two thirds of it are over when the client gives the server up; the rest is there to resume it.
        with CuratorPeer(server.hosts, session_timeout=9.0) as peer:
            states = [peer.ask("- states 1 10000")]
            peer.ask("- create EPHEMERAL /halted")
            peer.ask("w new watcher /halted")
            peer.ask("- exists /")
            server.pause()
            try:
                states.append(peer.ask("- states 1 20000"))
            finally:
                server.resume()
            states.append(peer.ask("- states 1 20000"))
            assert int(peer.ask("- session"), 16) == peer.session_id
            peer.ask("- set -1 /halted data")
            data = peer.ask("- get /halted").partition(" {")[0]
            # A watcher is told of the connection, too, and of all in a thread of its own.
            heard = ""
            end = time.monotonic() + DEADLINE
            while "NodeDataChanged /halted" not in heard:
                assert time.monotonic() < end, f"the watcher has heard {heard}"
                heard += peer.ask("w events 1 1000")
            return [*states, data]

    expected = ["[CONNECTED]", "[SUSPENDED]", "[RECONNECTED]", "data"]
    assert scenario(there) == expected
    assert scenario(here) == expected
