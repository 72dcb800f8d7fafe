"""The words of `terzetto gateway`'s command line, apart from what carries them out: every command declares them."""

from __future__ import annotations

import argparse

from terzetto.client.wire.primitives import DEFAULT_MAX_FRAME


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `terzetto gateway`."""
    where = parser.add_argument_group("where")
    where.add_argument("--listen", required=True, metavar="HOST:PORT", help="where clients come in; port 0 picks one")
    where.add_argument(
        "--ensemble", required=True, metavar="HOSTS", help="the servers, as host:port with commas between them"
    )
    where.add_argument("--path", default="/", help="path of the WebSocket (default: /)")
    where.add_argument("--health-path", default="/health", help="path of the health check, '' for none")

    tls = parser.add_argument_group("TLS", "PEM files, whose keys are not encrypted; SIGHUP reads them again")
    tls.add_argument("--tls-cert", metavar="FILE", help="certificate chain: serve wss://")
    tls.add_argument("--tls-key", metavar="FILE", help="its private key, unless it is in the same file")
    tls.add_argument("--tls-client-ca", metavar="FILE", help="let in only clients with a certificate of these")
    tls.add_argument("--ensemble-ca", metavar="FILE", help="speak TLS to the servers, and trust these authorities")
    tls.add_argument("--ensemble-cert", metavar="FILE", help="the gateway's own certificate and key for the servers")

    who = parser.add_argument_group("who may come in")
    who.add_argument("--token-file", metavar="FILE", help="bearer tokens, one a line; read again when it changes")
    who.add_argument(
        "--origin", action="append", default=[], help="let browsers of this origin in, '*' for any; may be repeated"
    )
    who.add_argument(
        "--trusted-proxy", action="append", default=[], metavar="NETWORK", help="take its word about clients' addresses"
    )
    who.add_argument(
        "--forwarded-header",
        choices=("x-forwarded-for", "forwarded"),
        default="x-forwarded-for",
        help="where trusted proxies put it",
    )
    who.add_argument(
        "--words", default="isro,ruok,srvr", help="four letter words to pass on, '*' for all, '' for none (%(default)s)"
    )

    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-connections", type=int, default=2000, metavar="N", help="in all (%(default)s)")
    limits.add_argument("--max-connections-per-address", type=int, default=0, metavar="N", help="0: any (%(default)s)")
    limits.add_argument(
        "--max-frame",
        type=int,
        default=DEFAULT_MAX_FRAME,
        metavar="BYTES",
        help="the servers' jute.maxbuffer (%(default)s)",
    )
    limits.add_argument("--handshake-timeout", type=float, default=10.0, metavar="S", help="of strangers (%(default)s)")
    limits.add_argument("--drain-timeout", type=float, default=10.0, metavar="S", help="at SIGTERM (%(default)s)")
