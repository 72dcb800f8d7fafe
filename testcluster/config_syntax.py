"""A server's configuration file as a list of keys, values and line numbers.

Decides what a line of a Java properties file says; `config_yaml.py` does the same for YAML. Refuses to know any key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from terzetto.client.errors import ConfigurationError

_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|u|.)", re.DOTALL)
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}
_BLANKS = " \t\f"
_SECRET = re.compile(r"password(?!Path)|passwd|superDigest|^saslUser\.|secret(?!File)|token(?!File)", re.IGNORECASE)

HIDDEN = "(hidden)"
"""What is shown in the place of a secret."""


class Setting(NamedTuple):
    """One key of a configuration file and where it stands."""

    key: str
    value: str
    file: str
    line: int

    @property
    def place(self) -> str:
        """File and line, for messages; line 0 stands for a place without lines."""
        return f"{self.file}:{self.line}" if self.line else self.file

    @property
    def shown(self) -> str:
        """The value for others to see: secrets are hidden."""
        return HIDDEN if _SECRET.search(self.key) else self.value

    def __repr__(self) -> str:
        return f"<Setting {self.key}={self.shown} at {self.place}>"


def read_settings(path: Path) -> list[Setting]:
    """The settings of a file: YAML where its name ends in .yaml or .yml, else Java properties.

    Raises:
        ConfigurationError: the file cannot be read or has no such syntax; names file and line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if path.suffix.lower() in (".yaml", ".yml"):
        try:
            from .config_yaml import parse_yaml
        except ImportError as error:
            raise ConfigurationError(f"{path}: YAML needs PyYAML; install terzetto[cli]") from error
        return parse_yaml(data.decode("utf-8", "replace"), str(path))
    # java.util.Properties reads Latin-1, and a data directory with another letter in its name must be found again.
    return parse_properties(data.decode("latin-1"), str(path))


def parse_properties(text: str, file: str) -> list[Setting]:
    """The settings of a Java properties text (comments, continuation lines, `=`, `:` or blank, escapes).

    Raises:
        ConfigurationError: a malformed unicode escape.
    """
    settings: list[Setting] = []
    for number, line in _logical_lines(text):
        key, value = _split_pair(line)
        place = f"{file}:{number}"
        settings.append(Setting(_unescape(key, place), _unescape(value, place).strip(), file, number))
    return settings


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    pending, start = "", 0
    for number, raw in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        line = raw.lstrip(_BLANKS)
        if not pending and (not line or line[0] in "#!"):
            continue
        if not pending:
            start = number
        # An odd number of backslashes at the end continues the line, an even number is that many halves.
        if (len(line) - len(line.rstrip("\\"))) % 2:
            pending += line[:-1]
            continue
        yield start, pending + line
        pending = ""
    if pending:
        yield start, pending


def _split_pair(line: str) -> tuple[str, str]:
    position = 0
    while position < len(line) and line[position] not in "=:" + _BLANKS:
        position += 2 if line[position] == "\\" else 1
    rest = line[position:].lstrip(_BLANKS)
    if rest[:1] in ("=", ":"):
        rest = rest[1:].lstrip(_BLANKS)
    return line[:position], rest


def _unescape(text: str, place: str) -> str:
    def replacement(match: re.Match[str]) -> str:
        escape = match.group(1)
        if escape == "u":
            raise ConfigurationError(f"{place}: \\u needs four hexadecimal digits")
        if len(escape) > 1:
            return chr(int(escape[1:], 16))
        return _CONTROL.get(escape, escape)

    return _ESCAPE.sub(replacement, text)
