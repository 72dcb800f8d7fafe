"""ACLs, compared with kazoo's."""

from __future__ import annotations

import kazoo.security as theirs

from terzetto.client.kazoo import security


def test_the_names_and_values_are_kazoos() -> None:
    for name in security.__all__:
        assert hasattr(theirs, name)
    assert security.make_digest_acl_credential("u", "p") == theirs.make_digest_acl_credential("u", "p")
    for flags in ({"all": True}, {"read": True, "admin": True}, {}):
        mine, other = security.make_acl("digest", "x", **flags), theirs.make_acl("digest", "x", **flags)
        assert (mine.perms, tuple(mine.id), mine.acl_list) == (other.perms, tuple(other.id), other.acl_list)
