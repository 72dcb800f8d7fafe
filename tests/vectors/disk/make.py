"""Makes the golden data directories anew: `python -m tests.vectors.disk.make`.

Decides in which state the real server is killed. Every run changes every file, since times and session ids are the
run's own. Needs what `tests.interop` needs, and kazoo.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from tests.interop.zookeeper import SUPER_DIGEST, SUPER_DIGEST_PROPERTY, RealZooKeeper, ServerOptions

from . import FOLDER
from .workload import RawSession, read_tree, superuser, write_kinds, write_multis, write_refused

_KEPT = "version-2"
# The directory that each life leaves, and how it compresses its snapshots.
_LIVES = (("plain", ""), ("gzip", "gz"), ("snappy", "snappy"))


def _keep(server: RealZooKeeper, name: str, version: str, znodes: dict[str, Any]) -> None:
    target = FOLDER / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(server.directory / "data" / _KEPT, target / _KEPT)
    told = {
        "server": version,
        # czxid, mzxid and pzxid: the last write of each life changes a znode.
        "last_zxid": max(row["stat"][i] for row in znodes.values() for i in (0, 1, 10)),
        "znodes": znodes,
    }
    (target / "expected.json").write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{name}: {', '.join(sorted(path.name for path in (target / _KEPT).iterdir()))}")


def _write(zk: Any, raw: RawSession, number: int) -> None:
    """One life's worth of writes: enough for a snapshot or two, and some behind the last."""
    if number == 0:
        write_kinds(zk, raw)
        write_multis(zk)
        zk.create("/last", b"")
    zk.create(f"/life-{number}", f"life {number}".encode())
    zk.create(f"/life-{number}/ephemeral", b"", ephemeral=True)
    for i in range(20):
        zk.create(f"/life-{number}/{i}", bytes([i]) * i)
    write_refused(zk)
    zk.set("/last", str(number).encode())


def make() -> None:
    """Runs a server through its lives and keeps what was on its disk when it was killed, all sessions open."""
    options = ServerOptions(
        zoo_cfg={"extendedTypesEnabled": "true", "preAllocSize": 1, "snapCount": 24},
        jvm_properties={SUPER_DIGEST_PROPERTY: SUPER_DIGEST},
    )
    with tempfile.TemporaryDirectory() as folder:
        server = RealZooKeeper(options, directory=Path(folder) / "server")
        try:
            for number, (name, method) in enumerate(_LIVES):
                if method:
                    with (server.directory / "zoo.cfg").open("a") as configuration:
                        configuration.write(f"snapshot.compression.method={method}\n")
                server.start()
                server.wait_serving()
                version = server.version()
                with superuser(server.hosts) as zk, RawSession(server.port) as raw:
                    _write(zk, raw, number)
                    znodes = read_tree(zk)
                    server.kill()
                _keep(server, name, version, znodes)
        finally:
            server.close()


if __name__ == "__main__":
    make()
