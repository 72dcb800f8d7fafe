"""A Java login configuration (JAAS), as ZooKeeper's servers have it for SASL: which users it names.

Decides what the text says and that only passwords are offered here. No message of it shows a value: they are secrets.

    Server {
        org.apache.zookeeper.server.auth.DigestLoginModule required
        user_super="adminsecret"
        user_bob="bobsecret";
    };
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from terzetto.client.errors import ConfigurationError

SECTION = "Server"
"""The section that a server reads unless `sasl.serverconfig` names another."""

_MODULE = "DigestLoginModule"
_FLAGS = ("required", "requisite", "sufficient", "optional")
_USER = "user_"
_TOKEN = re.compile(
    r"""(?P<gap>\s+|//[^\n]*|/\*.*?\*/)|"(?P<quoted>(?:[^"\\\n]|\\.)*)"|(?P<word>[^\s"{};=/]+)|(?P<mark>[{};=])""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "b": "\b"}


class _Token(NamedTuple):
    """A piece of the text. `mark` is one of {};= or empty for a word."""

    mark: str
    word: str
    line: int


class _Module(NamedTuple):
    """A login module of a section."""

    name: str
    line: int
    options: dict[str, str]


def users_of(text: str, file: str, section: str = SECTION) -> dict[str, str]:
    """Password by user name, from the section's `user_NAME="PASSWORD"` options.

    Raises:
        ConfigurationError: no such syntax, no such section, another module than for passwords, or no user; names file
            and line.
    """
    sections = _Reading(text, file).sections()
    if section not in sections:
        there = ", ".join(sections) or "none"
        raise ConfigurationError(f"{file}: no section {section}; there is {there}")
    users: dict[str, str] = {}
    for module in sections[section]:
        if module.name.rpartition(".")[2] != _MODULE:
            raise ConfigurationError(
                f"{file}:{module.line}: {module.name} is not offered here; known is "
                f"org.apache.zookeeper.server.auth.{_MODULE}"
            )
        users.update(
            (name.removeprefix(_USER), value)
            for name, value in module.options.items()
            if name.startswith(_USER) and name != _USER
        )
    if not users:
        raise ConfigurationError(f"{file}: section {section} has no user_NAME option")
    return users


class _Reading:
    """The text on its way into sections."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._tokens = list(self._read(text))
        self._position = 0

    def _mistake(self, line: int, what: str) -> ConfigurationError:
        return ConfigurationError(f"{self._file}:{line}: {what}")

    def _read(self, text: str) -> Iterator[_Token]:
        position, line = 0, 1
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                what = "a quoted value that does not end" if text[position] == '"' else "a character out of place"
                raise self._mistake(line, what)
            if match["quoted"] is not None:
                word = _ESCAPE.sub(lambda found: _CONTROL.get(found[1], found[1]), match["quoted"])
                if "${" in word:
                    raise self._mistake(line, "${...} stands for a property of Java's, which is not offered here")
                yield _Token("", word, line)
            elif match["word"] is not None:
                yield _Token("", match["word"], line)
            elif match["mark"] is not None:
                yield _Token(match["mark"], "", line)
            line += text.count("\n", position, match.end())
            position = match.end()

    def _take(self) -> _Token:
        if self._position == len(self._tokens):
            raise self._mistake(self._tokens[-1].line, "the text ends within a section")
        self._position += 1
        return self._tokens[self._position - 1]

    def _take_mark(self, mark: str) -> None:
        token = self._take()
        if token.mark != mark:
            raise self._mistake(token.line, f"{mark!r} is expected here")

    def _take_word(self, what: str) -> _Token:
        token = self._take()
        if token.mark:
            raise self._mistake(token.line, f"{what} is expected here, not {token.mark!r}")
        return token

    def _is_at(self, mark: str) -> bool:
        return self._position < len(self._tokens) and self._tokens[self._position].mark == mark

    def sections(self) -> dict[str, list[_Module]]:
        """The modules of every section by its name."""
        found: dict[str, list[_Module]] = {}
        while self._position < len(self._tokens):
            name = self._take_word("the name of a section")
            if name.word in found:
                raise self._mistake(name.line, f"section {name.word} stands twice")
            modules: list[_Module] = []
            self._take_mark("{")
            while not self._is_at("}"):
                modules.append(self._module())
            self._take_mark("}")
            self._take_mark(";")
            found[name.word] = modules
        return found

    def _module(self) -> _Module:
        name = self._take_word("a login module")
        flag = self._take_word("a flag")
        if flag.word.lower() not in _FLAGS:
            raise self._mistake(flag.line, f"one of {', '.join(_FLAGS)} is expected here")
        options: dict[str, str] = {}
        while not self._is_at(";"):
            option = self._take_word("an option, or ';'")
            self._take_mark("=")
            value = self._take_word("a value")
            if option.word in options:
                raise self._mistake(option.line, f"{option.word} stands twice")
            options[option.word] = value.word
        self._take_mark(";")
        return _Module(name.word, name.line, options)
