"""The forms of a peer's work."""

from __future__ import annotations

from terzetto.testcluster.messages import PacketType, QuorumPacket
from terzetto.testcluster.ready import InstallSnapshot, Ready, SendPacket
from terzetto.testcluster.snapshot_body import SnapshotBody
from terzetto.testcluster.txns import decode_txn

from .bench import entry, zxid


def test_a_history_goes_on_behind_the_last_transaction_of_an_installation() -> None:
    body = SnapshotBody([], [], [])
    assert InstallSnapshot(zxid(2, 0), body, []).last_zxid == zxid(2, 0)
    assert InstallSnapshot(zxid(1, 2), body, [entry(zxid(1, 3)), entry(zxid(1, 4))]).last_zxid == zxid(1, 4)


def test_an_entry_is_one_transaction_in_two_forms() -> None:
    each = entry(zxid(1, 2))
    assert decode_txn(each.payload) == each.txn
    assert each.txn.header.zxid == each.zxid


def test_portions_share_nothing() -> None:
    one, other = Ready(1), Ready(2)
    one.sends.append(SendPacket(1, QuorumPacket(PacketType.PING, 0)))
    assert other.sends == []
