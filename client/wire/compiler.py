"""Derives encoder and decoder of a record from its declaration.

A declaration is a `NamedTuple` whose annotations are those of `primitives.py`, or other records. Adjacent fixed-width
fields, and the length of a string or buffer that follows them, fuse into one precompiled `struct.Struct`. The result is
plain Python source, compiled once (as `dataclasses` and `namedtuple` do) and registered with `linecache`, so that
tracebacks and debuggers show the line that failed. All that is done when a codec is first used: a program uses few of
all the records, and each of them takes as long as the import of a small module.

Decoders read from `bytes` by offset and never copy more than a field. Whatever the bytes are, they end in a record or
in a `WireError`: a length beyond the frame is found by the final bound check, since positions only grow; a vector's
count is checked before the first element, so that no count can make a loop or a list longer than the frame.
"""

from __future__ import annotations

import linecache
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any, Generic, NamedTuple, TypeVar, cast, get_args, get_origin, get_type_hints

from ..errors import WireError
from .primitives import JAVA_TEXT, Blob, Scalar, Sequence, Text

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Codec(Generic[R]):
    """Both directions of one record.

    Attributes:
        name: the record's name, for error messages.
        encode: record to bytes, without header or length. Raises `WireError`.
        decode: (bytes, position, end of the frame) to (record, position after it). Raises `WireError`.
    """

    name: str
    encode: Callable[[R], bytes]
    decode: Callable[[bytes, int, int], tuple[R, int]]


class Layout(NamedTuple):
    """A record's fields in wire order, as kinds of `primitives.py`, nested layouts, or vectors of either."""

    cls: type[Any]
    fields: tuple[tuple[str, Any], ...]


class VectorOf(NamedTuple):
    """A vector field and the kind of its elements."""

    element: Any
    nullable: bool


_layouts: dict[type[Any], Layout] = {}


def declare(cls: type[Any], **kinds: Any) -> None:
    """Gives the wire layout of a `NamedTuple` that carries no wire annotations (the public values)."""
    names: tuple[str, ...] = cls._fields
    if tuple(kinds) != names:
        raise TypeError(f"layout of {cls.__name__} must name the fields {names}, not {tuple(kinds)}")
    _layouts[cls] = _layout(cls, kinds)


def layout_of(cls: type[Any]) -> Layout:
    """The layout of a record class, from its annotations unless `declare` gave one."""
    layout = _layouts.get(cls)
    if layout is None:
        layout = _layouts[cls] = _layout(cls, get_type_hints(cls, include_extras=True))
    return layout


def _layout(cls: type[Any], hints: dict[str, Any]) -> Layout:
    names: tuple[str, ...] = getattr(cls, "_fields", ())
    if not names:
        # A vector of such records could have any count in no bytes at all.
        raise TypeError(f"{cls.__name__} has no fields, so it is no record")
    return Layout(cls, tuple((name, _kind(hints[name])) for name in names))


def _kind(hint: Any) -> Any:
    if hint is str:
        return Text(nullable=False)
    if hasattr(hint, "_fields"):
        return layout_of(hint)
    metadata: tuple[Any, ...] = getattr(hint, "__metadata__", ())
    for kind in metadata:
        if isinstance(kind, (Scalar, Text, Blob)):
            return kind
        if isinstance(kind, Sequence):
            return VectorOf(_element_kind(hint.__origin__), kind.nullable)
    raise TypeError(f"{hint!r} is no wire type")


def _element_kind(hint: Any) -> Any:
    if get_origin(hint) is list:
        return _kind(get_args(hint)[0])
    for choice in get_args(hint):
        if get_origin(choice) is list:
            return _kind(get_args(choice)[0])
    raise TypeError(f"{hint!r} is no list")


def _min_size(kind: Any) -> int:
    if isinstance(kind, Scalar):
        return struct.calcsize(">" + kind.code)
    if isinstance(kind, Layout):
        return sum(_min_size(field) for _, field in kind.fields)
    return 4


