from typing import Any

def decode(
    states: Any,
    row: int,
    words: Any,
    next: int,
    contexts: Any,
    frequencies: Any,
    starts: Any,
    alphabet: int,
    says: Any,
    out: Any,
    /,
) -> tuple[int, int]: ...
def encode(
    states: Any, frequencies: Any, starts: Any, words: Any, wanted: int, stride: int, /
) -> tuple[int, int]: ...
