"""The whole public surface of the installed kazoo, name by name, against the drop-in's.

Modules, constants, functions, classes, their methods and attributes, the arguments of all of them (names, order,
defaults), and what instances have. What is not there, or is otherwise, stands in a table with its reason; a row of the
table that is no difference any more fails as well.
"""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import kazoo
import pytest
from kazoo.client import KazooClient as TheirClient

from terzetto.client.kazoo.client import KazooClient as OurClient
from terzetto.testcluster import BlockingEnsemble

OURS = "terzetto.client."

_GREEN = "gevent and eventlet are not offered: callbacks run in threads"
_CONNECTION = "the connection is the native client's, which has no threads, sockets or loops to hand out"
_NO_JAVA = "no Java: servers are the embedded ensemble's, whose cluster makes them"
_OWN_RESULT = "the result waits on a lock of its own, and needs no condition to be made for it"
_CACHE = "how kazoo's cache works inside; the native one is another"
_TUPLES = "a NamedTuple, made by calling it"

DIFFERENCES: dict[str, str] = {
    "kazoo.handlers.gevent": _GREEN,
    "kazoo.handlers.eventlet": _GREEN,
    "kazoo.testing.common.ManagedZooKeeper.__init__": _NO_JAVA,
    "kazoo.testing.common.ServerInfo": _NO_JAVA,
    "kazoo.testing.common.ZookeeperCluster.perform_ssl_certs_generation": "they are made when they are asked for",
    "kazoo.testing.common.debug": "a debugger on SIGUSR1 is no business of a library",
    "kazoo.testing.common.listen": "a debugger on SIGUSR1 is no business of a library",
    "kazoo.testing.common.to_java_compatible_path": _NO_JAVA,
    "kazoo.testing.harness.CLUSTER": "the cluster of the process is `get_global_cluster()`",
    "kazoo.testing.harness.CLUSTER_CONF": "environment variables mean nothing",
    "kazoo.testing.harness.CLUSTER_DEFAULTS": "environment variables mean nothing",
    "kazoo.testing.harness.MAX_INIT_TRIES": "a cluster that serves needs no second try",
    "kazoo.handlers.utils.AsyncResult.__init__": _OWN_RESULT,
    "kazoo.protocol.connection.PURESASL_AVAILABLE": "SASL needs no package",
    "kazoo.protocol.connection.RWPinger": "the native client looks for a server with a quorum by itself",
    "kazoo.protocol.connection.buffer": "a helper for Python 2",
    "kazoo.protocol.connection.ConnectionHandler.start": _CONNECTION,
    "kazoo.protocol.connection.ConnectionHandler.stop": _CONNECTION,
    "kazoo.protocol.connection.ConnectionHandler.close": _CONNECTION,
    "kazoo.protocol.connection.ConnectionHandler.zk_loop": _CONNECTION,
    "kazoo.client.ConnectionHandler.start": _CONNECTION,
    "kazoo.client.ConnectionHandler.stop": _CONNECTION,
    "kazoo.client.ConnectionHandler.close": _CONNECTION,
    "kazoo.client.ConnectionHandler.zk_loop": _CONNECTION,
    "instance ConnectionHandler.connection_closed": _CONNECTION,
    "instance ConnectionHandler.connection_stopped": _CONNECTION,
    "instance ConnectionHandler.ping_outstanding": _CONNECTION,
    "instance ConnectionHandler.sasl_cli": "no object of pure-sasl is there",
    "kazoo.recipe.cache.handle_exception": _CACHE,
    "kazoo.recipe.cache.TreeNode": _CACHE,
    "kazoo.recipe.cache.TreeEvent.make": _TUPLES,
    "kazoo.recipe.cache.NodeData.make": _TUPLES,
}
"""What is not there or is otherwise, on purpose, and why."""

TOUCHED = {
    "KazooClient": """_session_id _session_passwd _session_timeout _retry _conn_retry _queue _pending _live _stopped
        _state _data_watchers _child_watchers _call _connection""",
    "ConnectionHandler": "_socket _connect _xid",
    "Lock": "_get_predecessor _NODE_NAME _EXCLUDE_NAMES",
    "ChildrenWatch": "_stopped",
    "DataWatch": "_stopped",
    "KazooRetry": "_attempts _cur_delay _cur_stoptime",
    "KazooTestHarness": "_get_client _get_nonchroot_client _clients",
}
"""Names with an underscore that programs touch all the same."""


def modules() -> list[str]:
    # By file: some packages of kazoo cannot be imported without others that are not installed.
    root = Path(kazoo.__path__[0])
    paths = [path.relative_to(root.parent).with_suffix("") for path in sorted(root.rglob("*.py"))]
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths]
    return [name for name in names if not name.startswith("kazoo.tests")]


def importable() -> list[str]:
    # Importing kazoo's test harness needs packages for certificates; it is read instead, below.
    return [name for name in modules() if not name.startswith("kazoo.testing") and name not in DIFFERENCES]


