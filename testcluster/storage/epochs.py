"""acceptedEpoch and currentEpoch: two promises, each a number in a file of its own.

Decides how they are written and when the files contradict themselves or the log.
"""

from __future__ import annotations

from pathlib import Path

from ..ids import epoch_of
from .errors import DataDirectoryError
from .files import write_whole
from .names import ACCEPTED_EPOCH, CURRENT_EPOCH
from .zxids import show


class EpochFiles:
    """The two epochs of one server.

    A file that is missing stands for the epoch of the last transaction, as in ZooKeeper, and is not made before there
    is something to write: a standalone server has none. In an ensemble, what the log has raised is written down, so
    that neither epoch falls when the log is cut.

    Args:
        directory: where the files are.
        replicated: the server is a member of an ensemble.
    """

    def __init__(self, directory: Path, *, replicated: bool) -> None:
        self._directory = directory
        self._replicated = replicated
        self.accepted = 0
        self.current = 0

    def load(self, last_zxid: int) -> None:
        """Reads the files, after the log.

        A current epoch below the last transaction's is raised to it, in memory: a transaction is sent only when its
        leader was established, and ZooKeeper 3.8.0 refuses to start after a crash between the two writes.

        Raises:
            DataDirectoryError: a file holds no number, or the accepted epoch is below the current one.
            OSError: a file cannot be written.
        """
        logged = epoch_of(last_zxid)
        accepted = self._read(ACCEPTED_EPOCH)
        current = self._read(CURRENT_EPOCH)
        if accepted is not None and current is not None and accepted < current:
            raise DataDirectoryError(
                f"{self._directory / ACCEPTED_EPOCH} holds {accepted}, which is less than the {current} "
                f"in {CURRENT_EPOCH} (the last transaction is {show(last_zxid)})"
            )
        self.current = max(logged, current if current is not None else logged)
        self.accepted = max(self.current, accepted if accepted is not None else logged)
        if self._replicated and self.accepted > (accepted or 0):
            self.write_accepted(self.accepted)
        if self._replicated and self.current > (current or 0):
            self.write_current(self.current)

    def _read(self, name: str) -> int | None:
        path = self._directory / name
        try:
            text = path.read_text(encoding="ascii")
            return int(text)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise DataDirectoryError(f"{path} holds no epoch: {error}") from error

    def write_accepted(self, epoch: int) -> None:
        """See `Storage`."""
        if epoch < self.accepted:
            raise ValueError(f"accepted epoch {epoch} is smaller than {self.accepted}")
        write_whole(self._directory / ACCEPTED_EPOCH, str(epoch).encode())
        self.accepted = epoch

    def write_current(self, epoch: int) -> None:
        """See `Storage`."""
        if not self.current <= epoch <= self.accepted:
            raise ValueError(f"current epoch {epoch} is not between {self.current} and {self.accepted}")
        write_whole(self._directory / CURRENT_EPOCH, str(epoch).encode())
        self.current = epoch
