"""Federated averaging and two relatives that write weights in another way (`mpfl.methods`)."""

from __future__ import annotations

from server.methods.averaging import WeightMethod


class FedAvg(WeightMethod):
    """Every round: broadcast the model, average what comes back.

    Source: McMahan et al. 2017, arXiv 1602.05629, Algorithm 1. Faithful: sampled clients, local
    epochs, mean weighted by samples, 32 bits per parameter both ways. Differs: the first
    downlink is empty, because w0 follows from the seed (every method here has that saving).
    """

    reads = ("train.*",)


class FedAvgQ8(WeightMethod):
    """Federated averaging of 8-bit differences.

    Source: FedAvg with the quantiser of QSGD (Alistarh et al. 2017, arXiv 1610.02132) at 127
    levels a sign. Faithful: stochastic rounding, so that the mean is unbiased; one scale a
    tensor, up and down. Differs: differences to the model that the receiver holds are
    quantised, not values; the integers are entropy coded; scale is the tensor's largest
    magnitude, not its norm.
    """

    reads = ("train.*",)


class TopK(WeightMethod):
    """Federated averaging of sparse updates with error feedback.

    Source: Stich et al. 2018, "Sparsified SGD with memory", arXiv 1809.07599; Aji & Heafield
    2017, arXiv 1704.05021. Faithful: the k largest entries of the update plus memory travel as
    float32, the rest stays in the client's memory. Differs: the update is that of a round's
    local training, not one gradient; the places are a coded mask instead of 32-bit numbers; the
    server, too, sends only what changed, or the whole model where that is shorter. A client
    whose reply is lost loses what it sent.
    """

    reads = ("train.*", "comparator.topk_fraction")
