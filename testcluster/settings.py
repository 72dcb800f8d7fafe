"""What an operator decides about the state machine; every default is ZooKeeper's.

Values only: where they come from (a configuration file, an argument of `open_ensemble`) is the shell's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from terzetto.client.wire.primitives import DEFAULT_MAX_FRAME


class SaslExchange(Protocol):
    """The server's side of one SASL exchange."""

    @property
    def authorization_id(self) -> str | None:
        """Who the client has proved to be; `None` until the exchange is complete."""
        ...

    def step(self, token: bytes) -> bytes | None:
        """Answers the client's token.

        Raises:
            SaslError: the client failed to prove itself, or sent something after it had.
        """
        ...


class SaslError(Exception):
    """A SASL exchange failed; the message is for the server's log only."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The keys of zoo.cfg and the system properties that the state machine obeys.

    Attributes:
        server_id: highest byte of session ids; 1 for a standalone server.
        tick_ms: `tickTime`.
        min_session_timeout_ms: `minSessionTimeout`, two ticks when `None`.
        max_session_timeout_ms: `maxSessionTimeout`, twenty ticks when `None`.
        max_frame: `jute.maxbuffer`, longest request in bytes.
        extended_types: `extendedTypesEnabled`: whether TTL znodes can be created.
        enforce_quota: `enforceQuota`: whether hard limits refuse writes.
        skip_acl: `skipACL=yes`.
        reconfig_enabled: `reconfigEnabled`.
        digest_super: `zookeeper.DigestAuthenticationProvider.superDigest`.
        digest_algorithm: `zookeeper.DigestAuthenticationProvider.digestAlg`, as `hashlib` names it.
        digest_enabled: `zookeeper.DigestAuthenticationProvider.enabled`.
        sasl_acls: whether ACLs may name sasl ids (`authProvider.N=...SASLAuthenticationProvider`).
        sasl_anyone: `zookeeper.letAnySaslUserDoX`.
        sasl_super: `zookeeper.superUser`, and `zookeeper.superUser.N`.
        sasl_exchange: begins an exchange; `None` where SASL is not configured.
        sasl_failed_allowed: `zookeeper.allowSaslFailedClients`.
        x509_acls: whether ACLs may name certificate subjects.
        x509_super: `zookeeper.X509AuthenticationProvider.superUser`.
        required_schemes: `enforce.auth.schemes` where `enforce.auth.enabled`, ("sasl",) where
            `sessionRequireClientSASLAuth`: a connection without such an identity may only authenticate.
        session_secret: key of the session passwords; `None` computes them as ZooKeeper does, from public numbers.
        container_unused_ms: `znode.container.maxNeverUsedIntervalMs`, 0 keeps unused containers.
        tree_digest: `zookeeper.digest.enabled`.
    """

    server_id: int = 1
    tick_ms: int = 3000
    min_session_timeout_ms: int | None = None
    max_session_timeout_ms: int | None = None
    max_frame: int = DEFAULT_MAX_FRAME
    extended_types: bool = False
    enforce_quota: bool = False
    skip_acl: bool = False
    reconfig_enabled: bool = False
    digest_super: str | None = field(default=None, repr=False)
    digest_algorithm: str = "sha1"
    digest_enabled: bool = True
    sasl_acls: bool = False
    sasl_anyone: str | None = None
    sasl_super: tuple[str, ...] = ()
    sasl_exchange: Callable[[], SaslExchange] | None = None
    sasl_failed_allowed: bool = False
    x509_acls: bool = False
    x509_super: str | None = None
    required_schemes: tuple[str, ...] = ()
    session_secret: bytes | None = field(default=None, repr=False)
    container_unused_ms: int = 300_000
    tree_digest: bool = True

    def negotiated_timeout(self, wanted_ms: int) -> int:
        """The session timeout that a client gets."""
        shortest = 2 * self.tick_ms if self.min_session_timeout_ms is None else self.min_session_timeout_ms
        longest = 20 * self.tick_ms if self.max_session_timeout_ms is None else self.max_session_timeout_ms
        return max(shortest, min(wanted_ms, longest))
