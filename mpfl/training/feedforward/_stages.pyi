from typing import Any

Stage = tuple[int, int, int, int, int, int, int, int, int, int]

def forward(
    stage: Stage,
    x: Any,
    filters: Any,
    bias: Any,
    out: Any,
    chosen: Any,
    /,
) -> None: ...
def backward(
    stage: Stage,
    gradient: Any,
    out: Any,
    chosen: Any,
    x: Any,
    filters: Any,
    spread: Any,
    filter_gradient: Any,
    bias_gradient: Any,
    x_gradient: Any,
    /,
) -> None: ...
def group(samples: int, features: int, rows: Any, groups: Any, /) -> None: ...
def ungroup(samples: int, features: int, groups: Any, rows: Any, /) -> None: ...
def width(wanted: int = -1, /) -> int: ...
