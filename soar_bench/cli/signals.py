"""What the system asks of a running command."""

from __future__ import annotations

import signal
from types import FrameType


def terminate_as_interrupt() -> None:
    """Lets SIGTERM, by which clusters reclaim a node, end a command as Ctrl-C does: in order."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
