"""Golden data directories: what a real Apache ZooKeeper server left on its disk, and the tree it served from it.

`directories()` is what a test needs. README.md describes the files, `make.py` makes them anew. Decides how files are
found and described; refuses to know any codec.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class GoldenZnode:
    """A znode as a client read it.

    Attributes:
        data: its data, `None` for null.
        stat: czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeralOwner, dataLength, numChildren, pzxid.
        acl: (perms, scheme, id) each.
    """

    data: bytes | None
    stat: tuple[int, ...]
    acl: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True)
class GoldenDirectory:
    """One data directory.

    Attributes:
        path: dataDir; the files are in its `version-2`.
        server: the release that wrote it.
        last_zxid: of the last transaction.
        znodes: by path, what clients saw last.
    """

    path: Path
    server: str
    last_zxid: int
    znodes: dict[str, GoldenZnode]


def directories() -> list[GoldenDirectory]:
    """All golden directories, by name."""
    return [_read(path) for path in sorted(FOLDER.glob("*/expected.json"))]


def _read(path: Path) -> GoldenDirectory:
    told = json.loads(path.read_text(encoding="utf-8"))
    return GoldenDirectory(path.parent, told["server"], told["last_zxid"], parse_znodes(told["znodes"]))


def parse_znodes(rows: dict[str, Any]) -> dict[str, GoldenZnode]:
    """Znodes in the form of expected.json, and of `workload.read_tree`."""
    return {path: _znode(row) for path, row in rows.items()}


def _znode(row: dict[str, Any]) -> GoldenZnode:
    data = None if row["data"] is None else base64.b64decode(row["data"])
    return GoldenZnode(data, tuple(row["stat"]), tuple((perms, scheme, who) for perms, scheme, who in row["acl"]))
