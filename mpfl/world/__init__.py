"""What every party of a run derives from its configuration alone: data, model, w0, contexts."""

from __future__ import annotations

from mpfl.world.building import Loader, build_world, held_data, shared_loader, world_from_toml
from mpfl.world.world import World

__all__ = ["Loader", "World", "build_world", "held_data", "shared_loader", "world_from_toml"]
