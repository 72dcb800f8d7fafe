"""TLS between servers in one ensemble, of Java 3.8.0 and of terzetto: each checks the others' certificates."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from .identities import server_identity
from .mixed import JAVA, TERZETTO, MixedEnsemble, check, writing
from .zookeeper import ServerOptions

WRITES = 25


def options(folder: Path, **more: str) -> ServerOptions:
    """Servers whose quorum and election ports speak TLS only, unless more is said."""
    stores = server_identity(trustme.CA(), folder)
    return ServerOptions(
        zoo_cfg={
            "initLimit": 60,
            "syncLimit": 40,
            "sslQuorum": "true",
            **{key.replace("ssl.", "ssl.quorum."): path for key, path in stores.items()},
            **more,
        }
    )


@pytest.fixture
def folder(zookeeper_installed: None, tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds",
    [
        (JAVA, JAVA, TERZETTO),
        pytest.param((TERZETTO, TERZETTO, JAVA), marks=pytest.mark.soak),
    ],
    ids=["terzetto leads two of Java", "Java leads two of terzetto"],
)
def test_servers_of_both_kinds_form_an_ensemble(kinds: tuple[str, ...], folder: Path) -> None:
    with MixedEnsemble(kinds, options(folder), folder) as ensemble, writing(ensemble) as writers:
        for writer in writers:
            writer.wait_progress(WRITES)
        # The other kind leads next, so that each has dialled the other on both ports.
        leader = ensemble.leader().sid
        ensemble.kill(leader)
        for writer in writers:
            writer.wait_progress(WRITES)
        ensemble.start(leader)
        ensemble.wait_serving()
        for writer in writers:
            writer.wait_progress(WRITES)
            writer.stop()
        check(ensemble, writers)


@pytest.mark.soak
@pytest.mark.slow
def test_an_ensemble_changes_over_to_tls_server_by_server(folder: Path) -> None:
    """ZooKeeper's own way: first all take both, then each dials with TLS."""
    plain = options(folder, sslQuorum="false", portUnification="true")
    with MixedEnsemble((JAVA, TERZETTO, TERZETTO), plain, folder) as ensemble, writing(ensemble) as writers:
        for sid in (1, 2, 3):
            server = ensemble.servers[sid]
            server.kill()
            configuration = server.directory / "zoo.cfg"
            text = configuration.read_text()
            assert "sslQuorum=false" in text
            configuration.write_text(text.replace("sslQuorum=false", "sslQuorum=true"))
            server.start()
            ensemble.wait_serving()
            for writer in writers:
                writer.wait_progress(WRITES)
        for writer in writers:
            writer.stop()
        check(ensemble, writers)
