"""Connect strings, compared with kazoo's reading of them."""

from __future__ import annotations

import kazoo.hosts as theirs
import pytest

from terzetto.client.kazoo.exceptions import ConfigurationError
from terzetto.client.kazoo.hosts import collect_hosts


@pytest.mark.parametrize(
    "hosts",
    ["a:1,b", "[::1]:5/x", "a:1/x/y", "h:1/", "127.0.0.1:2181,127.0.0.2:2182", ["a:1", "b:2", "/c"], ["a:1"]],
)
def test_what_kazoo_reads_is_read_the_same(hosts: str | list[str]) -> None:
    assert collect_hosts(hosts) == theirs.collect_hosts(hosts)


@pytest.mark.parametrize("hosts", ["", "/x/a", "h:x", "h:99999", [], "h:"])
def test_what_cannot_be_read_is_named(hosts: str | list[str]) -> None:
    with pytest.raises(ConfigurationError, match="host") as caught:
        collect_hosts(hosts)
    assert isinstance(caught.value, ValueError)
