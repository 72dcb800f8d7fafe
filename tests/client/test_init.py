"""The package's face: every name is there however it is asked for, and what is not asked for is not imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import terzetto.client
import terzetto.client._names as gathered

SOURCE = Path(str(terzetto.client.__file__))


def _fresh(program: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_codec_comes_without_trio() -> None:
    program = "import sys, terzetto.client.wire.multi, terzetto.client.paths\n"
    program += "print(sorted({'trio', 'tenacity', 'ssl', 'asyncio'} & set(sys.modules)))"
    assert _fresh(program).strip() == "[]"


@pytest.mark.parametrize("name", terzetto.client.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(terzetto.client, name) is not None
    assert name in dir(terzetto.client)


def test_a_star_import_brings_every_name() -> None:
    program = "from terzetto.client import *\nimport terzetto.client\n"
    program += "print(set(terzetto.client.__all__) - set(globals()))"
    assert _fresh(program).strip() == "set()"


def test_a_name_is_the_same_object_each_time() -> None:
    program = "import terzetto.client as c\nfirst = c.open_zookeeper\n"
    program += "print('open_zookeeper' in vars(c), c.open_zookeeper is first, first.__module__)"
    assert _fresh(program).split() == ["True", "True", "terzetto.client._open"]


def test_listing_the_names_imports_nothing() -> None:
    program = "import sys, terzetto.client as c\nprint('open_zookeeper' in dir(c), 'trio' in sys.modules)"
    assert _fresh(program).split() == ["True", "False"]


def test_what_there_is_not_is_said_in_pythons_words() -> None:
    with pytest.raises(AttributeError, match=r"module 'terzetto\.client' has no attribute 'open_zookeper'"):
        getattr(terzetto.client, "open_zookeper")  # noqa: B009


def test_type_checkers_see_what_a_program_gets() -> None:
    (block, *_) = [node for node in ast.parse(SOURCE.read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
    (seen,) = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    names = [alias.name for alias in seen.names]
    assert seen.module == "_names"
    assert all(getattr(terzetto.client, name) is getattr(gathered, name) for name in names)
    assert names == gathered.__all__
