"""Numbers: zxids, session ids, session passwords (pinned to what Apache ZooKeeper 3.8.0 gave out)."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from terzetto.testcluster.ids import (
    COUNTER_MAX,
    PASSWORD_SIZE,
    counter_of,
    epoch_of,
    first_session_id,
    is_session_password,
    make_zxid,
    session_password,
    signed32,
    signed64,
)


@pytest.mark.parametrize(
    ("session_id", "password"),
    [
        (0x100004A76860000, "983d33d045fbdc1336c673209631caf8"),
        (0x100004A76860001, "ab5e2dd0e546bc582b09db4b6abadec5"),
    ],
)
def test_passwords_are_those_of_zookeeper(session_id: int, password: str) -> None:
    assert session_password(session_id).hex() == password
    assert is_session_password(session_id, bytes.fromhex(password))


def test_a_password_belongs_to_one_session_and_one_secret() -> None:
    password = session_password(7, b"secret")
    assert len(password) == PASSWORD_SIZE
    assert is_session_password(7, password, b"secret")
    assert not is_session_password(8, password, b"secret")
    assert not is_session_password(7, password, b"another")
    assert not is_session_password(7, password)
    assert not is_session_password(7, session_password(7), b"secret")


@pytest.mark.parametrize("password", [None, b"", bytes(16), session_password(0)])
def test_session_zero_has_no_password(password: bytes | None) -> None:
    assert not is_session_password(0, password)


def test_a_null_password_is_never_right() -> None:
    assert not is_session_password(7, None)


@given(st.integers(0, 2**31 - 1), st.integers(0, COUNTER_MAX))
def test_a_zxid_is_an_epoch_and_a_counter(epoch: int, counter: int) -> None:
    zxid = make_zxid(epoch, counter)
    assert (epoch_of(zxid), counter_of(zxid)) == (epoch, counter)
    assert make_zxid(epoch, counter + 1) > zxid


@given(st.integers(0, 255), st.integers(0, 2**60))
def test_the_server_is_the_highest_byte_of_a_session_id(server_id: int, elapsed_ms: int) -> None:
    first = first_session_id(server_id, elapsed_ms)
    assert -(2**63) < first < 2**63
    assert first >> 56 & 0xFF == server_id
    assert first >> 16 & (1 << 40) - 1 == elapsed_ms & (1 << 40) - 1


def test_no_session_has_the_number_that_marks_containers() -> None:
    assert first_session_id(0x80, 0) == -(2**63) + 1


@given(st.integers())
def test_signed_numbers_wrap(value: int) -> None:
    assert -(2**31) <= signed32(value) < 2**31
    assert (signed32(value) - value) % 2**32 == 0
    assert -(2**63) <= signed64(value) < 2**63
    assert (signed64(value) - value) % 2**64 == 0
