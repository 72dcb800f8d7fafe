"""Paths: every rule of ZooKeeper's with its boundaries, chroots both ways, and the numbers of sequential znodes."""

from __future__ import annotations

from typing import Any

import kazoo.client
import kazoo.protocol.paths
import pytest
from hypothesis import given, strategies as st

from terzetto.client.paths import (
    Chroot,
    basename,
    check_create_path,
    check_path,
    is_valid,
    join,
    parent,
    sequence_number,
)

from .wire.strategies import PATIENT

FORBIDDEN = [(0x0000, 0x001F), (0x007F, 0x009F), (0xD800, 0xF8FF), (0xFFF0, 0xFFFF), (0x10000, 0x10FFFF)]
TRICKY = st.text(
    st.sampled_from("/.a1-\0\x1f\x7f\x9f\xa0\ud7ff\ud800\uf8ff\uf900\uffef\ufff0\uffff\U0001f600"), max_size=8
)
ELEMENTS = st.text(st.sampled_from("ab.-1\u00e9\ud7ff"), min_size=1, max_size=4).filter(
    lambda name: name not in (".", "..")
)
PATHS = st.lists(ELEMENTS, max_size=4).map(lambda names: "/" + "/".join(names))


def _allowed(character: str) -> bool:
    return not any(low <= ord(character) <= high for low, high in FORBIDDEN)


def _by_the_book(path: str) -> bool:
    """ZooKeeper's rules, one after the other."""
    if path == "/":
        return True
    if not path.startswith("/") or path.endswith("/"):
        return False
    return all(map(_allowed, path)) and not any(name in ("", ".", "..") for name in path[1:].split("/"))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a",
        "/a/b",
        "/a b",
        "/...",
        "/a/...",
        "/.a",
        "/a.",
        "/..a",
        "/a..",
        "/.../..b",
        "/\u00e9",
        "/a/\u65e5\u672c",
    ],
)
def test_a_valid_path_comes_back(path: str) -> None:
    assert check_path(path) is path
    assert is_valid(path)


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "it is empty"),
        ("a", "it must start with '/'"),
        ("a/b", "it must start with '/'"),
        ("./a", "it must start with '/'"),
        ("a/", "it must start with '/'"),
        ("/a/", "it must not end with '/'"),
        ("//", "it must not end with '/'"),
        ("/a//", "it must not end with '/'"),
        ("//a", "it has an empty element ('//')"),
        ("/a//b", "it has an empty element ('//')"),
        ("/.", "relative element '.' is not allowed"),
        ("/a/.", "relative element '.' is not allowed"),
        ("/./a", "relative element '.' is not allowed"),
        ("/..", "relative element '..' is not allowed"),
        ("/a/../b", "relative element '..' is not allowed"),
        ("/a/..", "relative element '..' is not allowed"),
        ("/a\0", "character U+0000 at index 2 is not allowed"),
        ("/a\n", "character U+000A at index 2 is not allowed"),
        ("\n", "character U+000A at index 0 is not allowed"),
        ("/\ud800", "character U+D800 at index 1 is not allowed"),
        ("/ab\U0001f600", "character U+1F600 at index 3 is not allowed"),
    ],
)
def test_an_invalid_path_is_refused_by_its_rule(path: str, rule: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid path ") as caught:
        check_path(path)
    assert str(caught.value) == f"invalid path {path!r}: {rule}"
    assert not is_valid(path)


@pytest.mark.parametrize("path", [None, b"/a", 5, ["/a"]])
def test_a_path_is_a_str(path: Any) -> None:
    with pytest.raises(TypeError, match=f"path must be a str, not {type(path).__name__}: "):
        check_path(path)
    with pytest.raises(TypeError, match=f"path must be a str, not {type(path).__name__}: "):
        check_create_path(path, sequence=True)
    with pytest.raises(TypeError, match=f"path must be a str, not {type(path).__name__}: "):
        check_create_path(path, sequence=False)


def test_the_name_of_an_argument_is_told() -> None:
    with pytest.raises(ValueError, match=r"^invalid prefix 'a': "):
        check_path("a", "prefix")
    with pytest.raises(TypeError, match=r"^prefix must be a str"):
        check_path(1, "prefix")  # type: ignore[arg-type]


@pytest.mark.parametrize(("low", "high"), FORBIDDEN)
def test_boundaries_of_forbidden_characters(low: int, high: int) -> None:
    for code in (low, high):
        with pytest.raises(ValueError, match=f"character U\\+{code:04X} at index 2 is not allowed"):
            check_path(f"/a{chr(code)}b")
    for code in (low - 1, high + 1):
        if 0 <= code <= 0x10FFFF and _allowed(chr(code)):
            assert check_path(f"/a{chr(code)}b")


def test_every_character_of_the_basic_plane() -> None:
    for code in range(0x10000):
        if code != ord("/"):
            assert bool(is_valid(f"/a{chr(code)}")) == _allowed(chr(code)), f"U+{code:04X}"


@PATIENT
@given(path=TRICKY | PATHS | TRICKY.map(lambda text: "/" + text))
def test_any_text_is_judged_by_the_book(path: str) -> None:
    assert bool(is_valid(path)) == _by_the_book(path)
    if _by_the_book(path):
        assert check_path(path) == path
    else:
        with pytest.raises(ValueError, match=r"^invalid path"):
            check_path(path)


@pytest.mark.parametrize("tail", ["", "\0", "/", "/.", "//b"])
def test_a_long_path_is_judged_without_backtracking(tail: str) -> None:
    for path in ("/" + "a" * 200_000, "/a" * 100_000, "/.a" * 60_000, "/" + "." * 200_000):
        assert bool(is_valid(path + tail)) == (tail == "")


# Sequential znodes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/a/lock-", "/a/.", "/a/.."])
def test_a_sequential_path_is_judged_with_its_number(path: str) -> None:
    assert check_create_path(path, sequence=True) is path


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "it must start with '/'"),
        ("a/", "it must start with '/'"),
        ("//", "it has an empty element"),
        ("/a//", "it has an empty element"),
        ("/./", "relative element '.'"),
        ("/a/../b-", "relative element '..'"),
        ("/a\0", "character U\\+0000 at index 2"),
    ],
)
def test_an_invalid_sequential_path_is_refused(path: str, rule: str) -> None:
    with pytest.raises(ValueError, match=f"for a sequential znode: {rule}") as caught:
        check_create_path(path, sequence=True)
    assert f"invalid path {path!r} for" in str(caught.value)


