"""What each client holds of mask and model, and what leads it to the newest."""

from server.versions.masks import MaskCoder, MaskLog
from server.versions.model import Broadcaster

__all__ = ["Broadcaster", "MaskCoder", "MaskLog"]
