"""The keys of a configuration that say how clients prove who they are, and what that is good for.

Decides what follows from them together: where passwords come from, which schemes there are, whether one of them must be
used. No message and no `repr` shows a password. Refuses to know how a client proves anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from terzetto.client.errors import ConfigurationError

from .jaas import SECTION, users_of

FAMILIES = frozenset({"authProvider", "saslUser", "superUser"})
"""Keys that are followed by a dot and a number, or by a name that the operator chooses."""

_PROVIDERS = {
    "X509AuthenticationProvider": "x509",
    "DigestAuthenticationProvider": "digest",
    "IPAuthenticationProvider": "ip",
    "SASLAuthenticationProvider": "sasl",
}
_SUPER = "super"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthSettings:
    """Who clients may be.

    Attributes:
        digest_offered: `DigestAuthenticationProvider.enabled`.
        sasl_users: password by name, for DIGEST-MD5; none switches SASL off.
        sasl_acls: whether ACLs may name sasl ids (`authProvider.N=...SASLAuthenticationProvider`).
        x509_acls: whether ACLs may name certificate subjects also where no port of this server's speaks TLS
            (`authProvider.N=...X509AuthenticationProvider`).
        sasl_anyone: `letAnySaslUserDoX`.
        sasl_super: `superUser`, and `superUser.N`.
        sasl_failed_allowed: `allowSaslFailedClients`.
        required_schemes: what a connection must have an identity of before it may do anything, any of these; from
            `sessionRequireClientSASLAuth`, `enforce.auth.enabled` and `enforce.auth.schemes`.
    """

    digest_offered: bool = True
    sasl_users: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    sasl_acls: bool = False
    x509_acls: bool = False
    sasl_anyone: str | None = None
    sasl_super: tuple[str, ...] = ()
    sasl_failed_allowed: bool = False
    required_schemes: tuple[str, ...] = ()


@dataclass(slots=True, kw_only=True)
class AuthReading:
    """Keys on their way into `AuthSettings`.

    Attributes:
        digest_offered: `DigestAuthenticationProvider.enabled`.
        login_file: `java.security.auth.login.config`.
        login_section: `sasl.serverconfig`.
        super_password: `SASLAuthenticationProvider.superPassword`.
        super_user: `superUser`.
        sasl_anyone: `letAnySaslUserDoX`.
        sasl_failed_allowed: `allowSaslFailedClients`.
        sasl_required: `sessionRequireClientSASLAuth`.
        is_enforced: `enforce.auth.enabled`.
        enforced_schemes: `enforce.auth.schemes`.
    """

    digest_offered: bool = True
    login_file: Path | None = None
    login_section: str | None = None
    super_password: str | None = field(default=None, repr=False)
    super_user: str | None = None
    sasl_anyone: str | None = None
    sasl_failed_allowed: bool = False
    sasl_required: bool = False
    is_enforced: bool = False
    enforced_schemes: tuple[str, ...] = ()
    _users: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    _supers: list[str] = field(default_factory=list[str])
    _schemes: set[str] = field(default_factory=set[str])

    def take(self, family: str, rest: str, value: str) -> None:
        """One key of a family.

        Raises:
            ValueError: the value cannot be used; never shows a password.
        """
        if family == "authProvider":
            scheme = _PROVIDERS.get(value.rpartition(".")[2])
            if scheme is None:
                raise ValueError(f"is not offered here; known are {', '.join(_PROVIDERS)}")
            self._schemes.add(scheme)
        elif not rest or not value:
            raise ValueError("must not be empty")
        elif family == "saslUser":
            self._users[rest] = value
        else:
            self._supers.append(value)

    def finish(self, mistake: Callable[[str, str], None], notice: Callable[[str, str], None]) -> AuthSettings:
        """What the keys say together. `mistake` and `notice` take a key and what is to be said of it."""
        users = self._with_super_password(self._all_users(mistake), notice)
        return AuthSettings(
            digest_offered=self.digest_offered,
            sasl_users=users,
            sasl_acls="sasl" in self._schemes,
            x509_acls="x509" in self._schemes,
            sasl_anyone=self.sasl_anyone,
            sasl_super=(*(() if self.super_user is None else (self.super_user,)), *self._supers),
            sasl_failed_allowed=self.sasl_failed_allowed,
            required_schemes=self._required(users, mistake),
        )

    def _required(self, users: Mapping[str, str], mistake: Callable[[str, str], None]) -> tuple[str, ...]:
        if not self.sasl_required and not self.is_enforced:
            return ()
        key = "sessionRequireClientSASLAuth" if self.sasl_required else "enforce.auth.schemes"
        required = ("sasl",) if self.sasl_required else self.enforced_schemes
        if not required:
            mistake("enforce.auth.enabled", "needs enforce.auth.schemes")
        there = self._schemes | {"ip", "digest"}
        if not self.digest_offered:
            there.discard("digest")
        for scheme in required:
            if scheme not in there:
                mistake(key, f"asks for {scheme}, which needs its authProvider")
            elif scheme == "sasl" and not users:
                mistake(key, "asks for sasl, but no user is in java.security.auth.login.config or saslUser.NAME")
        return required

    def _all_users(self, mistake: Callable[[str, str], None]) -> dict[str, str]:
        path = self.login_file
        if path is None:
            if self.login_section is not None:
                mistake("sasl.serverconfig", "needs java.security.auth.login.config")
            return self._users
        key = "java.security.auth.login.config"
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            mistake(key, f"names {path}, which cannot be read: {error.strerror}")
            return self._users
        except UnicodeDecodeError:
            mistake(key, f"names {path}, which is no UTF-8")
            return self._users
        try:
            users = users_of(text, str(path), self.login_section or SECTION)
        except ConfigurationError as error:
            mistake(key, f"cannot be used: {error}")
            return self._users
        for name in sorted(users.keys() & self._users.keys()):
            mistake(f"saslUser.{name}", f"is in {path} too")
        return {**users, **self._users}

    def _with_super_password(self, users: dict[str, str], notice: Callable[[str, str], None]) -> dict[str, str]:
        password = self.super_password
        if password is None:
            return users
        if _SUPER not in users:
            # As in ZooKeeper: it replaces a password, and makes no user.
            notice("SASLAuthenticationProvider.superPassword", "has no effect: there is no user super")
            return users
        return {**users, _SUPER: password}
