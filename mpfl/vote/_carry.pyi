from typing import Any

def add(
    planes: list[Any],
    carries: list[Any],
    level: int,
    last: int,
    ballot: Any,
    units: int,
    /,
) -> None: ...
