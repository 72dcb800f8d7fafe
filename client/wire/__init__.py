"""ZooKeeper's client protocol as a codec: records, operations, frames. Sans-IO, shared by the client and the
ensemble.
"""

from __future__ import annotations

from .compiler import Codec as Codec, codec as codec
from .framing import FrameBuffer as FrameBuffer
from .operations import OPERATIONS as OPERATIONS, Opcode as Opcode, Operation as Operation

__all__ = ["OPERATIONS", "Codec", "FrameBuffer", "Opcode", "Operation", "codec"]
