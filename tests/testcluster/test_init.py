"""The package's face: what is not asked for is not imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

import terzetto.testcluster


def _fresh(program: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_alone_costs_nothing() -> None:
    program = "import sys, terzetto.testcluster as t\nprint('open_ensemble' in dir(t), 'trio' in sys.modules)"
    assert _fresh(program).split() == ["True", "False"]


def test_a_server_comes_without_the_client() -> None:
    program = "import sys, terzetto.testcluster.ensemble\n"
    program += "print([name for name in ('tenacity', 'rich', 'yaml', 'h11', 'terzetto.client._client',\n"
    program += "    'terzetto.client._session', 'terzetto.client._runner') if name in sys.modules])"
    assert _fresh(program).strip() == "[]"


@pytest.mark.parametrize("name", terzetto.testcluster.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(terzetto.testcluster, name) is getattr(terzetto.testcluster.ensemble, name)
    assert name in dir(terzetto.testcluster)


def test_what_there_is_not_is_said_in_pythons_words() -> None:
    with pytest.raises(AttributeError, match=r"module 'terzetto\.testcluster' has no attribute 'open_ensembel'"):
        getattr(terzetto.testcluster, "open_ensembel")  # noqa: B009
