"""Access control: which lists are well formed, who matches an entry, and the table of lists that a tree holds.

Decides whether a set of identities has a permission under a list. Which znode's list counts for an operation, and in
what order that is asked, is the preparer's and the reads' business; how a connection got an identity is `auth.py`'s.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Hashable, Iterable, Sequence
from typing import Protocol

from terzetto.client.values import ACL, ANYONE_ID_UNSAFE, OPEN_ACL_UNSAFE, Id, Permissions

from .codes import INVALID_ACL, Refused, Unprocessable
from .txns import SnapshotAcl

SUPER_ID = Id("super", "")
"""The identity that no list stops. A connection holds it, an ACL cannot name it."""


INDEXED_FROM = 16
"""Entries from which on a list is searched by way of an index. A client may store one of thirty thousand entries, and
then every request that names the znode, its own and others', would go through them all."""

_ANY = object()

Index = dict[tuple[str, Hashable], int]
"""Permissions by scheme and key (`Scheme.key`); all of a scheme's together under `_ANY`."""


class NodeAcl:
    """A list of entries as znodes share it. `everyone` has the permissions that the list gives to world:anyone."""

    __slots__ = ("acl_id", "entries", "everyone", "index", "uses")

    def __init__(self, acl_id: int, entries: tuple[ACL, ...]) -> None:
        self.acl_id = acl_id
        self.entries = entries
        self.index: Index | None = None
        self.uses = 0
        # A list without entries protects nothing.
        self.everyone = 0 if entries else -1
        for perms, who in entries:
            if who == ANYONE_ID_UNSAFE:
                self.everyone |= perms

    @property
    def is_undefined(self) -> bool:
        """Whether this stands for an id that a snapshot uses but does not define."""
        return self.entries == _UNDEFINED


OPEN_ACL = NodeAcl(-1, tuple(OPEN_ACL_UNSAFE))
"""What id -1 stands for: the znodes that every tree begins with."""

# Nobody but super gets in until replay gives the znode its list.
_UNDEFINED = (ACL(0, ANYONE_ID_UNSAFE),)


class AclTable:
    """The lists that a tree's znodes use, each once, under the ids that its snapshots use.

    A snapshot's znodes are copied later than its table and may use ids that the table lacks. The transaction that gave
    such a znode its list is then always among those to replay, and gives it again.
    """

    __slots__ = ("_by_entries", "_by_id", "_last_id")

    def __init__(self) -> None:
        self._by_entries: dict[tuple[ACL, ...], NodeAcl] = {}
        self._by_id: dict[int, NodeAcl] = {}
        self._last_id = 0

    def __len__(self) -> int:
        return len(self._by_id)

    def intern(self, acl: Iterable[ACL]) -> NodeAcl:
        """The shared list with these entries, used once more."""
        entries = tuple(acl)
        found = self._by_entries.get(entries)
        if found is None:
            self._last_id += 1
            found = self._by_id[self._last_id] = self._by_entries[entries] = NodeAcl(self._last_id, entries)
        found.uses += 1
        return found

    def release(self, acl: NodeAcl) -> None:
        """Undoes one use; a list that nothing uses is forgotten."""
        acl.uses -= 1
        if acl.uses <= 0 and acl is not OPEN_ACL:
            self._forget(acl)

    def _forget(self, acl: NodeAcl) -> None:
        self._by_id.pop(acl.acl_id, None)
        if self._by_entries.get(acl.entries) is acl:
            del self._by_entries[acl.entries]

    def dump(self) -> list[SnapshotAcl]:
        """The rows of a snapshot."""
        return [SnapshotAcl(acl.acl_id, list(acl.entries)) for acl in self._by_id.values()]

    def load(self, rows: Iterable[SnapshotAcl]) -> None:
        """Replaces everything by a snapshot's rows, none of them used."""
        self._by_entries.clear()
        self._by_id.clear()
        self._last_id = 0
        for acl_id, entries in rows:
            acl = NodeAcl(acl_id, tuple(entries or ()))
            self._by_id[acl_id] = acl
            self._by_entries[acl.entries] = acl
            self._last_id = max(self._last_id, acl_id)

    def use(self, acl_id: int) -> NodeAcl:
        """The list that a snapshot's znode names, used once more."""
        if acl_id == -1:
            return OPEN_ACL
        acl = self._by_id.get(acl_id)
        if acl is None:
            return self.intern(_UNDEFINED)
        acl.uses += 1
        return acl

    def purge(self) -> None:
        """Forgets every list that nothing uses (after a recovery)."""
        for acl in [acl for acl in self._by_id.values() if acl.uses <= 0]:
            self._forget(acl)


