"""The shape of files: how long they may be, what they say of themselves, what they swallow, what a package shows.

Exceptions to a rule stand in the tables here, each with its reason; an entry that is no longer needed fails its test.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from .tree import SourceFile, SourceTree, dotted, functions

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70

# (file, function) -> why everything may be caught there and the error not raised again.
BROAD_EXCEPTS: Mapping[tuple[str, str], str] = {
    ("client/kazoo/_lifecycle.py", "Lifecycle._call_listeners"): "a listener is the program's, all are told: logged",
    ("client/kazoo/_loop.py", "_Answer._outcome"): "the outcome belongs to the thread that asked",
    ("client/kazoo/_loop.py", "_Task.run"): "the outcome belongs to the thread that asked",
    ("client/kazoo/_loop.py", "_tell"): "a callback is the program's, the outcomes are everyone's: logged",
    ("client/kazoo/_loop.py", "Loop._run"): "the thread's end: whoever starts or calls next is told",
    ("client/kazoo/handlers/threading.py", "CallQueue._run"): "a callback is the program's, the thread serves all",
    ("client/kazoo/recipe/cache.py", "TreeCache._tell"): "a listener is the program's, as is who is told of its faults",
    ("client/kazoo/handlers/utils.py", "capture_exceptions.decorate.captured"): "the outcome belongs to the result",
    ("client/_runner.py", "SessionRunner.tell"): "a callback is the application's, the reader is everyone's: logged",
    ("client/_conversation.py", "SaslConversation.begin"): "the mechanism is not ours; what it cannot do is a refusal",
    ("client/_effects.py", "SaslTurn.take"): "the mechanism is not ours; whatever it cannot do is a refusal",
    ("client/_runner.py", "SessionRunner.run"): "a bug of ours reaches those who wait, as the cause of their error",
    ("recipes/cache.py", "TreeCache._state_changed"): "raised in the cache's own block; who calls would only log it",
    ("recipes/config_watcher.py", "_parsed"): "the parser is the program's; its failure is told, the last value stays",
    ("tests/interop/background.py", "background_nursery"): "raised outside the nursery, so that it leaves unwrapped",
}

_BROAD = frozenset({"", "Exception", "BaseException", "trio.Cancelled", "Cancelled"})


def long_files(tree: SourceTree) -> list[str]:
    """Files past the limit: a noun is missing."""
    lengths = {file.name: len(file.text.splitlines()) for file in tree.python()}
    return [
        f"{name}: {lines} lines, at most {FILE_LINES_MAX}" for name, lines in lengths.items() if lines > FILE_LINES_MAX
    ]


def long_functions(tree: SourceTree) -> list[str]:
    """Functions past the limit, the docstring not counted."""
    found: list[str] = []
    for file in tree.python():
        for qualname, node in functions(file.tree):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node)
            if lines > FUNCTION_LINES_MAX:
                found.append(f"{file.name}:{node.lineno}: {qualname} has {lines} lines, at most {FUNCTION_LINES_MAX}")
    return found


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    if ast.get_docstring(node, clean=False) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def silent_modules(tree: SourceTree) -> list[str]:
    """Files that do not say what they decide and what they refuse to know."""
    return [f"{file.name}: no module docstring" for file in tree.python() if not ast.get_docstring(file.tree)]


def broad_excepts(tree: SourceTree) -> Iterator[tuple[tuple[str, str], int]]:
    """Handlers for everything that keep going: ((file, function), line). Cancellation counts as everything."""
    for file in tree.python():
        yield from _broad_excepts(file, file.tree, "")


def _broad_excepts(file: SourceFile, node: ast.AST, place: str) -> Iterator[tuple[tuple[str, str], int]]:
    for child in ast.iter_child_nodes(node):
        inner = place
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inner = f"{place}.{child.name}" if place else child.name
        if isinstance(child, ast.ExceptHandler) and _names(child.type) & _BROAD and not _raises(child):
            yield (file.name, place), child.lineno
        suppresses = isinstance(child, ast.Call) and dotted(child.func).rpartition(".")[2] == "suppress"
        if isinstance(child, ast.Call) and suppresses and {dotted(argument) for argument in child.args} & _BROAD:
            yield (file.name, place), child.lineno
        yield from _broad_excepts(file, child, inner)


def _names(caught: ast.expr | None) -> set[str]:
    if caught is None:
        return {""}
    parts = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return {dotted(part).removeprefix("builtins.") for part in parts}


def _raises(handler: ast.ExceptHandler) -> bool:
    pending: list[ast.AST] = list(handler.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Raise):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending.extend(ast.iter_child_nodes(node))
    return False


def is_public_package(name: str) -> bool:
    """Whether a file is the face of a package that users import; the command line is run, not imported."""
    folders = name.split("/")[:-1]
    return name.endswith("/__init__.py") and "cli" not in folders and not any(part.startswith("_") for part in folders)


def export_violations(tree: SourceTree) -> list[str]:
    """Packages whose `__all__` is not exactly what they bind in public, in order: constants, classes, functions."""
    return [
        f"{file.name}: {problem}"
        for file in tree.product()
        if is_public_package(file.name)
        for problem in _check_exports(file.tree)
    ]


def _check_exports(module: ast.Module) -> Iterator[str]:
    public, listed = set[str](), None
    for node in module.body:
        bound = set(_bound_names(node))
        if "__all__" in bound and isinstance(node, ast.Assign):
            listed = [str(name) for name in ast.literal_eval(node.value)]
        public |= {name for name in bound if not name.startswith("_") or name == "__version__"}
    if listed is None:
        if public:
            yield f"binds {', '.join(sorted(public))} and has no __all__"
        return
    for name in sorted(public - set(listed)):
        yield f"{name} is public and not in __all__"
    for name in sorted(set(listed) - public):
        yield f"{name} is in __all__ and not bound"
    if listed != sorted(set(listed), key=_export_order):
        yield f"__all__ is not sorted; expected {sorted(set(listed), key=_export_order)}"


def _export_order(name: str) -> tuple[int, str]:
    """The order that ruff's RUF022 keeps: SCREAMING_CASE, then CamelCase, then the rest."""
    if name.isupper() and len(name) > 1:
        return 0, name
    return (1 if name[:1].isupper() else 2), name


def _bound_names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.If) and dotted(node.test) == "TYPE_CHECKING":
        # What type checkers see, `__getattr__` gives; a test gets every listed name.
        for inner in node.body:
            yield from _bound_names(inner)
    elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
        yield from (alias.asname or alias.name for alias in node.names if alias.name != "TYPE_CHECKING")
    elif isinstance(node, ast.Import):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
