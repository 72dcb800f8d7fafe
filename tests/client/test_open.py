"""x"""
from __future__ import annotations
import trio
from .memory_server import MemoryEnsemble
async def test_x(ensemble: MemoryEnsemble) -> None:
    async with ensemble.open() as zk:
        await zk.create("/a", b"x")
        assert (await zk.get("/a"))[0] == b"x"
    assert not ensemble.realm.sessions