class Scheme(Protocol):
    """One way to name identities in a list."""

    @property
    def proves_identity(self) -> bool:
        """Whether the scheme `auth` in a list stands for identities of this one."""
        ...

    def is_valid(self, acl_id: str) -> bool:
        """Whether a list may hold this id."""
        ...

    def matches(self, held: str, acl_id: str) -> bool:
        """Whether the identity `held` is one that the entry speaks of."""
        ...

    def key(self, acl_id: str) -> Hashable:
        """What an entry is found by in an index."""
        ...

    def keys(self, held: str) -> Iterable[Hashable]:
        """The keys of all entries that speak of an identity: `matches` says the same of one entry."""
        ...

    def user(self, held: str) -> str:
        """The name that whoAmI shows for an identity."""
        ...


class DigestScheme:
    """user:base64(sha1(user:password)), compared as text."""

    proves_identity = True

    def is_valid(self, acl_id: str) -> bool:
        # Java's split drops empty parts at the end: "user:digest:" still has two.
        parts = acl_id.rstrip(":").split(":")
        return len(parts) == 2

    def matches(self, held: str, acl_id: str) -> bool:
        # How long it takes must not tell how much of a digest was guessed. (An index looks digests up by a keyed hash.)
        return hmac.compare_digest(_bytes(held), _bytes(acl_id))

    def key(self, acl_id: str) -> Hashable:
        return acl_id

    def keys(self, held: str) -> Iterable[Hashable]:
        return (held,)

    def user(self, held: str) -> str:
        return held.partition(":")[0]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


_NUMBER = re.compile(r"[+-]?[0-9]{1,10}\Z")


def _address(text: str) -> tuple[int, int] | None:
    """(number, bits) of an IPv4 or IPv6 address as the scheme `ip` reads it."""
    if ":" in text:
        return _address6(text)
    parts = text.split(".")
    if len(parts) != 4 or not all(_NUMBER.match(part) for part in parts):
        return None
    numbers = [int(part) for part in parts]
    if not all(0 <= number <= 255 for number in numbers):
        return None
    return int.from_bytes(bytes(numbers), "big"), 32


_GROUP = re.compile(r"[0-9a-fA-F]{1,4}\Z")


def _address6(text: str) -> tuple[int, int] | None:
    head, gap, tail = text.partition("::")
    left = head.split(":") if head else []
    right = tail.split(":") if tail else []
    missing = 8 - len(left) - len(right)
    if missing < 0 or (missing > 0) != bool(gap):
        return None
    groups = left + ["0"] * missing + right
    if not all(_GROUP.match(group) for group in groups):
        return None
    return int("".join(group.zfill(4) for group in groups), 16), 128


class IpScheme:
    """An address, or address/bits. IPv6 as in 3.9.4; an IPv4 entry never matches an IPv6 peer."""

    proves_identity = False

    @staticmethod
    def _network(acl_id: str) -> tuple[int, int, int] | None:
        text, slash, prefix = acl_id.partition("/")
        address = _address(text)
        if address is None:
            return None
        number, size = address
        bits = size
        if slash:
            if not _NUMBER.match(prefix):
                return None
            bits = int(prefix)
            if not 0 <= bits <= size:
                return None
        return number >> size - bits, bits, size

    def is_valid(self, acl_id: str) -> bool:
        return self._network(acl_id) is not None

    def matches(self, held: str, acl_id: str) -> bool:
        network = self._network(acl_id)
        address = _address(held)
        if network is None or address is None:
            return False
        prefix, bits, size = network
        number, held_size = address
        return held_size == size and number >> size - bits == prefix

    def key(self, acl_id: str) -> Hashable:
        return self._network(acl_id)

    def keys(self, held: str) -> Iterable[Hashable]:
        address = _address(held)
        if address is None:
            return ()
        number, size = address
        return [(number >> size - bits, bits, size) for bits in range(size + 1)]

    def user(self, held: str) -> str:
        return held


_PRINCIPAL = re.compile(r"[^/@]*(?:/[^/@]*)?@[^/@]*\Z")


class SaslScheme:
    """A name without "@", or a Kerberos principal.

    Args:
        anyone: the id in a list that every SASL identity matches (`zookeeper.letAnySaslUserDoX`), `None` for none.
    """

    proves_identity = True

    def __init__(self, anyone: str | None = None) -> None:
        self._anyone = anyone

    def is_valid(self, acl_id: str) -> bool:
        return "@" not in acl_id or _PRINCIPAL.match(acl_id) is not None

    def matches(self, held: str, acl_id: str) -> bool:
        return held in ("super", acl_id) or (self._anyone is not None and acl_id == self._anyone)

    def key(self, acl_id: str) -> Hashable:
        return acl_id

    def keys(self, held: str) -> Iterable[Hashable]:
        return (_ANY,) if held == "super" else (held, self._anyone)

    def user(self, held: str) -> str:
        return held


# Nothing here can match in two ways, so that no name takes long to refuse.
_VALUE = r'(?:\s*"(?:[^"\\]|\\.)*"\s*|(?:[^\\,;+="<>]|\\.)*)'
_RDN = rf"\s*[A-Za-z0-9.\-]+\s*={_VALUE}"
_DISTINGUISHED_NAME = re.compile(rf"(?:\s*|{_RDN}(?:[,;+]{_RDN})*)\Z", re.DOTALL)


