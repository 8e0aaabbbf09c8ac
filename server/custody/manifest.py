"""``manifest.json``: the digest of every file that a folder's numbers come from.

A folder without one is *unsealed*: it is read, but nobody can tell whether it was edited. So
removing the manifest is how an edit is accepted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mpfl.errors import InputError
from server.custody.files import digest_of, write_atomically

MANIFEST = "manifest.json"
_VERSION = 1
_ACCEPT = f"or remove {MANIFEST} to use the folder as it is, unsealed"
_REMEDY, _FOREIGN = f"put the original back, {_ACCEPT}", f"remove it, {_ACCEPT}"


def seal(folder: Path, digests: Mapping[str, str]) -> None:
    """Write the manifest: file names within the folder → SHA-256, hexadecimal."""
    write_atomically(folder / MANIFEST, _content(digests))


def add(folder: Path, name: str, content: bytes) -> None:
    """Put one more file into the manifest of a folder that has one."""
    known = listed(folder)
    if known is not None:
        seal(folder, {**known, name: digest_of(content)})


def drop(folder: Path, name: str) -> None:
    """Take a file out of the manifest, if it is listed there."""
    known = listed(folder) or {}
    if name in known:
        seal(folder, {other: known[other] for other in known if other != name})


def listed(folder: Path) -> dict[str, str] | None:
    """Return name → digest of what the manifest lists; None where there is no manifest.

    Raises
    ------
    InputError
        If the manifest itself was edited: every byte of it is determined by what it says.
    """
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        digests: Any = json.loads(content)["files"]
        if _content(digests) != content:
            raise ValueError(MANIFEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InputError(f"{path}: edited or damaged; {_REMEDY}") from None
    return dict(digests)


def check(folder: Path, present: Iterable[str] = ()) -> bool:
    """Check every file that the manifest lists; returns whether there is a manifest.

    Parameters
    ----------
    present
        Names that the manifest must list where it is there.

    Raises
    ------
    InputError
        One line naming the file that is missing, was edited, or was put there by somebody else.
    """
    known = listed(folder)
    if known is None:
        return False
    for name in known:
        _check(folder, name, known[name])
    for name in present:
        if name not in known:
            raise _foreign(folder / name)
    return True


def check_file(folder: Path, name: str) -> None:
    """Check one file, where there is a manifest; InputError as in `check`."""
    known = listed(folder)
    if known is not None and name in known:
        _check(folder, name, known[name])
    elif known is not None and (folder / name).exists():
        raise _foreign(folder / name)


def _foreign(path: Path) -> InputError:
    return InputError(f"{path}: {MANIFEST} does not list it; {_FOREIGN}")


def _check(folder: Path, name: str, digest: str) -> None:
    path = folder / name
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise InputError(f"{path}: missing, though {MANIFEST} lists it; {_REMEDY}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if found != digest:
        raise InputError(f"{path}: edited or damaged, {MANIFEST} has another digest; {_REMEDY}")


def _content(digests: Mapping[str, str]) -> bytes:
    """Return the manifest's only spelling, with a digest of itself."""
    told = {"version": _VERSION, "files": dict(digests)}
    own = digest_of(json.dumps(told, sort_keys=True).encode())
    return (json.dumps({**told, "digest": own}, indent=2, sort_keys=True) + "\n").encode()
