"""A folder in good hands: one owner at a time, whole files, digests of what was written."""

from server.custody.files import Content, Log, digest_of, write_atomically, writing
from server.custody.lock import held, release, take
from server.custody.manifest import MANIFEST, add, check, check_file, drop, listed, seal

__all__ = [
    "MANIFEST",
    "Content",
    "Log",
    "add",
    "check",
    "check_file",
    "digest_of",
    "drop",
    "held",
    "listed",
    "release",
    "seal",
    "take",
    "write_atomically",
    "writing",
]
