"""The command line `tts`."""

from __future__ import annotations

import signal
import sys

from . import _tts


def main() -> None:
    """Runs the command line on this program's words and ends with its exit code."""
    # Ctrl-C is the command line's own, not an exception
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_tts.main(sys.argv))
