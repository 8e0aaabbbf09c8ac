"""What a node says of itself when it is asked: which partition it holds, and what it derived.

Engines other than our own number their nodes at random, and their nodes may stand on other
machines. A node whose initial weights are not the server's would read masks as noise, so it says
beforehand what it would start from. See docs/wire-format.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256

from mpfl.wire.errors import WireError

PARTITION, PARTITIONS, FINGERPRINT = "partition-id", "num-partitions", "fingerprint"
_DIGEST_BYTES = 8
_CAUSES = {
    "w0": "initial weights: another model.weights file, torch or processor",
    "configuration": "another experiment or another version of mpfl",
    "data": "other samples, labels or shares of them",
    "streams": "another torch or NumPy draws other random numbers",
}


@dataclass(frozen=True)
class Fingerprint:
    """What must be the same for all parties, as digests of 8 bytes each."""

    w0: bytes
    configuration: bytes
    data: bytes
    streams: bytes

    def pack(self) -> bytes:
        """Return the digests one after another."""
        return b"".join(getattr(self, field.name) for field in fields(self))

    @classmethod
    def unpack(cls, blob: bytes) -> Fingerprint:
        """Read what `pack` wrote; WireError on another length."""
        expected = _DIGEST_BYTES * len(fields(cls))
        if len(blob) != expected:
            raise WireError(FINGERPRINT, f"expected {expected} bytes, got {len(blob)}")
        starts = range(0, expected, _DIGEST_BYTES)
        return cls(*(blob[start : start + _DIGEST_BYTES] for start in starts))

    def check(self, other: Fingerprint) -> None:
        """Raise WireError that names what differs at `other`, if anything does."""
        names = [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]
        if names:
            told = "; ".join(
                f"{name} is {getattr(other, name).hex()}, the server's {getattr(self, name).hex()}"
                f" ({_CAUSES[name]})"
                for name in names
            )
            raise WireError(FINGERPRINT, told)


@dataclass(frozen=True)
class Introduction:
    """A node's answer.

    Attributes
    ----------
    partition, partitions
        Which part of the data it holds, from 0, and of how many.
    """

    partition: int
    partitions: int
    fingerprint: Fingerprint

    def facts(self) -> dict[str, int | bytes]:
        """Return what travels."""
        packed = self.fingerprint.pack()
        return {PARTITION: self.partition, PARTITIONS: self.partitions, FINGERPRINT: packed}

    @classmethod
    def read(cls, facts: Mapping[str, object]) -> Introduction:
        """Read what `facts` wrote; WireError that names what is missing or of another kind."""
        fingerprint = facts.get(FINGERPRINT)
        if not isinstance(fingerprint, bytes):
            raise WireError(FINGERPRINT, f"expected bytes, got {type(fingerprint).__name__}")
        partition, partitions = (_integer(facts, key) for key in (PARTITION, PARTITIONS))
        return cls(partition, partitions, Fingerprint.unpack(fingerprint))

    def check(self, clients: int, fingerprint: Fingerprint) -> None:
        """Raise WireError if the node cannot be one of `clients` that share `fingerprint`."""
        if self.partitions != clients:
            raise WireError(
                PARTITIONS,
                f"got {self.partitions}, expected data.clients = {clients} "
                f"(flwr run takes --federation-config 'num-supernodes={clients}')",
            )
        if not 0 <= self.partition < clients:
            raise WireError(PARTITION, f"got {self.partition}, expected 0 to {clients - 1}")
        fingerprint.check(self.fingerprint)


def digest(parts: Iterable[bytes | memoryview]) -> bytes:
    """Return 8 bytes that stand for a sequence of byte strings."""
    chain = sha256()
    for part in parts:
        chain.update(memoryview(part).nbytes.to_bytes(8, "little"))
        chain.update(part)
    return chain.digest()[:_DIGEST_BYTES]


def _integer(facts: Mapping[str, object], key: str) -> int:
    value = facts.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        got = "nothing" if value is None else repr(value)[:40]
        raise WireError(key, f"expected an integer, got {got}")
    return value
