"""What the state machine is told, out of a server's configuration.

Decides which key becomes which of its settings. Opens nothing, and refuses to know what a setting does.
"""

from __future__ import annotations

from collections.abc import Callable

from .config import ServerConfig
from .digest_md5 import DigestMd5
from .settings import ServerSettings


def processor_settings(
    config: ServerConfig, *, secret: bytes | None, random_bytes: Callable[[int], bytes]
) -> ServerSettings:
    """The settings of a server with this configuration.

    Args:
        config: the configuration.
        secret: session passwords are made with it; None makes them as ZooKeeper does.
        random_bytes: gives this many bytes that nobody can guess.
    """
    auth = config.auth
    return ServerSettings(
        server_id=config.sid or 1,
        tick_ms=config.tick_ms,
        min_session_timeout_ms=config.min_session_ms,
        max_session_timeout_ms=config.max_session_ms,
        max_frame=config.max_frame,
        extended_types=config.extended_types,
        enforce_quota=config.enforce_quota,
        skip_acl=config.skip_acl,
        reconfig_enabled=config.reconfig_enabled,
        digest_super=config.super_digest,
        digest_algorithm=config.digest_algorithm,
        digest_enabled=auth.digest_offered,
        sasl_acls=auth.sasl_acls,
        sasl_anyone=auth.sasl_anyone,
        sasl_super=auth.sasl_super,
        sasl_exchange=DigestMd5(auth.sasl_users, random_bytes) if auth.sasl_users else None,
        sasl_failed_allowed=auth.sasl_failed_allowed,
        x509_acls=auth.x509_acls
        or config.tls.is_unified
        or config.secure_client_port is not None
        or config.websocket.secure_port is not None,
        x509_super=config.x509_super_user,
        required_schemes=auth.required_schemes,
        session_secret=secret,
        container_unused_ms=config.container_max_never_used_ms,
        tree_digest=config.digest_enabled,
    )
