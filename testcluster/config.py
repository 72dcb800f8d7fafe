"""What a server is told: ZooKeeper's configuration keys as one frozen value, read from zoo.cfg or YAML.

Decides which keys exist, what their values may be and what follows from leaving them out. Every mistake of a file is
reported at once, each with file and line. Refuses to open ports or to touch the data directory beyond its `myid`.

Differences from ZooKeeper 3.8.0: an unknown or repeated key is an error there is none about; the keys that Java takes
only as -D properties (`jute.maxbuffer`, `readonlymode.enabled`, `znode.container.*`) may stand in the file;
`sessionSecretFile` and the `webSocket*` keys are terzetto's own.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from terzetto.client.errors import ConfigurationError
from terzetto.client.wire.primitives import DEFAULT_MAX_FRAME

from .config_auth import FAMILIES, AuthReading, AuthSettings
from .config_syntax import Setting, parse_properties, read_settings
from .config_tls import QuorumTlsSettings, TlsSettings
from .config_websocket import WebSocketSettings
from .membership import Member, parse_member
from .storage.compression import WRITTEN_METHODS
from .websocket_rules import Network, parse_networks

Parse = Callable[[str], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """A server's configuration. Defaults are ZooKeeper's; names carry their unit where the file's number has one.

    `data_dir` None keeps everything in memory, which no configuration file can ask for. `client_port` None is no plain
    port, 0 a free one; an empty address is every interface. `four_letter_words` may hold "*". `notices` are remarks on
    keys that have no effect here; `text` is what the file said.
    """

    data_dir: Path | None = None
    data_log_dir: Path | None = None
    client_port: int | None = None
    client_address: str = ""
    secure_client_port: int | None = None
    secure_client_address: str = ""
    listen_backlog: int = -1
    tick_ms: int = 3000
    init_limit: int = 0
    sync_limit: int = 0
    min_session_ms: int = -1
    max_session_ms: int = -1
    max_client_connections: int = 60
    max_connections: int = 0
    max_frame: int = DEFAULT_MAX_FRAME
    global_outstanding_limit: int = 1000
    sid: int = 0
    members: tuple[Member, ...] = ()
    groups: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])
    weights: Mapping[int, int] = field(default_factory=dict[int, int])
    observer: bool = False
    config_version: int = 0
    standalone_enabled: bool = True
    reconfig_enabled: bool = False
    listen_on_all_ips: bool = False
    sync_enabled: bool = True
    local_sessions: bool = False
    local_sessions_upgrading: bool = False
    read_only_mode: bool = False
    extended_types: bool = False
    enforce_quota: bool = False
    skip_acl: bool = False
    super_digest: str | None = field(default=None, repr=False)
    digest_algorithm: str = "SHA1"
    x509_super_user: str | None = None
    session_secret_file: Path | None = None
    snap_count: int = 100_000
    snap_size_limit_kb: int = 4_194_304
    log_size_limit_kb: int = -1
    preallocation_kb: int = 65_536
    force_sync: bool = True
    snapshot_compression: str = ""
    trust_empty_snapshot: bool = False
    trust_empty_database: bool = True
    digest_enabled: bool = True
    commit_log_count: int = 500
    purge_retain: int = 3
    purge_hours: int = 0
    container_check_ms: int = 60_000
    container_max_never_used_ms: int = 300_000
    handshake_timeout_ms: int = 10_000
    four_letter_words: frozenset[str] = frozenset({"srvr"})
    admin_enabled: bool = True
    admin_port: int = 8080
    admin_address: str = ""
    admin_url: str = "/commands"
    tls: TlsSettings = field(default_factory=TlsSettings)
    quorum_tls: QuorumTlsSettings = field(default_factory=QuorumTlsSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    websocket: WebSocketSettings = field(default_factory=WebSocketSettings)
    notices: tuple[str, ...] = ()
    text: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.tick_ms <= 0:
            raise ConfigurationError(f"tickTime must be positive, not {self.tick_ms}")
        if self.min_session_ms < 0:
            object.__setattr__(self, "min_session_ms", 2 * self.tick_ms)
        if self.max_session_ms < 0:
            object.__setattr__(self, "max_session_ms", 20 * self.tick_ms)
        if self.min_session_ms > self.max_session_ms:
            raise ConfigurationError(
                f"minSessionTimeout ({self.min_session_ms}) is above maxSessionTimeout ({self.max_session_ms})"
            )
        if self.data_log_dir is None:
            object.__setattr__(self, "data_log_dir", self.data_dir)

    @property
    def voters(self) -> tuple[Member, ...]:
        """The members with a vote."""
        return tuple(member for member in self.members if not member.observer)

    @property
    def is_standalone(self) -> bool:
        """Whether this server runs alone: no members, or one voter at most while `standaloneEnabled`."""
        return not self.members or (self.standalone_enabled and len(self.voters) <= 1 and len(self.members) <= 1)

    def allows_word(self, word: str) -> bool:
        """Whether a four letter word may be executed."""
        allowed = self.four_letter_words
        if word == "srvr" or (word == "isro" and self.read_only_mode):
            return True
        return "*" in allowed or word in allowed


# -- values


def _integer(low: int, high: int = 2**31 - 1) -> Parse:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"must be a whole number, not {text!r}") from None
        if not low <= number <= high:
            raise ValueError(f"must be between {low} and {high}, not {number}")
        return number

    return parse


def _choice(**meanings: Any) -> Parse:
    def parse(text: str) -> Any:
        if text.lower() not in meanings:
            raise ValueError(f"must be {' or '.join(meanings)}, not {text!r}")
        return meanings[text.lower()]

    return parse


def _never(reason: str, *off: str) -> Parse:
    """A switch that may only be off, because what it switches on is not offered here."""

    def parse(text: str) -> None:
        if text.lower() not in (off or ("false",)):
            raise ValueError(f"must be {' or '.join(off or ('false',))}: {reason}")

    return parse


def _text(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _path(text: str) -> Path:
    return Path(_text(text))


def _address(text: str) -> str:
    """A host; empty for every interface."""
    host = _text(text).removeprefix("[").removesuffix("]")
    return "" if host in ("0.0.0.0", "::") else host


def _words(text: str) -> frozenset[str]:
    words = frozenset(word.strip() for word in text.split(",") if word.strip())
    for word in words - {"*"}:
        if len(word) != 4:
            raise ValueError(f"{word!r} is no four letter word")
    return words


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _networks(text: str) -> tuple[Network, ...]:
    return parse_networks(_names(text))


def _url(text: str) -> str:
    if not text.startswith("/") or text.endswith("/"):
        raise ValueError(f"must begin with a slash and not end with one, not {text!r}")
    return text


def _pem(text: str) -> Path:
    if text.endswith((".jks", ".p12", ".pfx", ".bcfks")):
        raise ValueError("must be a PEM file; convert a key store with keytool and openssl")
    return _path(text)


def _compression(text: str) -> str:
    if text not in WRITTEN_METHODS:
        known = "; snappy is read here, but not written" if text == "snappy" else ""
        raise ValueError(f"must be {' or '.join(filter(None, WRITTEN_METHODS))} or nothing, not {text!r}{known}")
    return text


_BOOLEAN = _choice(true=True, false=False)
_PORT = _integer(1, 65535)
_MILLISECONDS = _integer(1)


class _Row(NamedTuple):
    """A key's field (None where it only must have a certain value) and the check of its value."""

    field: str | None
    parse: Parse


