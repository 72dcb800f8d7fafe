"""Services that register themselves and find each other: Curator's service discovery, in its layout and JSON.

An instance is a znode `<base>/<service>/<id>`. A registration keeps it in existence (`persistent_node`); a provider
keeps a copy of a service's instances (`_mirror`) and chooses among them. What an instance says is `_service_json`'s.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Protocol

import trio

from terzetto.client import NoNodeError, PlainNursery, ZooKeeper

from ._following import Latest, LatestStream, Standing, in_any_session
from ._mirror import TreeMirror
from ._service_json import ServiceInstance, ServiceType, UnreadableInstanceError, decode, encode
from ._znodes import join, native
from .persistent_node import PersistentNode

InstanceFilter = Callable[[ServiceInstance], bool]


class ServiceRegistry:
    """The services below one path.

    Args:
        client: the client.
        base_path: the znode below which the services stand.
        container: make missing parents as containers, as Curator does.
    """

    def __init__(self, client: ZooKeeper, base_path: str = "/services", *, container: bool = True) -> None:
        self.client = native(client)
        self.base_path = base_path
        self._container = container

    def register(self, instance: ServiceInstance) -> Registration:
        """`async with registry.register(instance) as registration:` registers it for the block.

        Raises:
            TypeError: a field of the instance has the wrong type, or the payload is nothing that JSON can hold.
            ValueError: a service or an instance cannot have such a name, or such a type be registered; a number is too
                large for Java.
        """
        return Registration(self.client, self.base_path, instance, container=self._container)

    def provider(
        self,
        name: str,
        choice: Choice | None = None,
        *,
        filters: Iterable[InstanceFilter] = (),
        metadata: Mapping[str, Any] | None = None,
        down_after: int = 2,
        down_for: float = 30.0,
    ) -> ServiceProvider:
        """A `ServiceProvider` of one of the services."""
        return ServiceProvider(
            self.client,
            self.base_path,
            name,
            choice,
            filters=filters,
            metadata=metadata,
            down_after=down_after,
            down_for=down_for,
        )

    async def names(self) -> list[str]:
        """Names of all services, in order, also of those without instances."""
        return sorted(await self._children(self.base_path))

    async def instances(self, name: str) -> list[ServiceInstance]:
        """All instances of a service that can be read, by id. Asks the server."""
        path = join(self.base_path, _checked("service", name))
        found = [await self._read(join(path, child)) for child in sorted(await self._children(path))]
        return [instance for instance in found if instance is not None]

    async def instance(self, name: str, instance_id: str) -> ServiceInstance | None:
        """One instance, `None` if it is not there or cannot be read. Asks the server."""
        return await self._read(
            join(join(self.base_path, _checked("service", name)), _checked("instance", instance_id))
        )

    async def _children(self, path: str) -> list[str]:
        try:
            return await in_any_session(self.client, self.client.get_children, path)
        except NoNodeError:
            return []

    async def _read(self, path: str) -> ServiceInstance | None:
        try:
            data, _ = await in_any_session(self.client, self.client.get, path)
            return decode(data)
        except (NoNodeError, UnreadableInstanceError):
            return None


class Registration(PersistentNode):
    """An instance that is registered for a block. Made by `ServiceRegistry.register`.

    After a lost session, or when somebody deletes it, it is registered again; nothing is cancelled. What an earlier
    process left under the same id is replaced at once. `is_present` and `wait_present()` tell whether it is there.

    Attributes:
        instance: what is registered.
    """

    _replaces_persistent = True

    def __init__(self, client: ZooKeeper, base_path: str, instance: ServiceInstance, *, container: bool = True) -> None:
        if instance.service_type is ServiceType.DYNAMIC_SEQUENTIAL:
            raise ValueError("an instance of type DYNAMIC_SEQUENTIAL cannot be found again by its id, so none is made")
        data = encode(instance)
        path = join(join(base_path, _checked("service", instance.name)), _checked("instance", instance.id))
        ephemeral = instance.service_type is ServiceType.DYNAMIC
        super().__init__(client, path, data, ephemeral=ephemeral, container=container)
        self.instance = instance

    async def update(self, instance: ServiceInstance) -> None:
        """Registers it with other contents: another payload, `enabled=False`, ...

        Raises:
            ValueError: it is another instance, or of another type; as `register`.
        """
        data = encode(instance)
        old = self.instance
        if (instance.name, instance.id, instance.service_type) != (old.name, old.id, old.service_type):
            raise ValueError(f"{old.id!r} of {old.name!r} cannot become {instance.id!r} of {instance.name!r}")
        self.instance = instance
        await self.set_data(data)


def _checked(what: str, name: str) -> str:
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"the name of a {what} must be a str, not {name!r}")
    if not name or "/" in name or name in (".", ".."):
        raise ValueError(f"{name!r} cannot be the name of a znode, so of no {what} either")
    return name


# Choosing -------------------------------------------------------------------------------------------------------------


class Choice(Protocol):
    """How a provider chooses."""

    def choose(self, instances: Sequence[ServiceInstance]) -> ServiceInstance:
        """One of the instances, of which there is at least one, ordered by id."""
        ...


class RoundRobinChoice:
    """One after the other."""

    def __init__(self) -> None:
        self._calls = count()

    def choose(self, instances: Sequence[ServiceInstance]) -> ServiceInstance:
        """See `Choice`."""
        return instances[next(self._calls) % len(instances)]


class RandomChoice:
    """Any, each as likely as the others."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()

    def choose(self, instances: Sequence[ServiceInstance]) -> ServiceInstance:
        """See `Choice`."""
        return self._rng.choice(instances)


