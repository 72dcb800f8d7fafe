"""What pages say in tables and pictures is what the code says: bounds, opcodes, error codes, phases, public names.

Knows the form of those tables, and no behaviour: that is shown by the snippets and by the client's own tests.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
import runpy
from collections.abc import Mapping
from importlib import import_module
from math import isclose
from pathlib import Path

import pytest

import terzetto.client
from terzetto.client import EXCEPTIONS, RetryPolicy, ZooKeeper, errors, open_zookeeper, values
from terzetto.client._phases import TRANSITIONS, Input, Phase
from terzetto.client.wire.operations import OPERATIONS, Opcode
from terzetto.testcluster.config import KEYS, load_config

from ..architecture.tree import ROOT
from ..vectors import frames

DOCS = ROOT / "docs"
_CODE = re.compile(r"`([^`]+)`")


def rows(page: str, columns: int) -> list[list[str]]:
    """The cells of every table row with so many columns, headings and rulers left out."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    tables = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    rulers = {index for index, cells in enumerate(tables) if all(re.fullmatch(":?-+:?", cell) for cell in cells)}
    return [
        cells
        for index, cells in enumerate(tables)
        if len(cells) == columns and index not in rulers and index + 1 not in rulers
    ]


# Bounds ---------------------------------------------------------------------------------------------------------------

_UNITS = {"": 1, "T": 1, "s": 1, "ms": 1, "bytes": 1, "attempts": 1, "KiB": 1024, "MiB": 1024**2}
_FIGURE = re.compile(r"(?<![\w/])(\d[\d,]*(?:\.\d+)?)(?:/(\d+))? ?(T|s|ms|bytes|attempts|KiB|MiB)?(?=$|[ ,])")

# Numbers that bound nothing which a user could meet.
_NO_BOUNDS = {
    "_gssapi._NO_SECURITY_LAYER": "a bit",
    "_gssapi._OFFER_SIZE": "the length of a field",
    "_handshake._PASSWD_SIZE": "the length of a field",
    "_handshake._RESPONSE_SIZE": "the length of a record",
    "_handshake._TIMEOUT_MAX_MS": "the range of an int32",
    "_hosts.DEFAULT_PORT": "a port",
    "_proof.DRIFT_MARGIN": "on the page beside PROOF_SHARE, as 2 %",
    "_session._SASL_REQUIRED": "an error code",
    "_transport._ACCEPT_PAUSE": "of listeners, which a client has none of",
    "_websocket._SECRET_MIN": "of what is hidden in a text",
    "_websocket_frames._BINARY": "a field's value",
    "_websocket_frames._CLOSE": "a field's value",
    "_websocket_frames._LENGTH_16": "a field's value",
    "_websocket_frames._MASKED": "a bit",
    "_websocket_frames._OPCODE": "bits of a field",
    "_websocket_frames._PREFIX": "the length of a field",
}


def _figures(cell: str) -> list[float]:
    return [
        float(number.replace(",", "")) / float(divisor or 1) * _UNITS[unit]
        for number, divisor, unit in _FIGURE.findall(cell)
    ]


def _constants() -> dict[str, float]:
    """Every number that a module of the client names: "_runner.PAUSE_MAX" and its value."""
    names = [name for _, name, package in pkgutil.iter_modules(terzetto.client.__path__) if not package]
    found: dict[str, float] = {}
    for name in names:
        module = import_module(f"terzetto.client.{name}")
        assigned = set(re.findall(r"^(_?[A-Z][A-Z_0-9]*)\b[^=\n]*=", inspect.getsource(module), re.MULTILINE))
        for constant in assigned | set(re.findall(r", ([A-Z_]+) = ", inspect.getsource(module))):
            value = vars(module).get(constant)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                found[f"{name}.{constant}"] = value
    return found


def _value_in_code(name: str) -> float | None:
    """The value of a constant, or the default of an argument, that the page names."""
    constants = _constants()
    if name in constants:
        return constants[name]
    owner, _, argument = name.rpartition(".")
    if owner == "RetryPolicy":
        default = getattr(RetryPolicy(), argument)
    else:
        function = getattr(ZooKeeper, owner.removeprefix("ZooKeeper.")) if owner else open_zookeeper
        default = inspect.signature(function).parameters[argument].default
    return default if default is None else float(default)


