"""``import mpfl``: every public name is there, and none of them costs anything until it is used."""

from __future__ import annotations

import subprocess
import sys

import mpfl


def test_every_name_of_the_facade_exists() -> None:
    assert [name for name in mpfl.__all__ if getattr(mpfl, name, None) is None] == []


def test_the_facade_is_light() -> None:
    script = "import sys, mpfl; print(sorted({'torch', 'numpy'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
