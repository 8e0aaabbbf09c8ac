"""The accuracy ceiling trains on pooled data at the server and asks clients for nothing."""

from __future__ import annotations

from clients.client import Client
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame


def handle(request: Frame, client: Client) -> Frame:
    """Refuse: a centralized run sends no request. Always raises WireError."""
    raise WireError("kind", "centralized training has no clients")
