"""What a signal does to a command: it ends in order, or at once when asked again."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

_AGAIN = b"mpfl: interrupted twice; continue with mpfl resume\n"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SOON = 0.01  # seconds


class Interrupted(BaseException):
    """A signal asks this process to end.

    Attributes
    ----------
    status
        The exit status that says so: 128 + the signal.
    folder
        What `mpfl resume` can continue; None if there is no such folder.
    """

    def __init__(self, number: int) -> None:
        self.status = 128 + number
        self.folder: Path | None = None

    def __str__(self) -> str:
        resumable = f"; continue with mpfl resume {self.folder}" if self.folder else ""
        return f"interrupted{resumable}"


@contextmanager
def interruptible() -> Iterator[None]:
    """Have the first signal raise `Interrupted`, and the second one end the process at once.

    Child processes end with this one, however it ends. A signal that was ignored (``nohup``, a
    script's background) stays so; elsewhere than in the main thread nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    wanted = [number for number in _SIGNALS if before[number] is not signal.SIG_IGN]
    process = os.getpid()
    met: list[int] = []
    anew: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if anew:  # what is delivered anew was met before
            anew.pop()
        else:
            met.append(number)
        if os.getpid() != process:  # a child that has not chosen for itself yet
            os._exit(128 + number)
        if len(met) > 1:
            with suppress(OSError):
                os.write(2, _AGAIN)
            os._exit(128 + number)
        raise Interrupted(number)

    def once_more(lost: sys.UnraisableHookArgs) -> None:
        """Deliver a signal anew that came in a finaliser, which lets no exception out."""
        if not isinstance(lost.exc_value, Interrupted):
            hook(lost)
            return
        threading.Timer(_SOON, deliver_anew, (met[0],)).start()

    def deliver_anew(number: int) -> None:
        anew.append(number)
        signal.pthread_kill(threading.main_thread().ident or 0, number)

    hook, sys.unraisablehook = sys.unraisablehook, once_more
    for number in wanted:
        signal.signal(number, stop)
    done = False
    try:
        yield
        done = True
    finally:
        sys.unraisablehook = hook
        for number in wanted if done or not met else ():  # else this process is about to end
            signal.signal(number, before[number])


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Say with an interruption of the block which folder `mpfl resume` continues."""
    try:
        yield
    except Interrupted as interrupted:
        interrupted.folder = folder
        raise


def ignore_signals() -> None:
    """Let nothing disturb the last words of a process that ends."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def obey_parent() -> None:
    """In a child process: leave it to the parent what Ctrl-C and a closed terminal mean."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
