"""Variable-length integers: seven bits a byte, lowest first, shortest form only (LEB128)."""

from __future__ import annotations

from mpfl.wire.errors import WireError


def encode_varint(number: int) -> bytes:
    """Return a non-negative integer in the fewest bytes.

    Examples
    --------
    >>> encode_varint(300).hex()
    'ac02'
    """
    if number < 0:
        raise ValueError(f"a varint cannot hold {number}")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode_varint(blob: bytes | memoryview, start: int, field: str, limit: int) -> tuple[int, int]:
    """Read one integer.

    Parameters
    ----------
    blob, start
        Where to read.
    field
        Name for the error.
    limit
        The greatest legal value.

    Returns
    -------
    tuple
        The number, and where the next field begins.

    Raises
    ------
    WireError
        If the bytes end early, the form is not the shortest, or the number is above `limit`.
    """
    number = shift = 0
    for position in range(start, len(blob)):
        byte = blob[position]
        number |= (byte & 0x7F) << shift
        if number > limit:
            raise WireError(field, f"{number} or more is above the limit of {limit}")
        if byte < 0x80:
            if byte == 0 and shift:
                raise WireError(field, "not in its shortest form")
            return number, position + 1
        shift += 7
        if shift > 63:
            raise WireError(field, "longer than 64 bits")
    raise WireError(field, "the bytes end inside it")
