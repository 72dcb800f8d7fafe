"""The values are the client's own."""

from __future__ import annotations

import kazoo.protocol.states as theirs

import terzetto.client as native
from terzetto.client.kazoo.protocol import states


def test_names_are_kazoos_and_objects_the_clients() -> None:
    public = {name for name in vars(theirs) if not name.startswith("_") and name != "namedtuple"}
    assert public <= set(vars(states))
    assert states.ZnodeStat is native.ZnodeStat
    assert states.Callback("watch", print, ()) == ("watch", print, ())
    for mine, other in ((states.KazooState, theirs.KazooState), (states.KeeperState, theirs.KeeperState)):
        for name in ("CONNECTED", "CONNECTED_RO", "CONNECTING", "CLOSED", "EXPIRED_SESSION", "SUSPENDED", "LOST"):
            assert getattr(mine, name, None) == getattr(other, name, None)
