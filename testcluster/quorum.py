"""Who belongs to the ensemble, who votes, and which servers together are a quorum; and the text that says so.

Decides quorums, of a majority or of groups with weights. It knows no server's state: callers bring the set of those who
agree. The text is that of ZooKeeper's dynamic configuration, which notifications, NEWLEADER and `/zookeeper/config`
hold.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from .membership import Member, parse_member

_LINE = re.compile(r"([^=:\s]+)\s*[=:]\s*(.*)")
_VERSION_MAX = (1 << 63) - 1


@dataclass(frozen=True)
class QuorumConfig:
    """One configuration of an ensemble.

    Args:
        members: every server by its sid.
        version: zxid of the reconfiguration that made it, 0 for one that was never changed.
        groups: sids by group; where there are groups, quorums are majorities of groups by weight.
        weights: of servers in groups, 1 where not said.

    Attributes:
        voters: sids of the servers that vote.
        observers: sids of those that do not.

    Raises:
        ValueError: nobody votes, a voter belongs to no group or to two, or no group has any weight.
    """

    members: Mapping[int, Member]
    version: int = 0
    groups: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    weights: Mapping[int, int] = field(default_factory=dict[int, int])
    voters: frozenset[int] = field(init=False)
    observers: frozenset[int] = field(init=False)

    def __post_init__(self) -> None:
        voters = frozenset(sid for sid, member in self.members.items() if not member.observer)
        object.__setattr__(self, "voters", voters)
        object.__setattr__(self, "observers", frozenset(self.members) - voters)
        if not voters:
            raise ValueError("no server of the configuration votes")
        if self.groups:
            self._check_groups()

    def _check_groups(self) -> None:
        grouped = [sid for sids in self.groups.values() for sid in sids]
        if len(grouped) != len(set(grouped)):
            raise ValueError("a server belongs to two groups")
        missing = self.voters - set(grouped)
        if missing:
            raise ValueError(f"voters {sorted(missing)} belong to no group")
        if any(weight < 0 for weight in self.weights.values()):
            raise ValueError("a weight is negative")
        if not any(self._group_weights().values()):
            raise ValueError("no group has any weight")

    def _group_weights(self) -> dict[int, int]:
        return {
            group: sum(self.weight(sid) for sid in sids if sid in self.voters) for group, sids in self.groups.items()
        }

    def is_voter(self, sid: int) -> bool:
        """Whether a server has a vote."""
        return sid in self.voters

    def weight(self, sid: int) -> int:
        """What a server's vote weighs; one of weight 0 is never elected."""
        return self.weights.get(sid, 1) if self.groups else 1

    def has_quorum(self, sids: Collection[int]) -> bool:
        """Whether these servers together are a quorum; those that do not vote do not count."""
        agreeing = self.voters.intersection(sids)
        if not self.groups:
            return len(agreeing) * 2 > len(self.voters)
        weighty = {group: weight for group, weight in self._group_weights().items() if weight}
        won = sum(
            sum(self.weight(sid) for sid in self.groups[group] if sid in agreeing) * 2 > weight
            for group, weight in weighty.items()
        )
        return won * 2 > len(weighty)

    def text(self) -> str:
        """The configuration as ZooKeeper spells it."""
        lines = [str(self.members[sid]) for sid in sorted(self.members)]
        if self.groups:
            lines += [f"group.{group}={':'.join(map(str, self.groups[group]))}" for group in sorted(self.groups)]
            lines += [f"weight.{sid}={self.weight(sid)}" for sid in sorted(self.voters)]
        return "\n".join([*lines, f"version={self.version:x}"])


def parse_config(text: str) -> QuorumConfig:
    """Reads what `QuorumConfig.text`, or another server, has written. Unknown keys are left out.

    Raises:
        ValueError: it is no configuration of an ensemble.
    """
    members: dict[int, Member] = {}
    groups: dict[int, tuple[int, ...]] = {}
    weights: dict[int, int] = {}
    version = 0
    for line in map(str.strip, text.splitlines()):
        if not line or line[0] in "#!":
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{line!r} is no line of a configuration")
        key, value = match.groups()
        family, dot, number = key.partition(".")
        if key == "version":
            version = _hexadecimal(value)
        elif dot and family == "server":
            sid = _number(number)
            members[sid] = parse_member(sid, value)
        elif dot and family == "group":
            groups[_number(number)] = tuple(_number(sid) for sid in value.split(":"))
        elif dot and family == "weight":
            weights[_number(number)] = _number(value)
    return QuorumConfig(members, version, groups, weights)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise ValueError(f"{text!r} is no number")
    return int(text)


def _hexadecimal(text: str) -> int:
    if not re.fullmatch("[0-9a-fA-F]{1,16}", text) or int(text, 16) > _VERSION_MAX:
        raise ValueError(f"{text!r} is no version")
    return int(text, 16)