class _Source:
    """Lines of one generated function and the names it uses."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            "WireError": WireError,
            "new": cast("Any", tuple).__new__,
            "StructError": struct.error,
        }
        self._count = 0

    def emit(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def fresh(self, prefix: str, value: Any = None) -> str:
        self._count += 1
        name = f"{prefix}{self._count}"
        if value is not None:
            self.names[name] = value
        return name

    def compiled(self, label: str, namespace: dict[str, Any]) -> CodeType:
        """The code of the function, which is to run in this namespace."""
        text = "\n".join(self.lines) + "\n"
        filename = f"<terzetto codec {label}>"
        namespace |= self.names
        exec(compile(text, filename, "exec"), namespace)
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        function: FunctionType = namespace["generated"]
        return function.__code__


def _first_call(*arguments: Any, compiled: Callable[[], Callable[..., Any]]) -> Any:
    return compiled()(*arguments)


def _generated(label: str, write: Callable[[], _Source]) -> Callable[..., Any]:
    """A function that writes and compiles itself when it is first called.

    It stays the same object, so whoever holds it pays nothing for that from the second call on. Two threads may compile
    it at once: both come to the same.
    """
    function = FunctionType(_first_call.__code__, {}, "generated")

    def compiled() -> Callable[..., Any]:
        function.__code__ = write().compiled(label, function.__globals__)
        return function

    function.__kwdefaults__ = {"compiled": compiled}
    return function


class _Decoding:
    """Writes a decoder. Fixed-width fields wait in `_run` until something of variable width ends the run."""

    def __init__(self, source: _Source, record: str) -> None:
        self._source = source
        self._record = record
        self._run: list[tuple[str, str]] = []

    def _flush(self, depth: int) -> None:
        if not self._run:
            return
        packed = struct.Struct(">" + "".join(code for code, _ in self._run))
        targets = "".join(f"{name}, " for _, name in self._run)
        unpack = self._source.fresh("unpack", packed.unpack_from)
        self._source.emit(depth, f"{targets}= {unpack}(data, pos)")
        self._source.emit(depth, f"pos += {packed.size}")
        self._run = []

    def field(self, kind: Any, depth: int, path: str) -> str:
        """Emits what reads one field; returns the expression for its value, valid after the next flush."""
        if isinstance(kind, Scalar):
            name = self._source.fresh("v")
            self._run.append((kind.code, name))
            return name
        if isinstance(kind, Layout):
            return self._record_field(kind, depth, path)
        if isinstance(kind, VectorOf):
            return self._vector(kind, depth, path)
        return self._variable(kind, depth, path)

    def _record_field(self, layout: Layout, depth: int, path: str) -> str:
        cls = self._source.fresh("cls", layout.cls)
        if all(isinstance(kind, Scalar) for _, kind in layout.fields):
            self._flush(depth)
            packed = struct.Struct(">" + "".join(kind.code for _, kind in layout.fields))
            unpack = self._source.fresh("unpack", packed.unpack_from)
            name = self._source.fresh("v")
            self._source.emit(depth, f"{name} = new({cls}, {unpack}(data, pos))")
            self._source.emit(depth, f"pos += {packed.size}")
            return name
        values = [self.field(kind, depth, f"{path}.{name}") for name, kind in layout.fields]
        return f"new({cls}, ({', '.join(values)},))"

    def _variable(self, kind: Any, depth: int, path: str) -> str:
        length, value = self._source.fresh("n"), self._source.fresh("v")
        self._run.append(("i", length))
        self._flush(depth)
        emit = self._source.emit
        emit(depth, f"if {length} >= 0:")
        as_text = "" if isinstance(kind, Blob) else f".decode('utf-8', {JAVA_TEXT!r})"
        emit(depth + 1, f"{value} = data[pos:pos + {length}]{as_text}")
        emit(depth + 1, f"pos += {length}")
        if isinstance(kind, Blob) or kind.nullable:
            emit(depth, f"elif {length} == -1:")
            emit(depth + 1, f"{value} = None")
        emit(depth, "else:")
        emit(depth + 1, f"raise WireError(f'length {{{length}}} of {path} at byte {{pos - 4}} is not allowed')")
        return value

    def _vector(self, vector: VectorOf, depth: int, path: str) -> str:
        count, value = self._source.fresh("n"), self._source.fresh("v")
        self._run.append(("i", count))
        self._flush(depth)
        emit = self._source.emit
        emit(depth, f"if {count} < -1 or {count} * {_min_size(vector.element)} > end - pos:")
        emit(depth + 1, f"raise WireError(f'count {{{count}}} of {path} at byte {{pos - 4}} does not fit its frame')")
        emit(depth, f"{value} = {f'None if {count} < 0 else []' if vector.nullable else '[]'}")
        emit(depth, f"for _ in range({count}):")
        element = self.field(vector.element, depth + 1, f"{path}[]")
        self._flush(depth + 1)
        emit(depth + 1, f"{value}.append({element})")
        return value

    def finish(self, depth: int) -> None:
        self._flush(depth)


def _write_decoder(layout: Layout) -> _Source:
    source = _Source()
    name = layout.cls.__name__
    source.emit(0, "def generated(data, pos, end):")
    source.emit(1, "try:")
    decoding = _Decoding(source, name)
    values = [decoding.field(kind, 2, f"{name}.{field}") for field, kind in layout.fields]
    decoding.finish(2)
    source.emit(1, "except (StructError, UnicodeDecodeError, OverflowError) as error:")
    source.emit(2, f"raise WireError(f'malformed or truncated {name} at byte {{pos}}: {{error}}') from error")
    source.emit(1, "if pos > end:")
    source.emit(2, f"raise WireError(f'{name} is {{pos - end}} bytes longer than its frame')")
    cls = source.fresh("cls", layout.cls)
    source.emit(1, f"return new({cls}, ({''.join(value + ', ' for value in values)})), pos")
    return source


class _Encoding:
    """Writes an encoder: statements that turn variable fields into bytes, then one concatenation of packed runs."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._run: list[tuple[str, str]] = []
        self.parts: list[tuple[str, list[str]]] = []
        self.fixed = 0
        self.variable: list[str] = []

    def scalar(self, code: str, value: str) -> None:
        self._run.append((code, value))
        self.fixed += struct.calcsize(">" + code)

    def _flush(self) -> None:
        if self._run:
            packed = struct.Struct(">" + "".join(code for code, _ in self._run))
            self.parts.append((self._source.fresh("pack", packed.pack), [value for _, value in self._run]))
            self._run = []

    def field(self, kind: Any, value: str, depth: int) -> None:
        emit = self._source.emit
        if isinstance(kind, Scalar):
            self.scalar(kind.code, value)
        elif isinstance(kind, Layout):
            names = [self._source.fresh("f") for _ in kind.fields]
            emit(depth, f"{''.join(name + ', ' for name in names)}= {value}")
            for name, (_, inner) in zip(names, kind.fields, strict=True):
                self.field(inner, name, depth)
        elif isinstance(kind, VectorOf):
            self._vector(kind, value, depth)
        else:
            self._variable(kind, value, depth)

    def _variable(self, kind: Any, value: str, depth: int) -> None:
        emit = self._source.emit
        raw, length = self._source.fresh("b"), self._source.fresh("n")
        if isinstance(kind, Blob) or kind.nullable:
            emit(depth, f"if {value} is None:")
            emit(depth + 1, f"{raw} = b''; {length} = -1")
            emit(depth, "else:")
            depth += 1
        if isinstance(kind, Blob):
            # Whatever else holds bytes may count its length in other units.
            emit(depth, f"{raw} = {value} if {value}.__class__ is bytes else bytes(memoryview({value}))")
        else:
            emit(depth, f"{raw} = {value}.encode()")
        emit(depth, f"{length} = len({raw})")
        self.scalar("i", length)
        self._bytes(raw)

    def _bytes(self, name: str) -> None:
        self._flush()
        self.parts.append((name, []))
        self.variable.append(name)

    def _vector(self, vector: VectorOf, value: str, depth: int) -> None:
        emit = self._source.emit
        items, item, joined = (self._source.fresh(prefix) for prefix in ("l", "i", "b"))
        count = self._source.fresh("n")
        emit(depth, f"{items} = []")
        unless_null = f"-1 if {value} is None else " if vector.nullable else ""
        emit(depth, f"{count} = {unless_null}len({value})")
        emit(depth, f"for {item} in {value} or ():")
        inner = _Encoding(self._source)
        inner.field(vector.element, item, depth + 1)
        emit(depth + 1, f"{items}.append({inner.expression()})")
        emit(depth, f"{joined} = b''.join({items})")
        self.scalar("i", count)
        self._bytes(joined)

    def expression(self, *, first: str | None = None) -> str:
        """The concatenation; `first` replaces the very first packed value, once all sizes are known."""
        self._flush()
        if first is not None:
            self.parts[0][1][0] = first
        terms = [f"{name}({', '.join(values)})" if values else name for name, values in self.parts]
        return " + ".join(terms) or "b''"


