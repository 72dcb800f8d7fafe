"""gzip and Snappy around a snapshot: what Java wrote, what is written here, and nonsense."""

from __future__ import annotations

import gzip
import struct

import pytest
from hypothesis import given, strategies as st

from terzetto.testcluster.storage.compression import compressor, decode_snappy_block, decompress, suffix_of
from tests.vectors.disk import directories

_STREAM = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)


def stream(*blocks: bytes) -> bytes:
    return _STREAM + b"".join(struct.pack(">i", len(block)) + block for block in blocks)


def test_what_java_compressed_is_a_snapshot() -> None:
    found = [path for directory in directories() for path in (directory.path / "version-2").glob("snapshot.*.*")]
    assert {path.suffix for path in found} == {".gz", ".snappy"}
    for path in found:
        data = decompress(path.read_bytes(), path.suffix)
        assert data.startswith(b"ZKSN")
        assert data.endswith(b"\0\0\0\1/")
        assert len(data) > path.stat().st_size


@given(st.lists(st.binary(max_size=1000), max_size=5), st.sampled_from(["", "gz"]))
def test_what_is_compressed_here_is_read(pieces: list[bytes], method: str) -> None:
    writer = compressor(method)
    data = b"".join([*map(writer.compress, pieces), writer.flush()])
    assert decompress(data, suffix_of(method)) == b"".join(pieces)
    if method == "gz":
        assert gzip.decompress(data) == b"".join(pieces)


def test_methods_that_cannot_be_written() -> None:
    assert suffix_of("gz") == ".gz"
    assert suffix_of("") == ""
    for method in ("snappy", "zstd", ".gz"):
        with pytest.raises(ValueError, match="snapshots cannot be written with"):
            compressor(method)


@pytest.mark.parametrize(
    ("block", "data"),
    [
        (b"\0", b""),
        (b"\3\x08abc", b"abc"),
        # A literal whose length takes one, two, three or four more bytes.
        (bytes([61]) + bytes([60 << 2, 60]) + b"x" * 61, b"x" * 61),
        (bytes([0x81, 0x02]) + bytes([61 << 2, 0, 1]) + b"y" * 257, b"y" * 257),
        (bytes([61]) + bytes([62 << 2, 60, 0, 0]) + b"x" * 61, b"x" * 61),
        (bytes([61]) + bytes([63 << 2, 60, 0, 0, 0]) + b"x" * 61, b"x" * 61),
        # Copies with offsets of 11, 16 and 32 bits.
        (b"\x08\x0cabcd" + bytes([0b000_000_01, 4]), b"abcdabcd"),
        (b"\x08\x0cabcd" + bytes([(3 << 2) | 2, 4, 0]), b"abcdabcd"),
        (b"\x08\x0cabcd" + bytes([(3 << 2) | 3, 4, 0, 0, 0]), b"abcdabcd"),
        # Copies that run into their own output.
        (b"\x0a\x00a" + bytes([(8 << 2) | 2, 1, 0]), b"a" * 10),
        (b"\x09\x04ab" + bytes([(6 << 2) | 2, 2, 0]), b"ababababa"),
    ],
)
def test_snappy_elements(block: bytes, data: bytes) -> None:
    assert decode_snappy_block(block) == data
    assert decompress(stream(block, block), ".snappy") == data * 2


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"", "ends in the middle"),
        (b"\xff\xff\xff\xff\xff\xff", "begins with no length"),
        (b"\xff\xff\xff\xff\x0f", "over the limit"),
        (b"\3\x08ab", "ends in the middle"),
        (b"\4\x08abc", "holds 3 bytes and announces 4"),
        (b"\2\x08abc", "longer than the 2 bytes"),
        (b"\x08\x0cabcd" + bytes([1, 5]), "reaches 5 bytes back"),
        (b"\x08\x0cabcd" + bytes([1, 0]), "reaches 0 bytes back"),
        (b"\x08\x0cabcd" + bytes([2, 1]), "ends in the middle"),
    ],
)
def test_snappy_nonsense_is_named(block: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_snappy_block(block)


@pytest.mark.parametrize(
    "data", [b"", b"x" * 40, _STREAM[:-1], _STREAM + b"\0\0", _STREAM + b"\0\0\0\5abc", _STREAM + b"\xff\xff\xff\xff"]
)
def test_a_damaged_snappy_stream_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="the snappy stream"):
        decompress(data, ".snappy")


@given(st.binary(max_size=200))
def test_garbage_ends_in_bytes_or_in_one_error(garbage: bytes) -> None:
    for data, suffix in ((garbage, ".snappy"), (stream(garbage), ".snappy"), (garbage, ".gz")):
        try:
            decompress(data, suffix)
        except ValueError:
            pass


def test_no_part_of_a_gzip_stream_is_one() -> None:
    data = gzip.compress(bytes(range(256)))
    for size in range(1, len(data)):
        with pytest.raises(ValueError, match="gzip stream is damaged"):
            decompress(data[:size], ".gz")
