"""What a grid of a test's own need not write: the parts of Flower's interface that nobody calls."""

from __future__ import annotations

from typing import NoReturn

from flwr.app import Message
from flwr.serverapp import Grid


class BareGrid(Grid):
    """A grid whose nodes and messages are still to be written."""

    def set_run(self, run: object) -> None: ...

    @property
    def run(self) -> NoReturn:
        raise NotImplementedError

    def create_message(self, *arguments: object, **options: object) -> Message:
        raise NotImplementedError
