"""The layers of the product as a table: where each file belongs, what each layer may import.

This is the one place to change when a file is added or split: give it a row in `ROWS`, the innermost layer that it can
live in. docs/design/overview.md draws the same picture for people.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from .tree import PRODUCT, Import, SourceFile, SourceTree, dotted, imports


class Row(NamedTuple):
    """The files that a pattern names (`*` stays within a folder) and their layer."""

    pattern: str
    layer: str


# First match wins. Files that do not exist yet are the plan of the design.
ROWS = (
    Row("client/__init__.py", "client"),
    Row("client/errors.py", "values"),
    Row("client/values.py", "values"),
    Row("client/paths.py", "values"),
    Row("client/wire/*.py", "wire"),
    Row("client/_session.py", "session"),
    Row("client/_phases.py", "session"),
    Row("client/_handshake.py", "session"),
    Row("client/_liveness.py", "session"),
    Row("client/_conversation.py", "session"),
    Row("client/_effects.py", "session"),
    Row("client/_pending.py", "session"),
    Row("client/_watches.py", "session"),
    Row("client/_watch_requests.py", "session"),
    Row("client/_proof.py", "session"),
    Row("client/_hosts.py", "hosts"),
    Row("client/_transport.py", "transport"),
    Row("client/_tls.py", "transport"),
    Row("client/_websocket.py", "transport"),
    Row("client/_websocket_frames.py", "transport"),
    Row("client/_websocket_stream.py", "transport"),
    Row("client/_clock.py", "transport"),
    Row("client/_scopes.py", "transport"),
    Row("client/_names.py", "client"),
    Row("client/_backoff.py", "client"),
    Row("client/_runner.py", "client"),
    Row("client/_client.py", "client"),
    Row("client/_commands.py", "client"),
    Row("client/_core.py", "client"),
    Row("client/_open.py", "client"),
    Row("client/_requests.py", "client"),
    Row("client/_watching.py", "client"),
    Row("client/_operations.py", "client"),
    Row("client/_transaction.py", "client"),
    Row("client/_trees.py", "client"),
    Row("client/_pipeline.py", "client"),
    Row("client/_retry.py", "client"),
    Row("client/_sasl.py", "client"),
    Row("client/_gssapi.py", "client"),
    Row("client/_janitor.py", "client"),
    Row("client/_ensemble.py", "client"),
    Row("client/kazoo/*.py", "outermost"),
    Row("client/kazoo/*/*.py", "outermost"),
    Row("recipes/*.py", "recipes"),
    Row("testcluster/ids.py", "replica values"),
    Row("testcluster/membership.py", "replica values"),
    Row("testcluster/txns.py", "replica values"),
    Row("testcluster/quorum.py", "zab"),
    Row("testcluster/snapshot_body.py", "zab"),
    Row("testcluster/messages.py", "zab"),
    Row("testcluster/election.py", "zab"),
    Row("testcluster/history.py", "zab"),
    Row("testcluster/leader.py", "zab"),
    Row("testcluster/learner.py", "zab"),
    Row("testcluster/peer.py", "zab"),
    Row("testcluster/learner_link.py", "zab"),
    Row("testcluster/proposals.py", "zab"),
    Row("testcluster/synchronization.py", "zab"),
    Row("testcluster/local.py", "zab"),
    Row("testcluster/outbox.py", "zab"),
    Row("testcluster/ready.py", "zab"),
    Row("testcluster/auth.py", "data tree"),
    Row("testcluster/codes.py", "data tree"),
    Row("testcluster/digest_md5.py", "data tree"),
    Row("testcluster/opcodes.py", "data tree"),
    Row("testcluster/connection.py", "data tree"),
    Row("testcluster/datatree.py", "data tree"),
    Row("testcluster/outstanding.py", "data tree"),
    Row("testcluster/preparer.py", "data tree"),
    Row("testcluster/quotas.py", "data tree"),
    Row("testcluster/reads.py", "data tree"),
    Row("testcluster/replies.py", "data tree"),
    Row("testcluster/settings.py", "data tree"),
    Row("testcluster/znodes.py", "data tree"),
    Row("testcluster/processor.py", "data tree"),
    Row("testcluster/sessions.py", "data tree"),
    Row("testcluster/acl.py", "data tree"),
    Row("testcluster/upkeep.py", "data tree"),
    Row("testcluster/watches.py", "data tree"),
    Row("testcluster/duties.py", "replica"),
    Row("testcluster/leader_duties.py", "replica"),
    Row("testcluster/learner_sessions.py", "replica"),
    Row("testcluster/learner_duties.py", "replica"),
    Row("testcluster/read_only_duties.py", "replica"),
    Row("testcluster/replica.py", "replica"),
    Row("testcluster/sync_barriers.py", "replica"),
    Row("testcluster/storage/*.py", "storage"),
    Row("testcluster/config.py", "server"),
    Row("testcluster/config_auth.py", "server"),
    Row("testcluster/config_syntax.py", "server"),
    Row("testcluster/config_yaml.py", "server"),
    Row("testcluster/admin.py", "server"),
    Row("testcluster/admin_port.py", "server"),
    Row("testcluster/epoll_port.py", "server"),
    Row("testcluster/figures.py", "server"),
    Row("testcluster/fourletter.py", "server"),
    Row("testcluster/jaas.py", "server"),
    Row("testcluster/journal.py", "server"),
    Row("testcluster/links.py", "server"),
    Row("testcluster/processor_settings.py", "server"),
    Row("testcluster/reserved_port.py", "server"),
    Row("testcluster/standalone.py", "server"),
    Row("testcluster/stream_port.py", "server"),
    Row("testcluster/tls_port.py", "server"),
    Row("testcluster/client_ports.py", "server"),
    Row("testcluster/config_tls.py", "server"),
    Row("testcluster/quorum_tls.py", "server"),
    Row("testcluster/view.py", "server"),
    Row("testcluster/server.py", "server"),
    Row("testcluster/durable_writes.py", "server"),
    Row("testcluster/election_port.py", "server"),
    Row("testcluster/quorum_member.py", "server"),
    Row("testcluster/quorum_port.py", "server"),
    Row("testcluster/memory_network.py", "server"),
    Row("testcluster/__init__.py", "ensemble"),
    Row("testcluster/embedded.py", "ensemble"),
    Row("testcluster/ensemble.py", "ensemble"),
    Row("testcluster/loopback.py", "ensemble"),
    Row("testcluster/own_time.py", "ensemble"),
    Row("testcluster/websocket_frames.py", "door"),
    Row("testcluster/websocket_rules.py", "door"),
    Row("testcluster/websocket_connection.py", "door"),
    Row("testcluster/websocket_door.py", "door"),
    Row("testcluster/websocket_port.py", "server"),
    Row("testcluster/config_websocket.py", "server"),
    Row("testcluster/gateway.py", "gateway"),
    Row("testcluster/gateway_ensemble.py", "gateway"),
    Row("testcluster/pytest_plugin.py", "outermost"),
    Row("testcluster/cli/*.py", "outermost"),
)

# What each layer may import besides itself. The server's side never reaches session, runner or client class: what both
# sides shared could cancel its own mistakes out.
_SERVER_BASE = frozenset({"values", "wire", "replica values"})
MAY_IMPORT = {
    "values": frozenset[str](),
    "wire": frozenset({"values"}),
    "session": frozenset({"values", "wire"}),
    "hosts": frozenset({"values"}),
    "transport": frozenset({"values", "hosts"}),
    "client": frozenset({"values", "wire", "session", "hosts", "transport"}),
    "recipes": frozenset[str](),
    "replica values": frozenset({"values", "wire"}),
    "zab": _SERVER_BASE,
    "data tree": _SERVER_BASE,
    "replica": _SERVER_BASE | {"zab", "data tree"},
    "storage": _SERVER_BASE | {"zab", "data tree"},
    "door": frozenset({"values", "wire", "hosts", "transport"}),
    "server": _SERVER_BASE | {"hosts", "transport", "door", "zab", "data tree", "replica", "storage"},
    "ensemble": _SERVER_BASE | {"hosts", "transport", "zab", "data tree", "replica", "storage", "server"},
    "gateway": frozenset({"values", "wire", "hosts", "transport", "door"}),
    "outermost": frozenset({row.layer for row in ROWS}),
}

# Bytes, time and chance enter these layers as arguments: `data: bytes`, `now: float`, `random.Random`.
SANS_IO = frozenset({"values", "wire", "session", "hosts", "replica values", "zab", "data tree", "replica"})
_BANNED = frozenset(
    "asyncio concurrent datetime multiprocessing os queue random secrets select selectors signal socket socketserver "
    "ssl subprocess threading _thread time uuid".split()
)
# Third-party modules that do no I/O of their own where they are used: tenacity's wait strategies are plain arithmetic.
_PURE = {"client/_hosts.py": frozenset({"tenacity"})}


def layer_of(name: str) -> str | None:
    """The layer of a file, None where the table has no row for it."""
    for row in ROWS:
        if name.count("/") == row.pattern.count("/") and fnmatchcase(name, row.pattern):
            return row.layer
    return None


def unplaced_files(tree: SourceTree) -> list[str]:
    """Product files that no row names."""
    return [
        f"{file.name}: no layer; add a row for it to ROWS in tests/architecture/layers.py"
        for file in tree.product()
        if layer_of(file.name) is None
    ]


def layer_violations(tree: SourceTree) -> list[str]:
    """Imports that point outwards, and recipes that use more of the client than its public names."""
    return [
        found for file in tree.product() for imported in imports(file) for found in _check_layer(tree, file, imported)
    ]


def _check_layer(tree: SourceTree, file: SourceFile, imported: Import) -> Iterator[str]:
    own, target = layer_of(file.name), tree.imported_file(imported)
    if own is None or target is None:
        return
    if own == "recipes" and target == "client/__init__.py":
        if imported.name is None or imported.name.startswith("_"):
            yield f"{file.name}:{imported.line}: {imported}: recipes import public names, from terzetto.client"
        return
    other = layer_of(target)
    if other is not None and other != own and other not in MAY_IMPORT[own]:
        yield f"{file.name}:{imported.line}: {imported}: {own!r} may not import {other!r} ({target})"


def spelling_violations(tree: SourceTree) -> list[str]:
    """Bare names of the product folders anywhere; within a package absolute, across packages relative imports."""
    found: list[str] = []
    for file in tree.python():
        for imported in imports(file):
            place = f"{file.name}:{imported.line}: {imported}"
            head = imported.module.partition(".")[0]
            if not imported.level and head in PRODUCT:
                found.append(f"{place}: import terzetto.{head}; the bare name makes a second copy of every class")
            elif (
                not imported.level and file.folder in PRODUCT and f"{imported}.".startswith(f"terzetto.{file.folder}.")
            ):
                found.append(f"{place}: inside a package imports are relative")
            elif (
                imported.level and file.folder in PRODUCT and not f"{imported}.".startswith(f"terzetto.{file.folder}.")
            ):
                found.append(f"{place}: a relative import leaves the package")
    return found


def dynamic_import_violations(tree: SourceTree) -> list[str]:
    """Imports by a computed name, which no reader of imports sees; only the outermost layer may."""
    names = re.compile(r"(?:importlib\.)?import_module|__import__")
    return [
        f"{file.name}:{node.lineno}: {dotted(node.func)}() hides an import from this test"
        for file in tree.product()
        if layer_of(file.name) != "outermost"
        for node in ast.walk(file.tree)
        if isinstance(node, ast.Call) and names.fullmatch(dotted(node.func))
    ]


def sans_io_violations(tree: SourceTree) -> list[str]:
    """Clocks, chance, sockets, threads and event loops in the layers that must not know them."""
    return [found for file in tree.product() if layer_of(file.name) in SANS_IO for found in _check_sans_io(file)]


def _check_sans_io(file: SourceFile) -> Iterator[str]:
    for imported in imports(file):
        head = imported.module.partition(".")[0]
        place = f"{file.name}:{imported.line}: {imported}"
        if head == "random" and _only_annotates(file):
            continue
        if head in _BANNED:
            yield f"{place}: a sans-IO file takes time, chance and bytes as arguments"
        elif head != "terzetto" and head not in sys.stdlib_module_names | _PURE.get(file.name, frozenset()):
            yield f"{place}: a sans-IO file imports the standard library only"


def _only_annotates(file: SourceFile) -> bool:
    """Whether `random` is there for the type `random.Random` alone."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.ImportFrom) and node.module == "random" and [a.name for a in node.names] != ["Random"]:
            return False
        if (
            isinstance(node, ast.Attribute)
            and dotted(node).startswith("random.")
            and dotted(node).split(".")[1] != "Random"
        ):
            return False
        if isinstance(node, ast.Call) and dotted(node.func) in ("Random", "random.Random"):
            return False
    return True