@PATIENT
@given(path=TRICKY | PATHS | PATHS.map(lambda path: path + "/"))
def test_a_sequential_path_is_valid_when_what_the_server_makes_of_it_is(path: str) -> None:
    if _by_the_book(path + "0000000001"):
        assert check_create_path(path, sequence=True) == path
    else:
        with pytest.raises(ValueError, match="invalid path"):
            check_create_path(path, sequence=True)


def test_an_ordinary_path_to_be_created_is_judged_as_it_is() -> None:
    assert check_create_path("/a", sequence=False) == "/a"
    with pytest.raises(ValueError, match="it must not end with '/'"):
        check_create_path("/a/", sequence=False)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("lock-0000000001", 1),
        ("/a/b/lock-0000000001", 1),
        ("/a/0000000004", 4),
        ("0000000000", 0),
        ("lock2147483647", 2147483647),
        ("lock-2147483647", 2147483647),
        ("lock--2147483648", -2147483648),  # prefix "lock-" after 2**31 creations
        ("lock-2147483648", -2147483648),  # prefix "lock"
        ("-2147483648", -2147483648),
        ("lock--0000000007", 7),  # prefix "lock--"
        ("lock---2147483648", -2147483648),
        ("x12345678900000000012", 12),  # a prefix that ends in digits
        ("-0000000000", 0),
    ],
)
def test_the_number_of_a_sequential_znode(name: str, number: int) -> None:
    assert sequence_number(name) == number


@PATIENT
@given(prefix=TRICKY, number=st.integers(0, 2**31 - 1))
def test_any_number_is_read_back_from_behind_any_prefix(prefix: str, number: int) -> None:
    assert sequence_number(f"{prefix}{number:010d}") == number


@PATIENT
@given(prefix=TRICKY)
def test_the_overflow_is_read_back_from_behind_any_prefix(prefix: str) -> None:
    assert sequence_number(f"{prefix}{-(2**31):010d}") == -(2**31)


@pytest.mark.parametrize(
    "name",
    ["", "lock", "lock-000000001", "lock-0000000001 ", "lock-0000000001\n", "0000000001/", "lock-\u0661" + "0" * 9],
)
def test_a_name_without_a_number(name: str) -> None:
    with pytest.raises(ValueError, match="does not end in a sequence number of ten digits") as caught:
        sequence_number(name)
    assert repr(name) in str(caught.value)