class StickyChoice:
    """The same as long as it is offered, then another one.

    Args:
        first: how that one is chosen; at random if not given.
    """

    def __init__(self, first: Choice | None = None) -> None:
        self._first = first or RandomChoice()
        self._id: str | None = None

    def choose(self, instances: Sequence[ServiceInstance]) -> ServiceInstance:
        """See `Choice`."""
        for instance in instances:
            if instance.id == self._id:
                return instance
        chosen = self._first.choose(instances)
        self._id = chosen.id
        return chosen


_HEAVIEST = 1e300
"""Others write the weights: what is heavier counts as this, so that numbers without an end can be added up."""


class WeightedChoice:
    """At random, by weights. Where nobody has one above 0, all are as likely.

    Args:
        weight: of an instance: a function, or the key of a number in its metadata, 1 where that is missing.
        rng: source of chance.
    """

    def __init__(
        self, weight: Callable[[ServiceInstance], float] | str = "weight", rng: random.Random | None = None
    ) -> None:
        self._weight = weight
        self._rng = rng or random.Random()

    def _of(self, instance: ServiceInstance) -> float:
        if not isinstance(self._weight, str):
            weight: object = self._weight(instance)
        else:
            weight = instance.metadata.get(self._weight, 1)
        return float(min(max(0.0, weight), _HEAVIEST)) if isinstance(weight, (int, float)) else 1.0

    def choose(self, instances: Sequence[ServiceInstance]) -> ServiceInstance:
        """See `Choice`."""
        weights = [self._of(instance) for instance in instances]
        return self._rng.choices(instances, weights if sum(weights) > 0 else None)[0]


# Providing ------------------------------------------------------------------------------------------------------------


