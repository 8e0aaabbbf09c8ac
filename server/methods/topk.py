"""Sparse updates with error feedback, server half.

Source: Stich et al. 2018, "Sparsified SGD with memory", arXiv 1809.07599; Aji & Heafield 2017,
arXiv 1704.05021. Faithful: the k largest entries of the update plus memory travel as float32, the
rest stays in the client's memory. Differs: the update is that of a round's local training, not
one gradient; the places are a coded mask instead of 32-bit numbers; the server, too, sends only
what changed, or the whole model where that is shorter. A client whose reply is lost loses what
it sent.
"""

from __future__ import annotations

from mpfl.codecs import topk_codecs
from mpfl.world import World
from server.methods.fedavg import FedAvg


def make(world: World) -> FedAvg:
    """Return the server half."""
    return FedAvg(world, topk_codecs(world.experiment))