_NO_QUORUM_SASL = "SASL between servers is not offered"


def _store_rows(prefix: str, section: str) -> dict[str, _Row]:
    """The keys that the TLS of clients and that of servers have in common."""
    return {
        f"{prefix}.keyStore.location": _Row(f"{section}.key_store", _pem),
        f"{prefix}.keyStore.password": _Row(f"{section}.key_store_password", _text),
        f"{prefix}.keyStore.passwordPath": _Row(f"{section}.key_store_password_path", _path),
        f"{prefix}.keyStore.type": _Row(None, _choice(pem=None)),
        f"{prefix}.trustStore.location": _Row(f"{section}.trust_store", _pem),
        f"{prefix}.trustStore.type": _Row(None, _choice(pem=None)),
        f"{prefix}.clientAuth": _Row(f"{section}.client_auth", _choice(none="none", want="want", need="need")),
        f"{prefix}.enabledProtocols": _Row(f"{section}.protocols", _names),
        f"{prefix}.ciphersuites": _Row(f"{section}.ciphers", _names),
        f"{prefix}.crl": _Row(None, _never("revocation lists are not offered")),
        f"{prefix}.ocsp": _Row(None, _never("OCSP is not offered")),
    }


KEYS: Mapping[str, _Row] = {
    "dataDir": _Row("data_dir", _path),
    "dataLogDir": _Row("data_log_dir", _path),
    "clientPort": _Row("client_port", _PORT),
    "clientPortAddress": _Row("client_address", _address),
    "secureClientPort": _Row("secure_client_port", _PORT),
    "secureClientPortAddress": _Row("secure_client_address", _address),
    "webSocketPort": _Row("websocket.port", _PORT),
    "webSocketAddress": _Row("websocket.address", _address),
    "secureWebSocketPort": _Row("websocket.secure_port", _PORT),
    "secureWebSocketAddress": _Row("websocket.secure_address", _address),
    "webSocketPath": _Row("websocket.path", _text),
    "webSocketOrigins": _Row("websocket.origins", _names),
    "webSocketTokenFile": _Row("websocket.token_file", _path),
    "webSocketTrustedProxies": _Row("websocket.proxies", _networks),
    "webSocketForwardedHeader": _Row("websocket.forwarded_header", _text),
    "clientPortListenBacklog": _Row("listen_backlog", _integer(-1)),
    "tickTime": _Row("tick_ms", _MILLISECONDS),
    "initLimit": _Row("init_limit", _integer(1)),
    "syncLimit": _Row("sync_limit", _integer(1)),
    "minSessionTimeout": _Row("min_session_ms", _integer(-1)),
    "maxSessionTimeout": _Row("max_session_ms", _integer(-1)),
    "maxClientCnxns": _Row("max_client_connections", _integer(0)),
    "maxCnxns": _Row("max_connections", _integer(0)),
    "jute.maxbuffer": _Row("max_frame", _integer(1024, 2**30)),
    "globalOutstandingLimit": _Row("global_outstanding_limit", _integer(1)),
    "peerType": _Row("observer", _choice(participant=False, observer=True)),
    "standaloneEnabled": _Row("standalone_enabled", _BOOLEAN),
    "reconfigEnabled": _Row("reconfig_enabled", _BOOLEAN),
    "quorumListenOnAllIPs": _Row("listen_on_all_ips", _BOOLEAN),
    "syncEnabled": _Row("sync_enabled", _BOOLEAN),
    "localSessionsEnabled": _Row("local_sessions", _BOOLEAN),
    "localSessionsUpgradingEnabled": _Row("local_sessions_upgrading", _BOOLEAN),
    "readonlymode.enabled": _Row("read_only_mode", _BOOLEAN),
    "extendedTypesEnabled": _Row("extended_types", _BOOLEAN),
    "enforceQuota": _Row("enforce_quota", _BOOLEAN),
    "skipACL": _Row("skip_acl", _choice(yes=True, no=False)),
    "DigestAuthenticationProvider.superDigest": _Row("super_digest", _text),
    "DigestAuthenticationProvider.digestAlg": _Row("digest_algorithm", _text),
    "DigestAuthenticationProvider.enabled": _Row("auth.digest_offered", _BOOLEAN),
    "java.security.auth.login.config": _Row("auth.login_file", _path),
    "sasl.serverconfig": _Row("auth.login_section", _text),
    "SASLAuthenticationProvider.superPassword": _Row("auth.super_password", _text),
    "superUser": _Row("auth.super_user", _text),
    "letAnySaslUserDoX": _Row("auth.sasl_anyone", _text),
    "allowSaslFailedClients": _Row("auth.sasl_failed_allowed", _BOOLEAN),
    "sessionRequireClientSASLAuth": _Row("auth.sasl_required", _BOOLEAN),
    "enforce.auth.enabled": _Row("auth.is_enforced", _BOOLEAN),
    "enforce.auth.schemes": _Row("auth.enforced_schemes", _names),
    "fips-mode": _Row(None, _never("FIPS mode is not offered")),
    "X509AuthenticationProvider.superUser": _Row("x509_super_user", _text),
    "sessionSecretFile": _Row("session_secret_file", _path),
    "snapCount": _Row("snap_count", _integer(2)),
    "snapSizeLimitInKb": _Row("snap_size_limit_kb", _integer(-1, 2**53)),
    "txnLogSizeLimitInKb": _Row("log_size_limit_kb", _integer(-1, 2**53)),
    "preAllocSize": _Row("preallocation_kb", _integer(0)),
    "forceSync": _Row("force_sync", _choice(yes=True, no=False)),
    "snapshot.compression.method": _Row("snapshot_compression", _compression),
    "snapshot.trust.empty": _Row("trust_empty_snapshot", _BOOLEAN),
    "db.autocreate": _Row("trust_empty_database", _BOOLEAN),
    "digest.enabled": _Row("digest_enabled", _BOOLEAN),
    "commitLogCount": _Row("commit_log_count", _integer(1)),
    "autopurge.snapRetainCount": _Row("purge_retain", _integer(0)),
    "autopurge.purgeInterval": _Row("purge_hours", _integer(0)),
    "znode.container.checkIntervalMs": _Row("container_check_ms", _MILLISECONDS),
    "znode.container.maxNeverUsedIntervalMs": _Row("container_max_never_used_ms", _integer(0)),
    "nio.sessionlessCnxnTimeout": _Row("handshake_timeout_ms", _MILLISECONDS),
    "4lw.commands.whitelist": _Row("four_letter_words", _words),
    "admin.enableServer": _Row("admin_enabled", _BOOLEAN),
    "admin.serverPort": _Row("admin_port", _PORT),
    "admin.serverAddress": _Row("admin_address", _address),
    "admin.commandURL": _Row("admin_url", _url),
    **_store_rows("ssl", "tls"),
    **_store_rows("ssl.quorum", "quorum_tls"),
    "ssl.authProvider": _Row(None, _choice(x509=None)),
    "client.portUnification": _Row("tls.is_unified", _BOOLEAN),
    "client.certReload": _Row("tls.reload", _BOOLEAN),
    "sslQuorum": _Row("quorum_tls.is_used", _BOOLEAN),
    "portUnification": _Row("quorum_tls.is_unified", _BOOLEAN),
    "sslQuorumReloadCertFiles": _Row("quorum_tls.reload", _BOOLEAN),
    "ssl.clientHostnameVerification": _Row(None, _never("clients' host names are not verified")),
    "ssl.quorum.hostnameVerification": _Row("quorum_tls.verify_names", _BOOLEAN),
    "ssl.quorum.clientHostnameVerification": _Row("quorum_tls.verify_dialler_names", _BOOLEAN),
    "electionAlg": _Row(None, _choice(**{"3": None})),
    "admin.forceHttps": _Row(None, _never("the admin server speaks plain HTTP")),
    "admin.needClientAuth": _Row(None, _never("the admin server asks for no certificate")),
    "quorum.auth.enableSasl": _Row(None, _never(_NO_QUORUM_SASL)),
    "quorum.auth.serverRequireSasl": _Row(None, _never(_NO_QUORUM_SASL)),
    "quorum.auth.learnerRequireSasl": _Row(None, _never(_NO_QUORUM_SASL)),
    "multiAddress.enabled": _Row(None, _never("several addresses a server are not offered")),
    "observerMasterPort": _Row(None, _never("observers follow the leader here", "0", "-1")),
}
"""Every key with a meaning here. A field that begins with "tls." is one of `TlsSettings`, with "quorum_tls." one of
`QuorumTlsSettings`, with "auth." one of `AuthReading`, with "websocket." one of `WebSocketSettings`."""