def is_public(name: str) -> bool:
    return not name.startswith("_") or name in ("__init__", "__call__", "__enter__", "__exit__", "__iter__", "__len__")


def own_names(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """What a module of kazoo defines for others: not what it imports for itself."""
    for name, value in vars(module).items():
        if not is_public(name) or isinstance(value, ModuleType) or name == "log":
            continue
        home = getattr(value, "__module__", module.__name__)
        if home == module.__name__ or (module.__name__ == "kazoo.client" and home.startswith("kazoo")):
            if type(value).__name__ != "_Feature":
                yield name, value


def signature(function: Any) -> list[inspect.Parameter] | None:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None


def misfit(theirs: Any, ours: Any) -> str | None:
    """What a call that fits `theirs` might find otherwise in `ours`. More arguments and more defaults are fine."""
    wanted, given = signature(theirs), signature(ours)
    if wanted is None or given is None:
        return None
    rest = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in given)
    for index, parameter in enumerate(wanted):
        if parameter.kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD or parameter.name in ("exc_type", "exc_value"):
            continue
        if rest and index >= sum(each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for each in given):
            return None
        if index >= len(given):
            return f"no argument {parameter.name}"
        mine = given[index]
        dunder = getattr(theirs, "__name__", "") in ("__exit__", "__add__")
        if mine.name != parameter.name and not dunder:
            return f"argument {index} is {mine.name}, not {parameter.name}"
        if parameter.default is not parameter.empty and not same(parameter.default, mine.default):
            return f"{parameter.name} is {mine.default!r} by default, not {parameter.default!r}"
    for mine in given[len(wanted) :]:
        if mine.default is mine.empty and mine.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            return f"{mine.name} must be given"
    return None


def same(theirs: Any, ours: Any) -> bool:
    """Equal, or what stands for it: our class of the same name, our instance with the same text."""
    if type(theirs) is object:
        return ours is not None  # a sentinel
    if isinstance(theirs, (type, ModuleType)) or callable(theirs):
        return bool(getattr(theirs, "__name__", theirs) == getattr(ours, "__name__", ours))
    if bool(theirs == ours) or repr(theirs) == repr(ours):
        return True
    if hasattr(theirs, "items"):
        return same_entries(theirs, ours)
    if isinstance(theirs, (list, tuple)):
        wanted, given = list(cast("list[Any]", theirs)), list(ours)
        return len(wanted) == len(given) and all(map(same, wanted, given))
    # Sentinels and compiled things: what counts is that there is one of the kind.
    return str(theirs.__class__.__module__) not in ("builtins", "collections") and ours is not None


def same_entries(theirs: Mapping[Any, Any], ours: Mapping[Any, Any]) -> bool:
    """Every entry of theirs, here too."""
    return all(key in ours and same(value, ours[key]) for key, value in theirs.items())


def class_differences(where: str, theirs: type, ours: type) -> Iterator[tuple[str, str]]:
    for owner in reversed(theirs.__mro__):
        if not owner.__module__.startswith("kazoo"):
            continue
        for name, value in vars(owner).items():
            if not is_public(name):
                continue
            if not hasattr(ours, name):
                # What is set in the constructor is looked at with the instances.
                yield f"{where}.{name}", "missing"
            elif callable(getattr(theirs, name)) and (said := misfit(getattr(theirs, name), getattr(ours, name))):
                yield f"{where}.{name}", said
            elif name.isupper() and not same(value, getattr(ours, name)):
                yield f"{where}.{name}", f"is {getattr(ours, name)!r}, not {value!r}"


def module_differences(name: str) -> Iterator[tuple[str, str]]:
    theirs = importlib.import_module(name)
    ours = importlib.import_module(OURS + name)
    for attribute, value in own_names(theirs):
        where = f"{name}.{attribute}"
        if not hasattr(ours, attribute):
            yield where, "missing"
            continue
        mine = getattr(ours, attribute)
        if inspect.isclass(value):
            yield from class_differences(where, value, mine)
        elif callable(value):
            if (said := misfit(value, mine)) is not None:
                yield where, said
        elif not same(value, mine):
            yield where, f"is {mine!r}, not {value!r}"


def read_differences(name: str) -> Iterator[tuple[str, str]]:
    """As `module_differences`, for a module that is read and not imported."""
    ours = importlib.import_module(OURS + name)
    path = Path(kazoo.__path__[0], *name.split(".")[1:])
    source = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.ClassDef):
            mine = getattr(ours, node.name, None)
            if mine is None:
                yield f"{name}.{node.name}", "missing"
                continue
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and is_public(member.name):
                    where = f"{name}.{node.name}.{member.name}"
                    arguments = [argument.arg for argument in member.args.args]
                    found = getattr(mine, member.name, None)
                    given = None if found is None else signature(found)
                    if found is None:
                        yield where, "missing"
                    elif given is not None and not isinstance(found, property) and member.decorator_list == []:
                        names = [each.name for each in given]
                        if names[: len(arguments)] != arguments and "args" not in names:
                            yield where, f"arguments {names}, not {arguments}"
        elif isinstance(node, ast.FunctionDef) and not hasattr(ours, node.name):
            yield f"{name}.{node.name}", "missing"
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id.isupper() and not hasattr(ours, target.id):
                    yield f"{name}.{target.id}", "missing"
                elif isinstance(target, ast.Name) and target.id == "ServerInfo" and not hasattr(ours, target.id):
                    yield f"{name}.{target.id}", "missing"


