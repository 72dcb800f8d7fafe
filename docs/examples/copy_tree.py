"""Copies a tree of thousands of znodes with pipelines: one task, a handful of round trips for each level.

Run it against any ZooKeeper server: python copy_tree.py 127.0.0.1:2181
"""

from __future__ import annotations

import sys
from typing import TypeVar

import trio

from terzetto.client import NodeExistsError, PipelineResult, ZooKeeper, open_zookeeper

ROOT = "/example-copy"
T = TypeVar("T")


def unless_there(handle: PipelineResult[T]) -> bool:
    """Whether the znode was created; one that exists already is fine."""
    try:
        handle.result()
    except NodeExistsError:
        return False
    return True


async def copy_tree(zk: ZooKeeper, source: str, target: str) -> int:
    """Copies what stands below `source` to below `target`, level by level; returns how many znodes were created.

    The source must not change meanwhile. May be repeated after a `ConnectionLoss`: what exists already is left alone.
    """
    created, level = 0, [""]
    while level:
        async with zk.pipeline() as reading:
            listings = [await reading.get_children(source + path) for path in level]
        level = [f"{path}/{name}" for path, names in zip(level, listings, strict=True) for name in names.result()]
        async with zk.pipeline() as reading:
            contents = [await reading.get(source + path) for path in level]
        async with zk.pipeline() as writing:
            copies = [
                await writing.create(target + path, content.result()[0])
                for path, content in zip(level, contents, strict=True)
            ]
        created += sum(unless_there(copy) for copy in copies)
    return created


async def main(hosts: str) -> None:
    """Makes a tree, copies it, and looks at the copy."""
    async with open_zookeeper(hosts) as zk:
        await zk.ensure_path(f"{ROOT}/from")
        await zk.ensure_path(f"{ROOT}/to")
        async with zk.pipeline() as pipeline:
            for group in range(20):
                await pipeline.create(f"{ROOT}/from/{group}")
                for item in range(100):
                    await pipeline.create(f"{ROOT}/from/{group}/{item}", f"{group}-{item}".encode())

        began = trio.current_time()
        created = await copy_tree(zk, f"{ROOT}/from", f"{ROOT}/to")
        print(f"{created} znodes copied in {trio.current_time() - began:.2f} s")
        assert created == 20 + 20 * 100
        assert await copy_tree(zk, f"{ROOT}/from", f"{ROOT}/to") == 0

        data, _ = await zk.get(f"{ROOT}/to/7/42")
        assert data == b"7-42"
        await zk.delete(ROOT, recursive=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:2181")
