"""Where a transfer meets the disk: reading sources, confined writing, and what survives a killed process.

The only part of this room that does I/O. Everything here blocks; drivers call it in a thread.
"""

from natwalk.transfer.storage.destination import Destination
from natwalk.transfer.storage.placing import Outcome, Placed
from natwalk.transfer.storage.reading import SourceReader
from natwalk.transfer.storage.scanning import Source, scan
from natwalk.transfer.storage.state import (
    ReceiveState,
    ResumeRecord,
    SendState,
    SendStateFile,
    find_receive_state,
)

__all__ = [
    "Destination",
    "Outcome",
    "Placed",
    "ReceiveState",
    "ResumeRecord",
    "SendState",
    "SendStateFile",
    "Source",
    "SourceReader",
    "find_receive_state",
    "scan",
]
