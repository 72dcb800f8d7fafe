"""The figures' own arithmetic; what they say of a server, `test_fourletter.py` and `test_admin.py` compare."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from terzetto.client.wire import Opcode
from terzetto.testcluster import figures
from terzetto.testcluster.connection import Traffic


def test_the_version_has_zookeepers_form() -> None:
    assert re.fullmatch(
        r"\d+\.\d+\.\d+-terzetto-\S+, built on \d{4}-\d\d-\d\d \d\d:\d\d UTC", figures.version_text()
    ), figures.version_text()


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (255, "ff"), (-1, "ffffffffffffffff"), (1 << 62, "4" + "0" * 15)]
)
def test_numbers_in_hexadecimal_as_java_prints_them(number: int, text: str) -> None:
    assert figures.hexadecimal(number) == text


@pytest.mark.parametrize(
    ("latencies", "average"), [([], 0.0), ([1], 1.0), ([1, 2, 2], 1.6667), ([0, 0, 0, 1], 0.25), ([1, 1, 11], 4.3333)]
)
def test_average_latency_has_four_decimals(latencies: list[int], average: float) -> None:
    traffic = Traffic()
    for latency in latencies:
        traffic.add_answers(1, latency)
    assert figures.average(traffic) == average


def test_every_operation_has_a_name() -> None:
    silent = {Opcode.NOTIFICATION, Opcode.ERROR, Opcode.AUTH, Opcode.SASL}
    assert {opcode for opcode in Opcode if figures.operation_name(opcode) == "UNKN"} == silent
    assert figures.operation_name(None) == "NA"


def test_the_size_of_a_directory(tmp_path: Path) -> None:
    assert figures.directory_size(None) == 0
    assert figures.directory_size(tmp_path) == 0
    (tmp_path / "version-2").mkdir()
    for name, size in (("log.1", 10), ("snapshot.0", 5)):
        (tmp_path / "version-2" / name).write_bytes(bytes(size))
    assert figures.directory_size(tmp_path) == 15


def test_sessions_are_ordered_as_they_were_given_out() -> None:
    assert figures.ordered([-5, 3, 1, -6]) == [1, 3, -6, -5]


def test_open_files_are_counted() -> None:
    opened, allowed = figures.file_descriptors()
    assert -1 <= opened <= allowed
