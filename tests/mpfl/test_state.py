"""States: what is written of a dataclass makes an equal one again."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mpfl.mask import Layout, Mask
from mpfl.state import flatten, restore

LAYOUT = Layout(("a", "b"), (5, 9))
NUMBERS = st.integers(-(2**63), 2**63 - 1)
BINARY = st.binary(max_size=9)
MASKS = arrays(np.bool_, LAYOUT.total).map(lambda keep: Mask.from_bools(LAYOUT, keep))


@dataclass(frozen=True)
class Inner:
    """Leaves; arrays are compared by their bytes."""

    number: int
    share: float
    flag: bool
    text: str
    blob: bytes
    mask: Mask
    nothing: int | None
    perhaps: Mask | None


@dataclass
class Outer:
    inner: Inner
    vector: NDArray[np.float32]
    held: dict[int, int] = field(default_factory=dict)
    masks: dict[int, Mask] = field(default_factory=dict)
    named: dict[str, bytes] = field(default_factory=dict)
    links: list[bytes] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    lost: set[int] = field(default_factory=set)


INNERS = st.builds(
    Inner, NUMBERS, st.floats(allow_nan=False), st.booleans(), st.text(), BINARY, MASKS,
    NUMBERS | st.none(), MASKS | st.none(),
)  # fmt: skip
OUTERS = st.builds(
    Outer,
    INNERS,
    arrays(np.float32, array_shapes(min_dims=0, min_side=0)),
    st.dictionaries(NUMBERS, NUMBERS),
    st.dictionaries(NUMBERS, MASKS),
    st.dictionaries(st.text(), BINARY),
    st.lists(BINARY),
    st.lists(st.floats(allow_nan=False)),
    st.sets(NUMBERS),
)


def same(one: Outer, other: Outer) -> bool:
    vectors = one.vector, other.vector
    rest = [{**vars(state), "vector": None} for state in (one, other)]
    return (
        rest[0] == rest[1]
        and vectors[0].tobytes() == vectors[1].tobytes()
        and (vectors[0].dtype, vectors[0].size) == (vectors[1].dtype, vectors[1].size)
    )


@given(OUTERS)
def test_what_was_flattened_is_restored(state: Outer) -> None:
    written = flatten(state)
    assert all(isinstance(array, np.ndarray) for array in written.values())
    assert same(restore(Outer, written, LAYOUT), state)


@given(INNERS, INNERS)
def test_states_with_names_of_their_own_lie_side_by_side(one: Inner, other: Inner) -> None:
    written = {**flatten(one, "one/"), **flatten(other, "other/")}
    assert restore(Inner, written, LAYOUT, "one/") == one
    assert restore(Inner, written, LAYOUT, "other/") == other


@pytest.mark.parametrize("held", [{}, {3: 1, 1: 7}])
def test_a_state_survives_a_file(held: dict[int, int], tmp_path: Path) -> None:
    mask = Mask.from_bools(LAYOUT, np.arange(14) % 3 == 0)
    inner = Inner(7, 0.25, True, "phase", b"\0\1", mask, None, mask)
    state = Outer(
        inner, np.arange(6, dtype=np.float32), held, {2: mask}, {}, [b"", b"link"], [], {4}
    )
    path = tmp_path / "state"
    save_file({k: np.ascontiguousarray(v) for k, v in flatten(state).items()}, path)
    assert same(restore(Outer, load_file(path), LAYOUT), state)


def test_the_order_in_which_a_dictionary_grew_does_not_show() -> None:
    first, second = ({1: 2, 3: 4}, {3: 4, 1: 2})
    inner = Inner(0, 0.0, False, "", b"", Mask.full(LAYOUT), None, None)
    one, other = (flatten(Outer(inner, np.zeros(1, np.float32), held)) for held in (first, second))
    assert {k: v.tobytes() for k, v in one.items()} == {k: v.tobytes() for k, v in other.items()}


def test_what_is_empty_takes_no_room() -> None:
    @dataclass
    class Empty:
        masks: dict[int, Mask] = field(default_factory=dict)
        vector: NDArray[np.float32] | None = None

    assert flatten(Empty()) == {}
