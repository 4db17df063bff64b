"""Files over a connection: what is offered, what is wanted, and only the missing part is sent.

The cores here are sans-I/O: they eat and yield the bytes of one bidirectional stream. Disks are the
business of :mod:`natwalk.transfer.storage`, which only drivers import.
"""

from natwalk.transfer.errors import FailureKind, TransferError, TransferInterrupted
from natwalk.transfer.events import Acknowledged, AllSent, Completed, Failed, OfferReceived, PlanReceived
from natwalk.transfer.flow import FileBegun, FileData, FileDone, FileOmitted, FlowItem, Have, Plan
from natwalk.transfer.names import check_path, clean_name, shown
from natwalk.transfer.offer import Entry, EntryKind, Offer, OverallDigest
from natwalk.transfer.progress import Progress, ProgressMeter
from natwalk.transfer.receiver import Receiver
from natwalk.transfer.sender import Sender

__all__ = [
    "Acknowledged",
    "AllSent",
    "Completed",
    "Entry",
    "EntryKind",
    "Failed",
    "FailureKind",
    "FileBegun",
    "FileData",
    "FileDone",
    "FileOmitted",
    "FlowItem",
    "Have",
    "Offer",
    "OfferReceived",
    "OverallDigest",
    "Plan",
    "PlanReceived",
    "Progress",
    "ProgressMeter",
    "Receiver",
    "Sender",
    "TransferError",
    "TransferInterrupted",
    "check_path",
    "clean_name",
    "shown",
]
