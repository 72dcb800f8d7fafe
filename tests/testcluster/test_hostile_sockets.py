"""Hostile clients on real sockets for a moment: the others are served. `make soak` does it for long."""

from __future__ import annotations

import random

import pytest

from terzetto.testcluster import BlockingEnsemble, start_ensemble
from terzetto.testcluster.auth import digest_id
from tests.interop.rawclient import RawClient

from .hostile_sockets import CREDENTIALS, fire_until, under_fire

FRAMES = 1500
FRAMES_PER_SERVER = 500
SETTINGS = {"DigestAuthenticationProvider.superDigest": digest_id(CREDENTIALS)}


def ports(ensemble: BlockingEnsemble) -> dict[int, int]:
    """The client port of each server."""
    numbers = [int(host.rpartition(":")[2]) for host in ensemble.hosts.split(",")]
    return dict(zip(ensemble.sids, numbers, strict=True))


def said(port: int, word: bytes) -> dict[str, str]:
    """What a server says to a four-letter word whose lines are keys and values."""
    with RawClient(port) as client:
        lines = client.four_letter(word).splitlines()
    return {key: value for key, _, value in (line.partition("\t") for line in lines)}


@pytest.mark.slow
def test_a_well_behaved_client_is_served_among_hostile_ones(seed: int) -> None:
    with start_ensemble(settings=SETTINGS) as ensemble:
        with under_fire(ports(ensemble)[1], random.Random(seed)) as (volleys, witness):
            fire_until(volleys, FRAMES)
    assert volleys.oddities > 0
    assert volleys.depths.share("processor") > 0.25
    assert volleys.depths.by_code[0] > 0
    assert len(witness.latencies) > 10, witness
    # The machine may be busy; a server that somebody can stop would take for ever.
    assert witness.quantile(1.0) < 15.0


@pytest.mark.slow
def test_a_leader_and_a_follower_under_fire_stay_equal(seed: int) -> None:
    with start_ensemble(servers=3, settings=SETTINGS) as ensemble:
        ensemble.wait_serving()
        leader, found = ensemble.leader, ports(ensemble)
        assert leader is not None
        follower = next(sid for sid in found if sid != leader)
        for sid in (follower, leader):
            with under_fire(found[sid], random.Random(seed)) as (volleys, _):
                fire_until(volleys, FRAMES_PER_SERVER)
            assert volleys.depths.by_code[0] > 0
        assert ensemble.leader == leader
        # Each compares its tree with the leader's, transaction by transaction.
        figures = [said(port, b"mntr") for port in found.values()]
        assert [each["zk_digest_mismatches_count"] for each in figures] == ["0"] * 3
        assert all(int(each["zk_znode_count"]) > 5 for each in figures)
