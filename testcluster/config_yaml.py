"""A server's configuration in YAML: the keys of zoo.cfg as they are or nested at their dots, servers as a list.

Decides what a node of a YAML document says as a key and a value of zoo.cfg. Refuses to know any key but a server's.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from terzetto.client.errors import ConfigurationError

from .config_syntax import Setting

_SERVER_KEYS = ("id", "host", "ports", "role", "clientHost", "clientPort")


def parse_yaml(text: str, file: str) -> list[Setting]:
    """The settings of a YAML text.

    Scalars are taken as written, so that `forceSync: no` is the word "no" as in zoo.cfg.

    Raises:
        ConfigurationError: the text is no YAML mapping, or a server in it has no id, host or ports.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = 0 if error.problem_mark is None else error.problem_mark.line
        raise ConfigurationError(f"{file}:{line + 1}: no YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{file}: no YAML: {error}") from error
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{file}:{_line(root)}: the file must be a mapping of keys to values")
    return list(_settings(root, "", file))


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1


def _settings(mapping: yaml.MappingNode, prefix: str, file: str) -> Iterator[Setting]:
    for name, line, value in _pairs(mapping, file):
        key = prefix + name
        if isinstance(value, yaml.MappingNode):
            yield from _settings(value, f"{key}.", file)
        elif isinstance(value, yaml.SequenceNode) and key == "server":
            for item in value.value:
                yield _server(item, file)
        else:
            yield Setting(key, ",".join(_scalars(value, file)), file, line)


def _pairs(mapping: yaml.MappingNode, file: str) -> Iterator[tuple[str, int, yaml.Node]]:
    """Key, its line, and value."""
    for key, value in mapping.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigurationError(f"{file}:{_line(key)}: a key must be a plain word")
        yield str(key.value), _line(key), value


def _scalars(node: yaml.Node, file: str) -> list[str]:
    """The words of a scalar, or of a list of scalars."""
    return (
        [_scalar(item, file) for item in node.value] if isinstance(node, yaml.SequenceNode) else [_scalar(node, file)]
    )


def _scalar(node: yaml.Node, file: str) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigurationError(f"{file}:{_line(node)}: a plain value is expected here")
    return "" if node.tag == "tag:yaml.org,2002:null" else str(node.value)


def _server(node: yaml.Node, file: str) -> Setting:
    """`{id: 1, host: h, ports: [2888, 3888], role: observer, clientPort: 2181}` as the `server.1=...` it stands for."""
    place = f"{file}:{_line(node)}"
    if not isinstance(node, yaml.MappingNode):
        raise ConfigurationError(f"{place}: a server is a mapping with the keys id, host and ports")
    given: dict[str, str] = {}
    for key, line, value in _pairs(node, file):
        if key not in _SERVER_KEYS:
            raise ConfigurationError(
                f"{file}:{line}: unknown key {key!r} of a server; known are {', '.join(_SERVER_KEYS)}"
            )
        given[key] = ":".join(_scalars(value, file))
    missing = [key for key in ("id", "host", "ports") if not given.get(key)]
    if missing:
        raise ConfigurationError(f"{place}: a server without {' and '.join(missing)}")
    if "clientHost" in given and "clientPort" not in given:
        raise ConfigurationError(f"{place}: a server with clientHost needs clientPort")
    text = f"{_bracketed(given['host'])}:{given['ports']}:{given.get('role', 'participant')}"
    if "clientPort" in given:
        host = given.get("clientHost")
        text += f";{_bracketed(host)}:{given['clientPort']}" if host else f";{given['clientPort']}"
    return Setting(f"server.{given['id']}", text, file, _line(node))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
