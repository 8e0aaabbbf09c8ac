"""The one error that decoding raises."""

from __future__ import annotations


class WireError(ValueError):
    """What was received cannot be what a sender of this library wrote.

    Attributes
    ----------
    field
        Which field was wrong, e.g. ``"checksum"`` or ``"mask.codec"``.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def __reduce__(self) -> tuple[type[WireError], tuple[str, str]]:
        """Pickle with both arguments, so that the error survives a process boundary."""
        return type(self), (self.field, self.problem)
