"""The TLS context that kazoo's arguments describe. Opens no connection."""

from __future__ import annotations

import ssl

from .exceptions import ConfigurationError


def make_tls(
    *,
    use_ssl: bool,
    ca: str | None,
    certfile: str | None,
    keyfile: str | None,
    keyfile_password: str | None,
    verify_certs: bool,
    check_hostname: bool,
    ciphers: str | None = None,
    options: int | None = None,
) -> ssl.SSLContext | None:
    """The TLS context that kazoo's arguments describe, `None` without TLS.

    Raises:
        ConfigurationError: they contradict each other.
        OSError: a file cannot be read, or is no certificate or key.
    """
    if not use_ssl:
        return None
    if check_hostname and not verify_certs:
        raise ConfigurationError("check_hostname needs verify_certs: a name means nothing in an unverified certificate")
    context = ssl.create_default_context()
    context.check_hostname = check_hostname
    if not verify_certs:
        context.verify_mode = ssl.CERT_NONE
    if ca:
        context.load_verify_locations(ca)
    if certfile and keyfile:
        context.load_cert_chain(certfile, keyfile, keyfile_password)
    if ciphers:
        context.set_ciphers(ciphers)
    if options is not None:
        context.options = ssl.Options(options)
    return context