# A ValueError is text with a lone surrogate, or a nested record of another length.
_ENCODE_ERRORS = "(StructError, AttributeError, TypeError, ValueError)"


def _write_encoder(layout: Layout) -> _Source:
    source = _Source()
    name = layout.cls.__name__
    source.emit(0, "def generated(record):")
    source.emit(1, "try:")
    encoding = _Encoding(source)
    encoding.field(layout, "record", 2)
    source.emit(2, f"return {encoding.expression()}")
    # The values stay out of the message: an AuthPacket holds a password.
    source.emit(1, f"except {_ENCODE_ERRORS} as error:")
    source.emit(2, f"raise WireError(f'cannot encode {name}: {{error}}') from error")
    return source


def build_frame_encoder(opcode: int, record: type[Any] | None) -> Callable[..., bytes]:
    """An encoder of whole request frames: `frame(xid, *fields)` gives length, header and record in one piece."""
    label = f"request {opcode}" if record is None else record.__name__
    return _generated(f"frame {label} {opcode}", lambda: _write_frame_encoder(opcode, record, label))


def _write_frame_encoder(opcode: int, record: type[Any] | None, label: str) -> _Source:
    source = _Source()
    layout = Layout(tuple, ()) if record is None else layout_of(record)
    names = [f"arg_{name}" for name, _ in layout.fields]
    source.emit(0, f"def generated({', '.join(['xid', *names])}):")
    source.emit(1, "try:")
    encoding = _Encoding(source)
    encoding.scalar("i", "0")
    encoding.scalar("i", "xid")
    encoding.scalar("i", str(int(opcode)))
    for name, (_, kind) in zip(names, layout.fields, strict=True):
        encoding.field(kind, name, 2)
    size = " + ".join([str(encoding.fixed - 4), *(f"len({name})" for name in encoding.variable)])
    source.emit(2, f"return {encoding.expression(first=size)}")
    source.emit(1, f"except {_ENCODE_ERRORS} as error:")
    source.emit(2, f"raise WireError(f'cannot encode {label}: {{error}}') from error")
    return source


_codecs: dict[type[Any], Codec[Any]] = {}


def codec(cls: type[R]) -> Codec[R]:
    """The codec of a record class; built once. That a class is no record shows when the codec is first used."""
    found = _codecs.get(cls)
    if found is None:
        label = f"{cls.__module__}.{cls.__qualname__}"
        encode = _generated(f"encode {label}", lambda: _write_encoder(layout_of(cls)))
        decode = _generated(f"decode {label}", lambda: _write_decoder(layout_of(cls)))
        found = _codecs[cls] = Codec(cls.__name__, encode, decode)
    return found
