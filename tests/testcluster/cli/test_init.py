"""The words of the command line, and what it says when its extra is missing."""

from __future__ import annotations

import sys

import pytest

from terzetto.testcluster.cli import EXTRA, main


@pytest.mark.parametrize("module", EXTRA)
def test_a_missing_extra_is_named(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["ensemble"]) == 2
    text = capsys.readouterr().err
    assert "pip install 'terzetto[cli]'" in text
    assert f"(missing: {module})" in text


@pytest.mark.parametrize("arguments", [[], ["nosuch"], ["server"]])
def test_wrong_words(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: terzetto" in capsys.readouterr().err


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(command in text for command in ("server", "ensemble", "demo"))