class X509Scheme:
    """The subject of a client certificate, as an RFC 2253 name.

    Args:
        super_user: the subject that matches every entry, `None` for none.
    """

    proves_identity = True

    def __init__(self, super_user: str | None = None) -> None:
        self.super_user = super_user

    def is_valid(self, acl_id: str) -> bool:
        return _DISTINGUISHED_NAME.match(acl_id) is not None

    def matches(self, held: str, acl_id: str) -> bool:
        return held == acl_id or (self.super_user is not None and held == self.super_user)

    def key(self, acl_id: str) -> Hashable:
        return acl_id

    def keys(self, held: str) -> Iterable[Hashable]:
        return (held if self.super_user is None or held != self.super_user else _ANY,)

    def user(self, held: str) -> str:
        return held


class AccessRules:
    """Judges lists and identities with the schemes that a server has.

    Args:
        schemes: scheme by name; `world`, `auth` and `super` are part of the rules themselves.
        skip: no check at all (`skipACL=yes`).
    """

    def __init__(self, schemes: dict[str, Scheme], *, skip: bool = False) -> None:
        self.schemes = schemes
        self.skip = skip

    def allows(self, acl: NodeAcl, wanted: int, ids: Sequence[Id]) -> bool:
        """Whether one of the identities has one of the wanted permission bits."""
        if acl.everyone & wanted or self.skip:
            return True
        for held in ids:
            if held.scheme == "super":
                return True
        if len(acl.entries) >= INDEXED_FROM:
            return self._finds(self._indexed(acl), wanted, ids)
        for perms, (scheme, acl_id) in acl.entries:
            if perms & wanted:
                rules = self.schemes.get(scheme)
                if rules is not None and any(held == scheme and rules.matches(name, acl_id) for held, name in ids):
                    return True
        return False

    def _finds(self, index: Index, wanted: int, ids: Sequence[Id]) -> bool:
        for scheme, held in ids:
            rules = self.schemes.get(scheme)
            if rules is not None and any(index.get((scheme, key), 0) & wanted for key in rules.keys(held)):
                return True
        return False

    def _indexed(self, acl: NodeAcl) -> Index:
        index = acl.index
        if index is None:
            index = acl.index = {}
            for perms, (scheme, acl_id) in acl.entries:
                rules = self.schemes.get(scheme)
                if rules is not None:
                    for key in (rules.key(acl_id), _ANY):
                        index[scheme, key] = index.get((scheme, key), 0) | perms
        return index

    def fixed(self, acl: Sequence[ACL] | None, ids: Sequence[Id]) -> tuple[ACL, ...]:
        """The list that is stored for the one that a client sent: no duplicates, `auth` replaced by who the client is.

        Raises:
            Refused: the list is empty, or an entry is not valid.
            Unprocessable: an id is null where ZooKeeper needs one.
        """
        if not acl:
            raise Refused(INVALID_ACL)
        stored: list[ACL] = []
        for entry in dict.fromkeys(acl):
            perms, (scheme, acl_id) = entry
            if scheme is None:
                raise Refused(INVALID_ACL)
            if scheme == "auth":
                own = [ACL(perms, held) for held in ids if self._proves_identity(held.scheme)]
                if not own:
                    raise Refused(INVALID_ACL)
                stored += own
            else:
                if not self._is_valid(scheme, acl_id):
                    raise Refused(INVALID_ACL)
                stored.append(entry)
        return tuple(stored)

    def _proves_identity(self, scheme: str) -> bool:
        rules = self.schemes.get(scheme)
        return rules is not None and rules.proves_identity

    def _is_valid(self, scheme: str, acl_id: str | None) -> bool:
        rules = self.schemes.get(scheme)
        if acl_id is None and (rules is not None or scheme == "world"):
            raise Unprocessable("an ACL entry has a null id")
        if scheme == "world":
            return acl_id == "anyone"
        return rules is not None and acl_id is not None and rules.is_valid(acl_id)

    def visible(self, acl: NodeAcl, ids: Sequence[Id]) -> list[ACL]:
        """The list as getACL shows it: digests are hidden from those without ADMIN."""
        if self.allows(acl, Permissions.ADMIN, ids):
            return list(acl.entries)
        return [_hidden(entry) for entry in acl.entries]

    def users(self, ids: Sequence[Id]) -> list[tuple[str, str]]:
        """(scheme, name) of every identity, as whoAmI shows them."""
        shown: list[tuple[str, str]] = []
        for scheme, held in ids:
            rules = self.schemes.get(scheme)
            shown.append((scheme, "" if rules is None else rules.user(held)))
        return shown


def _hidden(entry: ACL) -> ACL:
    perms, (scheme, acl_id) = entry
    if scheme != "digest":
        return entry
    return ACL(perms, Id(scheme, re.sub(":.*", ":x", acl_id)))