def _bounds() -> list[tuple[str, str]]:
    named = [(cells[2], cells[1]) for cells in rows("guides/bounds.md", 4)]
    return [(code[0], figure) for place, figure in named if (code := _CODE.findall(place))]


@pytest.mark.parametrize(("name", "figure"), _bounds())
def test_a_bound_on_the_page_is_the_one_in_the_code(name: str, figure: str) -> None:
    value = _value_in_code(name)
    if value is None:
        assert figure == "none"
    else:
        assert any(isclose(number, value) for number in _figures(figure)), (figure, value)


def test_every_bound_in_the_code_is_on_the_page() -> None:
    constants, named = set(_constants()), {name for name, _ in _bounds()}
    assert sorted(constants - named - set(_NO_BOUNDS)) == [], "a new bound, or an entry for _NO_BOUNDS"
    assert sorted(set(_NO_BOUNDS) - constants) == [], "stale entries"


def test_figures_are_read_as_people_read_them() -> None:
    assert _figures("random, up to 0.1 s, doubling, to 5 s or T/4") == [0.1, 5.0]
    assert _figures("2/3 T") == [2 / 3]
    assert _figures("1,048,575 bytes") == [1_048_575.0]
    assert _figures("16 MiB") == [16 * 1024 * 1024]
    assert _figures("none") == []


# Protocol and errors --------------------------------------------------------------------------------------------------

_SPELLED: Mapping[str, str] = {"Ttl": "TTL", "Acl": "ACL"}
_PEERS = {"raw": "raw", "java": "Java", "c": "C", "kazoo": "kazoo"}
_NO_REQUESTS = {Opcode.NOTIFICATION, Opcode.ERROR}
_NOT_SENT = {Opcode.CHECK_WATCHES, Opcode.DELETE_CONTAINER}
_OF_ANOTHER_FORM = {Opcode.CHECK: "in multi", Opcode.CREATE_SESSION: "as connect", Opcode.DELETE_CONTAINER: "none"}


def _name(opcode: Opcode) -> str:
    first, *others = opcode.name.lower().split("_")
    return first + "".join(_SPELLED.get(word.capitalize(), word.capitalize()) for word in others)


def _captured() -> dict[str, list[str]]:
    peers: dict[str, set[str]] = {}
    for frame in frames():
        peers.setdefault(frame.operation, set()).add(_PEERS[frame.name.split("-")[0]])
    order = list(_PEERS.values())
    return {operation: sorted(names, key=order.index) for operation, names in peers.items()}


def test_the_protocol_page_has_every_request_type() -> None:
    table = {int(cells[0]): cells for cells in rows("reference/protocol.md", 6)}
    assert sorted(table) == sorted(opcode for opcode in Opcode if opcode not in _NO_REQUESTS)
    captured = _captured()
    for opcode in set(Opcode) - _NO_REQUESTS:
        _, name, _, use, live, golden = table[opcode]
        assert name == f"`{_name(opcode)}`"
        assert golden == _OF_ANOTHER_FORM.get(opcode, ", ".join(captured.get(_name(opcode), [])))
        assert live in ("yes", "no")
        if opcode in _NOT_SENT:
            assert live == "no"
        else:
            assert opcode in OPERATIONS or opcode in _OF_ANOTHER_FORM
        for method in re.findall(r"`(\w+)[`(.]", use):
            assert hasattr(ZooKeeper, method) or method in inspect.signature(open_zookeeper).parameters, method


def test_the_page_of_errors_has_every_code() -> None:
    table = {int(cells[0]): cells[1] for cells in rows("reference/errors.md", 3) if re.fullmatch(r"-?\d+", cells[0])}
    assert table == {code: f"`{cls.__name__}`" for code, cls in EXCEPTIONS.items()}


def test_the_tree_of_errors_hangs_together_as_drawn() -> None:
    drawn = re.findall(r"^ {4}([| ]*)\+-- ((?:[A-Z]\w+, )*[A-Z]\w+)", errors.__doc__ or "", re.MULTILINE)
    above = ["KazooException"]
    for indent, names in drawn:
        depth = len(indent) // 4 + 1
        for name in names.split(", "):
            del above[depth:]
            above.append(name)
            assert getattr(errors, name).__bases__[0].__name__ == above[depth - 1], name
    drawn_names = {name for _, names in drawn for name in names.split(", ")}
    by_hand = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    without_code = {name for name in by_hand if getattr(errors, name) not in EXCEPTIONS.values()}
    assert sorted(without_code - drawn_names - {"KazooException", "ZookeeperError"}) == []


