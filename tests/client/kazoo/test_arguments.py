"""Arguments of operations: what raises at once, and what a server would have said."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import pytest

from terzetto.client.kazoo._arguments import bad_arguments, check_acls, check_bool, znode_path
from terzetto.client.kazoo.client import KazooClient
from terzetto.client.kazoo.exceptions import BadArgumentsError, ConfigurationError
from terzetto.client.kazoo.security import OPEN_ACL_UNSAFE


def test_paths_are_made_to_fit() -> None:
    assert [znode_path(path) for path in ("", "a", "//a//b/", "/a")] == ["/", "/a", "/a/b", "/a"]
    assert znode_path("/a/", trailing=True) == "/a/"
    with pytest.raises(ValueError, match="relative"):
        znode_path("/a/../b")
    with pytest.raises(TypeError):
        znode_path(b"/a")  # type: ignore[arg-type]


def test_flags_and_acls_have_their_types() -> None:
    check_bool("flag", True)
    with pytest.raises(TypeError, match="flag"):
        check_bool("flag", 1)
    assert check_acls("acl", None) == []
    assert check_acls("acl", tuple(OPEN_ACL_UNSAFE)) == OPEN_ACL_UNSAFE
    for wrong in (OPEN_ACL_UNSAFE[0], "world", {1}):
        with pytest.raises(TypeError, match="acl"):
            check_acls("acl", wrong)  # type: ignore[arg-type]


def test_what_a_server_would_refuse_is_told_by_the_result(client: KazooClient) -> None:
    for call in (client.create_async, client.exists_async, client.ensure_path_async, client.delete_async):
        result = call("/b\x00")
        assert isinstance(result, type(client.handler.async_result()))
        with pytest.raises(BadArgumentsError, match=r"U\+0000"):
            result.get(timeout=10)
    with pytest.raises(BadArgumentsError, match=r"U\+001E"):
        client.create("/a/\x1e", makepath=True)
    with pytest.raises(BadArgumentsError, match=r"U\+001E"):
        client.delete("/a/\x1e", recursive=True)
    # kazoo loses the connection, and a retry loses it again and again.
    with pytest.raises(BadArgumentsError, match=r"jute\.maxbuffer"):
        client.retry(client.create, "/large", bytes(2 * 1024 * 1024))
    assert client.get_children("/") == ["zookeeper"]


def test_an_error_of_ours_stays_what_it_is() -> None:
    ours = ConfigurationError("said already")
    assert bad_arguments(ours) is ours
    cause = ValueError("why")
    assert bad_arguments(cause).__cause__ is cause
