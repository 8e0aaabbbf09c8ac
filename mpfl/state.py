"""What a party keeps from round to round: dataclasses of plain fields ⇄ named NumPy arrays.

A field is a number, a string, bytes, an array, a mask, a list or set of such, a dictionary of
such by whole numbers or by names, or again a dataclass; ``| None`` where there may be nothing.
Annotations say what is to be read. Names of nested fields are joined by slashes; what is empty has
no array.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from mpfl.mask import Layout, Mask

State = TypeVar("State")
Arrays = dict[str, NDArray[Any]]
_ARRAY = (np.ndarray, get_origin(NDArray[Any]))  # NumPy 2.5 annotates with an alias of its own


def flatten(state: object, prefix: str = "") -> Arrays:
    """Return a state's arrays by name; all names begin with `prefix`."""
    return {prefix + "/".join(path): array for path, array in _arrays(state, ())}


def restore(
    kind: type[State], arrays: Mapping[str, NDArray[Any]], layout: Layout, prefix: str = ""
) -> State:
    """Return the state, a dataclass of this kind, that `flatten` made the arrays of.

    Parameters
    ----------
    layout
        That of all its masks.
    """
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        if name.startswith(prefix):
            *parents, leaf = name.removeprefix(prefix).split("/")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = array
    state: State = _value(kind, tree, layout)
    return state


def _arrays(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], NDArray[Any]]]:
    parts: dict[str, Any] = {}
    if is_dataclass(value):
        parts = {item.name: getattr(value, item.name) for item in fields(value)}
    elif isinstance(value, dict):
        parts = {"keys": sorted(value), "values": [value[key] for key in sorted(value)]}
    elif isinstance(value, list | set):
        items = sorted(value) if isinstance(value, set) else value
        if items and isinstance(items[0], int | float):
            yield path, np.array(items)
        else:
            parts = {str(place): item for place, item in enumerate(items)}
    elif value is not None:
        yield path, _leaf(value)
    for name, part in parts.items():
        yield from _arrays(part, (*path, name))


def _leaf(value: Any) -> NDArray[Any]:
    if isinstance(value, Mask):
        value = value.packed()
    elif isinstance(value, str):
        value = value.encode()
    return np.frombuffer(value, np.uint8) if isinstance(value, bytes) else np.asarray(value)


def _value(kind: Any, tree: Any, layout: Layout) -> Any:
    """Return the value of an annotated kind; `tree` is its array, or those of its parts by name."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _fields(kind, tree, layout)
    if origin is UnionType:
        absent = isinstance(tree, dict) and not tree
        return None if absent else _value(arguments[0], tree, layout)
    if origin is dict:
        keys = _items(arguments[0], tree.get("keys", {}), layout)
        return dict(zip(keys, _items(arguments[1], tree.get("values", {}), layout), strict=True))
    if origin in (list, set):
        return origin(_items(arguments[0], tree, layout))
    if kind is Mask:
        return Mask.from_packed(layout, tree.tobytes())
    if kind is bytes:
        return tree.tobytes()
    if kind is str:
        return tree.tobytes().decode()
    return tree if origin in _ARRAY else kind(tree.item())


def _fields(kind: Any, tree: Mapping[str, Any], layout: Layout) -> Any:
    kinds = _kinds(kind)
    return kind(**{name: _value(kinds[name], tree.get(name, {}), layout) for name in kinds})


def _items(kind: Any, tree: Any, layout: Layout) -> list[Any]:
    if isinstance(tree, np.ndarray):
        return list(tree.tolist())
    return [_value(kind, tree[str(place)], layout) for place in range(len(tree))]


@cache
def _kinds(kind: Any) -> dict[str, Any]:
    """Return the annotations of a dataclass's fields; looking them up is slow."""
    hints = get_type_hints(kind)
    return {item.name: hints[item.name] for item in fields(kind)}