# A server's configuration ---------------------------------------------------------------------------------------------


def test_every_key_of_a_server_is_on_a_page() -> None:
    pages = [DOCS / "guides" / f"{name}.md" for name in ("servers", "tls", "acls-and-auth", "gateway")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    named = set(re.findall(r"(?:\w+[.-])*\w+", text))
    # What TLS of clients and TLS of servers have in common is told once.
    left_out = {key for key in KEYS if key not in named and key.replace("ssl.quorum.", "ssl.") not in named}
    # These have one value.
    assert left_out == {"ssl.keyStore.type", "ssl.trustStore.type", "ssl.authProvider"} | {
        f"ssl.quorum.{store}.type" for store in ("keyStore", "trustStore")
    }


@pytest.mark.parametrize("name", ["zoo.cfg", "zoo.yaml"])
def test_the_configurations_on_the_page_of_servers_are_taken(name: str, tmp_path: Path) -> None:
    text = (DOCS / "guides" / "servers.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"```\w+\n(# {re.escape(name)}\n.*?)```", text, re.DOTALL)
    (tmp_path / "myid").write_text("1")
    (tmp_path / name).write_text(block.replace("/var/lib/zookeeper", str(tmp_path)))
    config = load_config(tmp_path / name)
    assert (config.client_port, config.tick_ms, config.notices) == (2181, 2000, ())
    assert (len(config.members), config.purge_hours) == ((3, 24) if name == "zoo.yaml" else (0, 0))


# Session and reference ------------------------------------------------------------------------------------------------


def test_the_picture_of_the_phases_is_up_to_date() -> None:
    script = DOCS / "design" / "session_phases.py"
    drawn: str = runpy.run_path(str(script))["drawing"]()
    assert script.with_suffix(".svg").read_text(encoding="utf-8") == drawn, f"run: python {script.relative_to(ROOT)}"


def test_the_picture_shows_every_phase_and_every_move() -> None:
    picture = (DOCS / "design" / "session_phases.svg").read_text(encoding="utf-8")
    moves = {(before, event, after) for before, row in TRANSITIONS.items() for event, after in row.items()}
    assert picture.count("<path d=") == len(moves) + 2  # and the heads of two kinds of arrow
    for before, event, after in moves:
        assert f"<title>{before.name}: {event.name} to {after.name}</title>" in picture
        if event is not Input.CLOSED:
            assert f">{event.name}</text>" in picture
    for phase in Phase:
        assert f">{phase.name}</text>" in picture


def test_the_page_of_the_session_has_every_phase() -> None:
    assert {cells[0] for cells in rows("design/session.md", 3)} >= {phase.name for phase in Phase}


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join((DOCS / "reference" / page).read_text(encoding="utf-8") for page in ("client.md", "errors.md"))
    on_page = set(re.findall(r"^\.\. (?:autoclass|autofunction|autodata|data):: (\w+)", text, re.MULTILINE))
    # Classes and functions of these modules are all shown; data needs a row.
    shown = {name for module in (errors, values) for name, value in vars(module).items() if inspect.getdoc(value)}
    tables = [*rows("reference/values.md", 2), *rows("reference/errors.md", 3)]
    in_tables = {name for cells in tables for name in _CODE.findall(" ".join(cells))}
    elsewhere = {name for name in shown if callable(vars(terzetto.client).get(name))} | in_tables
    assert sorted(set(terzetto.client.__all__) - on_page - elsewhere) == []
    assert sorted(on_page - set(terzetto.client.__all__)) == []


def test_tests_that_the_readme_names_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "README.md").read_text(encoding="utf-8")))
    defined = {name for path in _test_files() for name in re.findall(r"def (test_\w+)\(", path.read_text("utf-8"))}
    assert named
    assert sorted(named - defined) == []


def _test_files() -> list[Path]:
    return sorted((ROOT / "tests" / "interop").glob("test_*.py"))
