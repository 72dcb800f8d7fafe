"""The codes that the server sends are those that the client knows."""

from __future__ import annotations

import pytest

from terzetto.client.errors import ZookeeperError, error_from_code
from terzetto.testcluster import codes

_NUMBERS = {name: value for name, value in vars(codes).items() if name.isupper() and isinstance(value, int)}


def test_every_code_is_known_to_the_client() -> None:
    assert len(_NUMBERS) > 15
    for name, code in _NUMBERS.items():
        if code != codes.OK:
            assert error_from_code(code).code == code, name


def test_no_code_has_two_names() -> None:
    assert len(set(_NUMBERS.values())) == len(_NUMBERS)


def test_an_error_without_a_code_cannot_be_named() -> None:
    with pytest.raises(TypeError, match="ZookeeperError has no code"):
        codes.code_of(ZookeeperError)


def test_a_refusal_says_its_code() -> None:
    refusal = codes.Refused(codes.NO_NODE)
    assert refusal.code == -101
    assert str(refusal) == "-101"
