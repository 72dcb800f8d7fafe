"""A process that writes a history to a data directory until somebody kills it: `python -m tests.interop.disk_writer`.

Prints the zxid that is durable after every sync, so that whoever kills it knows what must be found again. The history
follows from the seed, so that it can be made again elsewhere.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from terzetto.testcluster.storage import DiskOptions, DiskStorage
from tests.testcluster.storage.histories import History, snapshot_pieces, start

SNAPSHOT_EVERY = 400


def main() -> None:
    """Arguments: the data directory, the seed."""
    directory, seed = Path(sys.argv[1]), int(sys.argv[2])
    storage = DiskStorage(directory, None, DiskOptions(preallocation=1 << 16))
    history = History(random.Random(seed), start(storage))
    due = SNAPSHOT_EVERY
    while True:
        storage.append(history.grow(7))
        print(storage.sync(), flush=True)
        if history.tree.last_zxid >= due:
            due += SNAPSHOT_EVERY
            # Fuzzy: the history goes on between two pieces.
            writer = storage.begin_snapshot(history.tree.last_zxid)
            for piece in snapshot_pieces(history.tree, 4000):
                writer.write(piece)
                storage.append(history.grow(1))
            writer.commit()


if __name__ == "__main__":
    main()