class ServiceProvider(Standing):
    """Chooses among the instances of a service: `async with ServiceProvider(zk, "/services", "web") as provider:`.

    It answers from a copy that follows the servers, and goes on answering from it without a connection: `age` says for
    how long. The copy is complete when the block begins. Needs servers from 3.6 on.

    Args:
        client: the client.
        base_path: the registry's.
        name: of the service.
        choice: how to choose; `RoundRobinChoice()` if not given.
        filters: functions of an instance that must all be true of what is offered.
        metadata: entries that the metadata of what is offered must have.
        down_after: errors that take an instance out.
        down_for: seconds from the first of these errors for which it is out.
    """

    def __init__(
        self,
        client: ZooKeeper,
        base_path: str,
        name: str,
        choice: Choice | None = None,
        *,
        filters: Iterable[InstanceFilter] = (),
        metadata: Mapping[str, Any] | None = None,
        down_after: int = 2,
        down_for: float = 30.0,
    ) -> None:
        if down_after < 1 or down_for < 0:
            raise ValueError(f"down_after must be at least 1 and down_for 0 s, not {down_after} and {down_for}")
        self.client = native(client)
        self.name = name
        self.path = join(base_path, _checked("service", name))
        self._choice = choice or RoundRobinChoice()
        self._filters = tuple(filters)
        self._wanted = dict(metadata or {})
        self._down_after = down_after
        self._down_for = down_for
        self._errors: dict[tuple[object, ...], tuple[int, float]] = {}
        self._known: dict[str, ServiceInstance] = {}
        self._unreadable: dict[str, str] = {}
        self._versions: dict[str, int] = {}
        self._latest = Latest(None)
        self._mirror: TreeMirror | None = None

    # What there is ----------------------------------------------------------------------------------------------------

    @property
    def age(self) -> float:
        """Seconds since the copy was last known to be up to date: 0.0 while connected."""
        return float("inf") if self._mirror is None else self._mirror.age

    @property
    def unreadable(self) -> Mapping[str, str]:
        """Ids of znodes that hold no instance, and why not."""
        return dict(self._unreadable)

    def all_instances(self) -> list[ServiceInstance]:
        """Every instance of the copy, by id: also those that are disabled, filtered out, or out for a while."""
        return [self._known[key] for key in sorted(self._known)]

    def instances(self) -> list[ServiceInstance]:
        """The instances that are offered, by id."""
        return [instance for instance in self.all_instances() if self._offers(instance)]

    def choose(self) -> ServiceInstance | None:
        """One of the instances that are offered, `None` without any."""
        offered = self.instances()
        return self._choice.choose(offered) if offered else None

    async def wait_instance(self) -> ServiceInstance:
        """As `choose`, and waits while there is none. A checkpoint.

        Raises:
            RuntimeError: the block has ended, without any.
        """
        await trio.lowlevel.checkpoint()
        while (chosen := self.choose()) is None:
            if self._latest.is_final:
                raise RuntimeError(f"no instance of {self.name!r} will come any more: the provider's block has ended")
            await self._latest.wait_changed()
        return chosen

    def changes(self) -> AsyncIterator[list[ServiceInstance]]:
        """The instances that are offered, now and after each change, as an async iterator that ends with the block.
        Slow readers skip some.
        """
        return LatestStream(self._latest, self.instances)

    # Errors -----------------------------------------------------------------------------------------------------------

    def note_error(self, instance: ServiceInstance) -> None:
        """The caller found the instance not to work. Enough of that takes it out for a while; a new registration
        clears it.
        """
        key = _identity(instance)
        noted, first = self._errors.get(key, (0, 0.0))
        now = trio.current_time()
        if not noted or now >= first + self._down_for:
            noted, first = 0, now
        self._errors[key] = (noted + 1, first)
        self._latest.tell()

    def _offers(self, instance: ServiceInstance) -> bool:
        noted, first = self._errors.get(_identity(instance), (0, 0.0))
        if noted >= self._down_after and trio.current_time() < first + self._down_for:
            return False
        metadata = instance.metadata
        return (
            instance.enabled
            and all(key in metadata and metadata[key] == value for key, value in self._wanted.items())
            and all(accepts(instance) for accepts in self._filters)
        )

    async def _forgive(self) -> None:
        """Tells of instances that are offered again because their time is over."""
        while True:
            first = min((first for _, first in self._errors.values()), default=float("inf"))
            with trio.move_on_at(first + self._down_for):
                await self._latest.wait_changed()
                continue
            now = trio.current_time()
            self._errors = {key: error for key, error in self._errors.items() if now < error[1] + self._down_for}
            self._latest.tell()

    # The copy ---------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """The copy may have changed: what has, is decoded."""
        assert self._mirror is not None
        present = {name: self._mirror.znodes[join(self.path, name)] for name in self._mirror.children(self.path)}
        versions = {name: znode.stat.mzxid for name, znode in present.items()}
        if versions == self._versions:
            return
        for name in self._versions.keys() - versions.keys():
            self._known.pop(name, None)
            self._unreadable.pop(name, None)
        for name, version in versions.items():
            if self._versions.get(name) != version:
                self._decode(name, present[name].data)
        self._versions = versions
        self._latest.tell()

    def _decode(self, name: str, data: bytes | None) -> None:
        self._known.pop(name, None)
        self._unreadable.pop(name, None)
        try:
            self._known[name] = decode(data)
        except UnreadableInstanceError as error:
            self._unreadable[name] = str(error)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        self._mirror = TreeMirror(self.client, self.path, depth=1, told=self._look)
        async with PlainNursery() as nursery:
            await nursery.start(self._mirror.follow)
            nursery.start_soon(self._forgive)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
                self._latest.finish()


def _identity(instance: ServiceInstance) -> tuple[object, ...]:
    # Others may leave out id and time.
    return instance.id, instance.registration_time_utc, instance.address, instance.port, instance.ssl_port