_WITHOUT_EFFECT: Mapping[str, str] = {
    "serverCnxnFactory": "one implementation serves plain and TLS ports",
    "metricsProvider.*": "the figures are those of mntr and of the admin server",
    "nio.*": "it tunes Java's threads",
    "netty.*": "it tunes Java's threads",
    "quorum.cnxn.*": "it tunes Java's threads",
    "quorum.auth.*": "SASL between servers is off",
    "multiAddress.*": "several addresses a server are off",
    "admin.idleTimeout": "it is 30 seconds",
    "admin.portUnification": "the admin server speaks plain HTTP",
    "ssl.trustStore.password*": "a PEM file of certificates has none",
    "ssl.quorum.trustStore.password*": "a PEM file of certificates has none",
    "ssl.protocol": "the newest that both ends speak is taken",
    "ssl.quorum.protocol": "the newest that both ends speak is taken",
    "ssl.quorum.context.supplier.class": "it is a class of Java's",
    "ssl.quorum.handshakeDetectionTimeoutMillis": "it tunes Java's TLS",
    "ssl.context.supplier.class": "it is a class of Java's",
    "ssl.handshakeDetectionTimeoutMillis": "it tunes Java's TLS",
    "ssl.hostnameVerification": "it is the client's",
    "request_throttle*": "requests are throttled by globalOutstandingLimit",
    "connection_throttle_*": "connections are throttled by maxClientCnxns and maxCnxns",
    "maxResponseCacheSize": "replies are not cached",
    "maxGetChildrenResponseCacheSize": "replies are not cached",
    "fsync.warningthresholdms": "",
    "largeRequest*": "requests are bounded by jute.maxbuffer and globalOutstandingLimit",
    "watchManagerName": "there is one watch table",
    "bitHashCacheSize": "there is one watch table",
    "watcherCleaner*": "there is one watch table",
    "leaderServes": "the leader serves clients",
    "connectToLearnerMasterLimit": "",
    "cnxTimeout": "",
    "tcpKeepAlive": "",
    "electionPortBindRetry": "",
    "learner.*": "",
    "commitProcessor.*": "it tunes Java's threads",
    "kerberos.*": "SASL is DIGEST-MD5 here",
    "security.auth_to_local": "SASL is DIGEST-MD5 here",
    "znode.container.maxPerMinute": "a sweep removes 10,000 znodes at most",
    "datadir.autocreate": "",
}
"""Keys, and families of keys, that ZooKeeper knows and that do nothing here."""


