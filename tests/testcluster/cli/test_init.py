"""The words of the command line, and what it says when its extra is missing."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

from terzetto.testcluster.cli import EXTRA, main, running


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


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_the_version_is_told(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([option])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"terzetto {version('terzetto')}\n"


@pytest.mark.parametrize("arguments", [["-v", "server", "zoo.cfg"], ["server", "-v", "zoo.cfg"], ["server", "zoo.cfg"]])
def test_more_is_logged_wherever_one_asks_for_it(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def run(_path: str, *, verbose: bool) -> int:
        asked.append(verbose)
        return 0

    monkeypatch.setattr(running, "run_server", run)
    assert main(arguments) == 0
    assert asked == ["-v" in arguments]


def test_the_collector_rests_while_a_server_is_imported_and_no_longer() -> None:
    # Full collections of a process that has just begun would be of its imports.
    program = "import gc\nfrom terzetto.testcluster.cli import main\nbefore = gc.get_stats()[2]['collections']\n"
    program += "status = main(['server', 'no-such-file.cfg'])\n"
    program += (
        "print(status, gc.isenabled(), gc.get_freeze_count() > 10_000, gc.get_stats()[2]['collections'] - before)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.split() == ["2", "True", "True", "0"], done.stderr
    assert "no-such-file.cfg" in done.stderr


def test_words_alone_import_no_server() -> None:
    program = "import sys\nfrom terzetto.testcluster.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n"
    program += "    print('trio' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr.split() == ["False"]
