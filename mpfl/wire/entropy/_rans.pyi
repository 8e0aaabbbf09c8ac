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
    slots: Any,
    out: Any,
    /,
) -> int: ...
def encode(
    states: Any, frequencies: Any, starts: Any, words: Any, wanted: int, stride: int, /
) -> tuple[int, int]: ...
