"""Files that are whole or not there, files that only grow, and their digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mpfl.errors import InputError

_CHUNK = 1 << 20

Content = bytes | memoryview


@contextmanager
def writing(path: Path, option: str = "--out", remedy: str = "") -> Iterator[None]:
    """Turn what the system refuses to write into an InputError that names option and path."""
    try:
        yield
    except OSError as error:
        where = f"{option}: " if option else ""
        raise InputError(f"{where}cannot write {path}: {error.strerror}{remedy}") from None


def write_atomically(path: Path, *contents: Content) -> None:
    """Write a file of these parts so that a crash leaves either the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            put(file, *contents)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk needs the room
        raise


def put(file: BinaryIO, *contents: Content) -> None:
    """Write to an open file and wait until the disk has it."""
    for content in contents:
        file.write(content)
    file.flush()
    os.fsync(file.fileno())


def digest_of(content: bytes) -> str:
    """Return the SHA-256, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class Log:
    """A file that only grows, and the digest of all that was ever written to it.

    The digest is not read back from the disk: a file that somebody else changed does not match it.

    Parameters
    ----------
    length
        Bytes that the file must hold already. What is beyond stays until `cut`.

    Raises
    ------
    InputError
        If the file is shorter, or cannot be read.
    """

    def __init__(self, path: Path, length: int = 0) -> None:
        self.path, self.length = path, length
        self._hash = hashlib.sha256()
        missing = length
        try:
            with path.open("rb") as file:
                while chunk := file.read(min(missing, _CHUNK)):
                    self._hash.update(chunk)
                    missing -= len(chunk)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        if missing:
            raise InputError(f"{path} is shorter than its checkpoint says")

    @property
    def digest(self) -> str:
        """SHA-256 of the whole file, hexadecimal."""
        return self._hash.hexdigest()

    def append(self, content: bytes) -> None:
        """Write at the end."""
        with self.path.open("ab") as file:
            put(file, content)
        self._hash.update(content)
        self.length += len(content)

    def cut(self) -> None:
        """Cut off what is beyond the length."""
        with self.path.open("r+b") as file:
            file.truncate(self.length)
