"""Named configurations, configuration files, ``extends``, and ``key=value`` on top of them."""

from mpfl.presets.assignments import (
    changed,
    parse_assignment,
    parse_list,
    parse_names,
    parse_value,
    resolve,
)
from mpfl.presets.files import anchored, describe, extended, load_table, preset_names, preset_text
from mpfl.presets.renames import renamed

__all__ = [
    "anchored",
    "changed",
    "describe",
    "extended",
    "load_table",
    "parse_assignment",
    "parse_list",
    "parse_names",
    "parse_value",
    "preset_names",
    "preset_text",
    "renamed",
    "resolve",
]
