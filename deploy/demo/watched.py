"""Runs a module so that it never outlives the program that started it.

`python -m deploy.demo.watched PARENT MODULE [ARGUMENT ...]`: on Linux the kernel sends SIGTERM when
the parent goes, however it goes; everywhere the end of standard input, a pipe that the parent holds
open, says the same.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_GRACE_S = 10.0


def die_with_parent(parent: int, number: int) -> None:
    """Have the kernel send this process signal `number` when `parent` goes; Linux only.

    A parent that is gone already ends this process here.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _end_with_input() -> None:
    """Wait for the parent to close the pipe, then end: gracefully, then at once."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    os._exit(1)


def main() -> None:
    """Run the module that the command line names, as `python -m` would."""
    parent, module, *arguments = sys.argv[1:]
    die_with_parent(int(parent), signal.SIGTERM)
    threading.Thread(target=_end_with_input, daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
