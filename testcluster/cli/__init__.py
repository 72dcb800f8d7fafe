"""The `terzetto` command. Decides the words of the command line; the work is done in the modules beside this one."""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence

from terzetto.client.errors import ConfigurationError

from .gateway_options import add_arguments as add_gateway_arguments

EXTRA = ("rich", "yaml")
"""What the [cli] extra brings and the command needs."""

_EXIT_FAILED = 1
_EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0, 1 for a failure, 2 for a wrong argument or configuration."""
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        print(
            "terzetto: this command needs the extra [cli]: python -m pip install 'terzetto[cli]' "
            f"(missing: {', '.join(missing)})",
            file=sys.stderr,
        )
        return _EXIT_USAGE
    chosen = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = chosen.run
    try:
        return run(chosen)
    except ConfigurationError as error:
        print(f"terzetto: {error}", file=sys.stderr)
        return _EXIT_USAGE
    except KeyboardInterrupt:
        return 130


class _Version(argparse.Action):
    """Argparse's own wants the version before it knows that somebody asks."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"terzetto {version('terzetto')}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="terzetto",
        description="ZooKeeper servers in Python, for tests and development, and a WebSocket door for any ensemble.",
    )
    parser.add_argument("-V", "--version", action=_Version, nargs=0, help="show the version and exit")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    # Also behind the command; not given there, it must not undo what was given before.
    verbosely = argparse.ArgumentParser(add_help=False)
    verbosely.add_argument("-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="log more")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    server = commands.add_parser(
        "server", parents=[verbosely], help="run one server from a zoo.cfg or the same keys as YAML"
    )
    server.add_argument("config", metavar="FILE", help="zoo.cfg, or a file that ends in .yaml or .yml")
    server.set_defaults(run=_server)

    ensemble = commands.add_parser(
        "ensemble", parents=[verbosely], help="run servers on loopback until SIGTERM; prints `ready HOSTS`"
    )
    ensemble.add_argument("--servers", type=int, default=1, metavar="N", help="how many (default: 1)")
    ensemble.add_argument("--observers", type=int, default=0, metavar="N", help="servers without a vote (default: 0)")
    ensemble.add_argument("--base-port", type=int, metavar="P", help="client port of the first (default: free ports)")
    ensemble.add_argument("--data-dir", metavar="D", help="keep the data here (default: in memory)")
    ensemble.add_argument("--tick-time", type=float, default=0.2, metavar="S", help="tick in seconds (default: 0.2)")
    ensemble.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a key of zoo.cfg; may be repeated"
    )
    ensemble.set_defaults(run=_ensemble)

    gateway = commands.add_parser(
        "gateway",
        parents=[verbosely],
        help="a WebSocket door in front of any ensemble; prints `ready URL`",
        description="Puts a WebSocket door in front of any ensemble, until SIGTERM; prints `ready URL`.",
    )
    add_gateway_arguments(gateway)
    gateway.set_defaults(run=_gateway)

    demo = commands.add_parser("demo", help="the main job of a coordination service, live, on real servers")
    demo.add_argument(
        "--hosts", metavar="HOSTS", help="connect string of the servers (default: an ensemble of its own)"
    )
    demo.set_defaults(run=_demo)
    return parser


def _demo(chosen: argparse.Namespace) -> int:
    from ..ensemble import start_ensemble  # like the imports below: each command imports no more than it needs
    from .demo import run_demo

    if chosen.hosts is not None:
        return run_demo(chosen.hosts)
    with start_ensemble(servers=3) as ensemble:
        return run_demo(ensemble.hosts, ensemble)


@contextlib.contextmanager
def _staying() -> Iterator[None]:
    """For imports: what they make stays, so that looking for garbage among it was a twelfth of a server's start."""
    gc.disable()
    try:
        yield
    finally:
        # The collector would begin with all of it.
        gc.freeze()
        gc.enable()


def _server(chosen: argparse.Namespace) -> int:
    with _staying():
        from .running import run_server

    return run_server(chosen.config, verbose=chosen.verbose)


def _gateway(chosen: argparse.Namespace) -> int:
    with _staying():
        from .gateway import run_gateway

    return run_gateway(chosen)


def _ensemble(chosen: argparse.Namespace) -> int:
    with _staying():
        from .running import run_ensemble

    settings: dict[str, object] = {}
    for item in chosen.set:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigurationError(f"--set {item}: must be KEY=VALUE")
        settings[key] = value
    return run_ensemble(
        chosen.servers,
        observers=chosen.observers,
        base_port=chosen.base_port,
        data_dir=chosen.data_dir,
        tick_time=chosen.tick_time,
        settings=settings,
        verbose=chosen.verbose,
    )