# -- files


def load_config(path: str | Path) -> ServerConfig:
    """The configuration in a file: ZooKeeper's zoo.cfg, or YAML where its name ends in .yaml or .yml.

    Raises:
        ConfigurationError: the file cannot be read, or keys or values in it are wrong; the text has one line a mistake,
            each with file and line.
    """
    path = Path(path)
    settings = read_settings(path)
    config = replace(build_config(settings, str(path)), text="".join(f"{s.key}={s.shown}\n" for s in settings))
    if config.members and not config.is_standalone:
        config = replace(config, sid=_read_sid(config))
    elif config.members:
        config = _with_client_port_of(config, config.members[0], str(path))
    if config.client_port is None and config.secure_client_port is None:
        if config.is_standalone:
            raise ConfigurationError(f"{path}: no clientPort and no secureClientPort")
        own = next(member for member in config.members if member.sid == config.sid)
        config = _with_client_port_of(config, own, str(path))
    return config


def build_config(settings: Iterable[Setting], file: str = "configuration") -> ServerConfig:
    """A configuration from settings that were read.

    Raises:
        ConfigurationError: one line a mistake.
    """
    reading = _Reading()
    for setting in settings:
        reading.take(setting)
    return reading.finish(file)


class _Reading:
    """Settings on their way into a `ServerConfig`: values so far, where each key stood, mistakes, remarks."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.sections: dict[str, dict[str, Any]] = {"tls": {}, "quorum_tls": {}, "websocket": {}}
        self.auth = AuthReading()
        self.members: dict[int, Member] = {}
        self.groups: dict[int, tuple[int, ...]] = {}
        self.weights: dict[int, int] = {}
        self.seen: dict[str, Setting] = {}
        self.mistakes: list[str] = []
        self.notices: list[str] = []

    def take(self, setting: Setting) -> None:
        earlier = self.seen.setdefault(setting.key, setting)
        if earlier is not setting:
            self.mistakes.append(f"{setting.place}: {setting.key} stands twice, first at {earlier.place}")
            return
        try:
            self._take(setting)
        except ValueError as error:
            self.mistakes.append(f"{setting.place}: {setting.key} {error}")

    def _take(self, setting: Setting) -> None:
        key, value = setting.key, setting.value
        family, dot, rest = key.partition(".")
        row = KEYS.get(key)
        if row is not None:
            parsed = row.parse(value)
            section, _, name = (row.field or "").rpartition(".")
            if section == "auth":
                setattr(self.auth, name, parsed)
            elif section:
                self.sections[section][name] = parsed
            elif name:
                self.values[name] = parsed
        elif dot and family in ("server", "group", "weight") and rest.isdecimal():
            self._take_member(family, int(rest), value)
        elif key == "dynamicConfigFile":
            self._take_dynamic(setting)
        elif dot and family in FAMILIES:
            self.auth.take(family, rest, value)
        else:
            self._take_foreign(setting)

    def _take_member(self, family: str, number: int, value: str) -> None:
        if family == "server":
            if number > 254:
                raise ValueError("has an id above 254")
            self.members[number] = parse_member(number, value)
        elif family == "group":
            self.groups[number] = tuple(_integer(0, 254)(sid) for sid in value.split(":"))
        else:
            self.weights[number] = _integer(0)(value)

    def _take_dynamic(self, setting: Setting) -> None:
        path = Path(setting.value)
        if any(key.startswith("server.") for key in self.seen):
            raise ValueError("and server.N lines in one file exclude each other")
        try:
            text = path.read_bytes().decode("latin-1")
        except OSError as error:
            raise ValueError(f"names {path}, which cannot be read: {error.strerror}") from error
        for inner in parse_properties(text, str(path)):
            if inner.key == "version":
                self.values["config_version"] = int(inner.value, 16)
            elif inner.key.startswith(("server.", "group.", "weight.")):
                self.take(inner)
            else:
                self.mistakes.append(f"{inner.place}: {inner.key} may not stand in a dynamic configuration file")
        suffix = path.name.rpartition(".")[2]
        if "config_version" not in self.values and _is_hexadecimal(suffix):
            self.values["config_version"] = int(suffix, 16)

    def _take_foreign(self, setting: Setting) -> None:
        key = setting.key
        for pattern, reason in _WITHOUT_EFFECT.items():
            if fnmatchcase(key, pattern):
                self.notices.append(f"{setting.place}: {key} has no effect" + (f": {reason}" if reason else ""))
                return
        close = difflib.get_close_matches(key, [*KEYS, "server.1", "dynamicConfigFile"], 1)
        raise ValueError("is unknown" + (f"; did you mean {close[0]}?" if close else ""))

    def finish(self, file: str) -> ServerConfig:
        values = self.values
        if "data_dir" not in values and not any("dataDir" in mistake for mistake in self.mistakes):
            self.mistakes.append(f"{file}: dataDir is missing")
        if "data_log_dir" not in values:
            values["data_log_dir"] = values.get("data_dir")
        standalone = values.get("standalone_enabled", True) and len(self.members) <= 1
        if self.members and not standalone:
            for key in ("initLimit", "syncLimit"):
                if key not in self.seen:
                    self.mistakes.append(f"{file}: {key} is missing, which an ensemble needs")
        # As ZooKeeper does: fewer than three snapshots are never kept.
        values["purge_retain"] = max(3, values.get("purge_retain", 3))
        config: ServerConfig | None = None
        try:
            config = ServerConfig(
                **values,
                tls=TlsSettings(**self.sections["tls"]),
                quorum_tls=QuorumTlsSettings(**self.sections["quorum_tls"]),
                auth=self.auth.finish(self._mistake, self._notice),
                websocket=WebSocketSettings(**self.sections["websocket"]),
                members=tuple(self.members[sid] for sid in sorted(self.members)),
                groups=self.groups,
                weights=self.weights,
            )
            config = replace(config, notices=tuple(self.notices))
        except ConfigurationError as error:
            keys = ("maxSessionTimeout", "minSessionTimeout", "tickTime")
            place = next((self.seen[key].place for key in keys if key in self.seen), file)
            self.mistakes.append(f"{place}: {error}")
        if config is not None:
            self._check_tls(config, file)
            self.mistakes += [f"{file}: {mistake}" for mistake in config.websocket.mistakes()]
        if self.mistakes or config is None:
            raise ConfigurationError("\n".join(self.mistakes))
        return config

    def _mistake(self, key: str, what: str) -> None:
        self.mistakes.append(f"{self.seen[key].place}: {key} {what}")

    def _notice(self, key: str, what: str) -> None:
        self.notices.append(f"{self.seen[key].place}: {key} {what}")

    def _check_tls(self, config: ServerConfig, file: str) -> None:
        users = (
            ("secureClientPort", config.secure_client_port is not None, config.tls),
            ("secureWebSocketPort", config.websocket.secure_port is not None, config.tls),
            ("client.portUnification", config.tls.is_unified, config.tls),
            ("sslQuorum", config.quorum_tls.is_used, config.quorum_tls),
            ("portUnification", config.quorum_tls.is_unified, config.quorum_tls),
        )
        checked: list[TlsSettings] = []
        for key, is_used, settings in users:
            if is_used and settings not in checked:
                checked.append(settings)
                place = self.seen[key].place if key in self.seen else file
                self.mistakes += [f"{place}: {mistake}" for mistake in settings.mistakes(key)]


def _is_hexadecimal(text: str) -> bool:
    return bool(text) and all(digit in "0123456789abcdefABCDEF" for digit in text)


def _with_client_port_of(config: ServerConfig, member: Member, file: str) -> ServerConfig:
    if not member.client_port:
        return config
    if config.client_port not in (None, member.client_port):
        raise ConfigurationError(
            f"{file}: clientPort is {config.client_port}, but server.{member.sid} says {member.client_port}"
        )
    return replace(config, client_port=member.client_port, client_address=_address(member.client_host or "0.0.0.0"))


def _read_sid(config: ServerConfig) -> int:
    assert config.data_dir is not None
    path = config.data_dir / "myid"
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if not text.isdecimal():
        raise ConfigurationError(f"{path}:1: myid must be a number, not {text!r}")
    sid = int(text)
    if all(member.sid != sid for member in config.members):
        raise ConfigurationError(f"{path}:1: myid is {sid}, but there is no server.{sid} in the configuration")
    return sid
