"""Where log lines of the `terzetto` command go."""

from __future__ import annotations

import logging
import sys


def start_logging(verbose: bool) -> None:
    """Log lines go to stderr: coloured on a terminal, else one line a record."""
    handler: logging.Handler = logging.StreamHandler()
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("terzetto")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
