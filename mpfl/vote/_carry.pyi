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
def add_group(planes: list[Any], ballots: list[Any], units: int, /) -> None: ...