# Parts of paths -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "above", "name"),
    [("/", "/", ""), ("/a", "/", "a"), ("/a/b", "/a", "b"), ("/a/b/c.d", "/a/b", "c.d")],
)
def test_parent_and_name(path: str, above: str, name: str) -> None:
    assert (parent(path), basename(path)) == (above, name)


@PATIENT
@given(path=PATHS)
def test_parent_and_name_make_the_path(path: str) -> None:
    assert join(parent(path), basename(path)) == path
    assert basename(path) == kazoo.protocol.paths.basename(path)


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("/",), "/"),
        (("/", "a"), "/a"),
        (("/a", "b"), "/a/b"),
        (("/a/", "b"), "/a/b"),
        (("/a", "/b"), "/a/b"),
        (("/a/", "/b/", "/c"), "/a/b/c"),
        (("/a", "b/c", "d"), "/a/b/c/d"),
        (("/a",), "/a"),
    ],
)
def test_parts_are_joined_with_one_slash(parts: tuple[str, ...], path: str) -> None:
    assert join(*parts) == path


# Chroots --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("root", [None, "", "/"])
def test_no_chroot_changes_nothing(root: str | None) -> None:
    chroot = Chroot(root)
    assert chroot.prefix == ""
    assert repr(chroot) == "Chroot('/')"
    for path in ("/", "/a", "/a/b"):
        assert chroot.absolute(path) == chroot.relative(path) == path
    assert chroot.absolute("/", sequence=True) == "/"


@pytest.mark.parametrize(
    ("path", "absolute"), [("/", "/app"), ("/a", "/app/a"), ("/a/b", "/app/a/b"), ("/app", "/app/app")]
)
def test_a_chroot_is_put_on_and_taken_off(path: str, absolute: str) -> None:
    chroot = Chroot("/app")
    assert repr(chroot) == "Chroot('/app')"
    assert chroot.absolute(path) == absolute
    assert chroot.relative(absolute) == path


def test_a_sequential_znode_of_the_views_root_is_made_inside_it() -> None:
    # Its number is appended to the path that is sent: "/app0000000000" would lie beside the chroot.
    chroot = Chroot("/app")
    assert chroot.absolute("/", sequence=True) == "/app/"
    assert chroot.absolute("/a-", sequence=True) == "/app/a-"
    assert chroot.absolute("/a/", sequence=True) == "/app/a/"
    assert chroot.relative("/app/0000000000") == "/0000000000"
    # kazoo's create does the same.
    assert kazoo.protocol.paths._prefix_root("/app", "/", trailing=True) == "/app/"


@pytest.mark.parametrize(
    "path", ["/", "/ap", "/app-other", "/app-other/x", "/apple", "/other/app", "/app2/app", "/ap/p"]
)
def test_a_path_outside_the_chroot_comes_back_unchanged(path: str) -> None:
    assert Chroot("/app").relative(path) == path


def test_kazoos_prefix_fault_is_absent() -> None:
    client = kazoo.client.KazooClient(hosts="127.0.0.1:1/app")
    assert client.unchroot("/app-other") == "-other"
    assert Chroot("/app").relative("/app-other") == "/app-other"


@PATIENT
@given(root=PATHS, path=PATHS)
def test_what_goes_out_through_a_chroot_comes_back_the_same(root: str, path: str) -> None:
    chroot = Chroot(root)
    absolute = chroot.absolute(path)
    assert check_path(absolute) == absolute
    assert chroot.relative(absolute) == path
    assert absolute == kazoo.protocol.paths._prefix_root(root, path)


@PATIENT
@given(root=PATHS, path=PATHS)
def test_only_paths_inside_a_chroot_lose_it(root: str, path: str) -> None:
    relative = Chroot(root).relative(path)
    inside = root == "/" or path == root or path.startswith(root + "/")
    assert check_path(relative) == relative
    assert Chroot(root).absolute(relative) == path if inside else relative == path


@pytest.mark.parametrize("root", ["app", "/app/", "//", "/a//b", "/a/.."])
def test_a_chroot_is_a_valid_path(root: str) -> None:
    with pytest.raises(ValueError, match="invalid chroot"):
        Chroot(root)


def test_a_chroot_has_no_other_state() -> None:
    with pytest.raises(AttributeError):
        Chroot("/app").other = 1  # type: ignore[attr-defined]
