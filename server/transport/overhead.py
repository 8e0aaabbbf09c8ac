"""What a deployment's sockets carry beyond the messages that the ledger books: an estimate.

`make deploy-demo` measures it with a proxy between nodes and SuperLink and prints it beside the
numbers below. They are those of one request and its reply, with TLS, HTTP and polling; node
discovery and the copies of the app that nodes fetch at the start of a run are not in them.
Measured with flwr 1.41.0.
"""

from __future__ import annotations

UPLINK_OVERHEAD_BYTES = 12_300
"""Bytes from a node for each of its replies, beyond the serialized message."""
DOWNLINK_OVERHEAD_BYTES = 5_600
"""Bytes to a node for each request, beyond the serialized message."""


def transport_overhead(messages_up: int, messages_down: int) -> int:
    """Return about how many bytes a deployment carries beyond those messages themselves.

    Parameters
    ----------
    messages_up, messages_down
        Replies and requests, as the ledger counts them.

    Examples
    --------
    >>> transport_overhead(messages_up=2, messages_down=3)
    41400
    """
    return UPLINK_OVERHEAD_BYTES * messages_up + DOWNLINK_OVERHEAD_BYTES * messages_down
