"""The view of a server: what the words and commands do not show of it by themselves."""

from __future__ import annotations

from pathlib import Path

import trio.testing

from terzetto.client.wire import operations as o
from terzetto.testcluster.config import ServerConfig
from terzetto.testcluster.journal import open_storage

from .shell import serving


async def test_snapshots_and_disk(tmp_path: Path) -> None:
    config = ServerConfig(client_port=0, data_dir=tmp_path, admin_enabled=False, preallocation_kb=0, text="a=b\n")
    async with serving(open_storage(config), config=config) as shell:
        view = shell.server.view
        client = await shell.connect()
        zxid, moment = view.last_snapshot
        assert (zxid, moment > 1.6e9) == (0, True)
        before = view.disk_sizes()
        await client.create("/a", bytes(1000))
        after = view.disk_sizes()
        assert all(later > earlier + 1000 for earlier, later in zip(before, after, strict=True))
        assert view.initial_configuration == "a=b\n"
        assert view.counters["snapshots"] == 1


async def test_bytes_are_counted(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        client = await shell.connect()
        counters = shell.server.view.counters
        await client.ask(o.EXISTS, "/", False)
        later = shell.server.view.counters
    assert later["bytes_received"] - counters["bytes_received"] == 4 + 8 + 4 + 1 + 1
    assert later["bytes_sent"] - counters["bytes_sent"] == 4 + 16 + 68


async def test_watches_of_both_tables_are_counted(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        one, two = await shell.connect(), await shell.connect()
        await one.ask(o.EXISTS, "/a", True)
        await two.ask(o.EXISTS, "/a", True)
        await two.ask(o.GET_CHILDREN, "/", True)
        assert shell.server.view.watch_counts() == (2, 1, 2, 3)
        await two.close()
        await trio.testing.wait_all_tasks_blocked()
        assert shell.server.view.watch_counts() == (1, 1, 1, 1)


async def test_time_goes_by(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as shell:
        before = shell.server.view.uptime_ms
        await trio.sleep(12.5)
        assert shell.server.view.uptime_ms - before == 12_500