def instance_differences(ensemble: BlockingEnsemble) -> Iterator[tuple[str, str]]:
    """Attributes of clients and of recipes, as they are before anything was done with them."""
    theirs, ours = TheirClient(ensemble.hosts), OurClient(ensemble.hosts)
    theirs.start()
    ours.start()
    try:
        pairs: list[tuple[Any, Any]] = [(theirs, ours)]
        for name, arguments in RECIPES.items():
            pairs.append((getattr(theirs, name)(*arguments), getattr(ours, name)(*arguments)))
        pairs += [(pairs_of("recipe.cache", "TreeCache", theirs, ours)), pairs_of("retry", "KazooRetry", None, None)]
        pairs += [(theirs.transaction(), ours.transaction()), (theirs._connection, ours._connection)]
        for their, our in pairs:
            where = f"instance {type(their).__name__}"
            names: list[str] = [*vars(their), *TOUCHED.get(type(their).__name__, "").split()]
            for name in names:
                wanted = is_public(name) or name in TOUCHED.get(type(their).__name__, "").split()
                if wanted and hasattr(their, name) and not hasattr(our, name):
                    yield f"{where}.{name}", "missing"
    finally:
        for client in (theirs, ours):
            client.stop()
            client.close()


RECIPES: dict[str, tuple[Any, ...]] = {
    "Barrier": ("/s/barrier",),
    "Counter": ("/s/counter",),
    "DoubleBarrier": ("/s/double", 2),
    "Election": ("/s/election",),
    "Lock": ("/s/lock",),
    "LockingQueue": ("/s/locking",),
    "MultiNonBlockingLease": (1, "/s/leases", timedelta(seconds=1)),
    "NonBlockingLease": ("/s/lease", timedelta(seconds=1)),
    "Party": ("/s/party",),
    "Queue": ("/s/queue",),
    "ReadLock": ("/s/lock",),
    "Semaphore": ("/s/semaphore",),
    "ShallowParty": ("/s/shallow",),
    "WriteLock": ("/s/lock",),
}


def pairs_of(module: str, name: str, their_client: Any, our_client: Any) -> tuple[Any, Any]:
    arguments = ("/s/tree",) if their_client is not None else ()
    made: list[Any] = []
    for base, client in (("kazoo.", their_client), (OURS + "kazoo.", our_client)):
        cls = getattr(importlib.import_module(base + module), name)
        made.append(cls(client, *arguments) if client is not None else cls(*arguments))
    return made[0], made[1]


@pytest.fixture(scope="module")
def found(ensemble: BlockingEnsemble) -> dict[str, str]:
    """Every difference there is."""
    differences = {name: "missing" for name in modules() if not is_there(name)}
    for name in importable():
        if name not in differences:
            differences.update(module_differences(name))
    for name in modules():
        if name.startswith("kazoo.testing") and name not in differences:
            differences.update(read_differences(name))
    differences.update(instance_differences(ensemble))
    return differences


def is_there(module: str) -> bool:
    try:
        importlib.import_module(OURS + module)
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_everything_is_there_but_for_the_table(found: dict[str, str]) -> None:
    assert {name: said for name, said in found.items() if name not in DIFFERENCES} == {}


def test_every_row_of_the_table_is_a_difference(found: dict[str, str]) -> None:
    assert [name for name in DIFFERENCES if name not in found] == []
    assert all(DIFFERENCES.values())


def test_the_look_at_it_sees_much() -> None:
    seen = [name for module in importable() for name, _ in own_names(importlib.import_module(module))]
    assert len(seen) > 200
    assert {"KazooClient", "Lock", "SequentialThreadingHandler", "NoNodeError", "make_acl", "write_string"} <= set(seen)


def test_exceptions_descend_from_the_same_and_have_the_same_codes() -> None:
    theirs, ours = importlib.import_module("kazoo.exceptions"), importlib.import_module(OURS + "kazoo.exceptions")
    looked = 0
    for name, cls in vars(theirs).items():
        if not (inspect.isclass(cls) and issubclass(cls, Exception)):
            continue
        mine = getattr(ours, name)
        ancestors = {base.__name__ for base in mine.__mro__}
        assert {base.__name__ for base in cls.__mro__} <= ancestors, name
        assert getattr(cls, "code", None) == getattr(mine, "code", None), name
        looked += 1
    assert looked > 50
    for code in theirs.EXCEPTIONS:
        assert theirs.EXCEPTIONS[code].__name__ == ours.EXCEPTIONS[code].__name__
    for codes in (theirs.EXCEPTIONS, ours.EXCEPTIONS):
        with pytest.raises(RuntimeError):
            codes[666]
