"""pfl-research on the work of `engine_table`: a script for an environment that has no mpfl.

``python peer_pfl.py FILE PROCESSES`` prints one line of JSON; `benchmarks.speed.peers` writes FILE.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

_ADDRESSES = "PFL_WORKER_ADDRESSES"
_RANK = "PFL_WORKER_RANK"


class Counted(nn.Module):
    """A network as pfl wants it, which counts the steps and the samples that it is trained on."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.steps, self.samples = network, 0, 0

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy of a batch, counting it."""
        self.steps, self.samples = self.steps + 1, self.samples + len(targets)
        return nn.functional.cross_entropy(self.network(inputs), targets)

    def metrics(self, *batch: Tensor) -> dict[str, Any]:
        """Refuse to evaluate: nothing but training belongs to the time of a round."""
        raise RuntimeError("a timed round evaluates")


def run(work: dict[str, Any]) -> dict[str, Any]:
    """Run every round of `work` by federated averaging; returns what `run_job` does, from here on.

    Every client trains one epoch from w0 in each round: the average, which the central optimizer
    has applied, is put back to w0 before the next. Raises RuntimeError if the steps and samples of
    all processes are not those of `work`. ``moved`` is the L2 norm of the last average less w0.
    """
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.hyperparam import NNTrainHyperParams
    from pfl.internal.ops.pytorch_ops import distributed
    from pfl.metrics import Metrics
    from pfl.model.pytorch import PyTorchModel

    class Training(FederatedAveraging):  # type: ignore[misc]
        """Federated averaging without the evaluation of the first round."""

        def get_next_central_contexts(self, *given: Any) -> Any:
            contexts, model, metrics = super().get_next_central_contexts(*given)
            alone = contexts and tuple(replace(one, do_evaluation=False) for one in contexts)
            return alone, model, metrics

    class Clock(TrainingProcessCallback):  # type: ignore[misc]
        """Notes when a round ends and starts the next one from w0, with its first client."""

        def __init__(self) -> None:
            self.ends, self.turn, self.moved = list[float](), itertools.count(), 0.0

        def after_central_iteration(self, *given: Any, **named: Any) -> Any:
            values = network.network.state_dict()
            self.moved = float(sum((values[k] - w0[k]).square().sum() for k in w0)) ** 0.5
            network.network.load_state_dict(w0)
            self.turn = itertools.count()
            self.ends.append(time.perf_counter() - began)
            return False, Metrics()

    orders = work["orders"]
    began, used, clients = time.perf_counter(), sum(os.times()[:4]), len(orders[0])
    network, clock = Counted(work["network"]), Clock()
    w0 = {name: value.clone() for name, value in network.network.state_dict().items()}

    def part(client: int) -> PyTorchTensorDataset:
        order = orders[len(clock.ends)][client]
        return PyTorchTensorDataset((work["inputs"][order], work["targets"][order]), str(client))

    data = FederatedDataset(part, lambda: next(clock.turn) % clients)
    Training().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=len(orders),
            evaluation_frequency=len(orders) + 1,
            train_cohort_size=clients,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(training_data=data, val_data=data),
        model=PyTorchModel(
            network,
            local_optimizer_create=torch.optim.SGD,
            central_optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        ),
        model_train_params=NNTrainHyperParams(
            local_batch_size=work["batch_size"],
            local_num_epochs=1,
            local_learning_rate=work["lr"],
        ),
        callbacks=[clock],
        send_metrics_to_platform=False,
    )
    steps, samples, seconds = _total(
        distributed.all_reduce, network.steps, network.samples, sum(os.times()[:4]) - used
    )
    lengths = [len(order) for order in itertools.chain(*orders)]
    if (steps, samples) != (sum(-(-n // work["batch_size"]) for n in lengths), sum(lengths)):
        raise RuntimeError(f"pfl took {steps:.0f} steps on {samples:.0f} samples of {sum(lengths)}")
    return {
        "processor_seconds": seconds,
        "start_seconds": clock.ends[0],
        "round_seconds": [b - a for a, b in itertools.pairwise(clock.ends)],
        "moved": clock.moved,
    }


def _total(all_reduce: Callable[[list[Tensor]], list[Tensor]], *numbers: float) -> list[float]:
    """Return the sums of numbers over all processes."""
    return [float(one) for one in all_reduce([torch.tensor([x]) for x in map(float, numbers)])]


def _start_others(processes: int) -> None:
    """Start the other processes in pfl's own way, and make this one the first of them."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    os.environ[_ADDRESSES] = ",".join([address] * processes)
    for rank in map(str, range(1, processes)):
        subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, _RANK: rank})
    os.environ[_RANK] = "0"


def main() -> None:
    """Run the work of a file in so many processes."""
    file, processes = sys.argv[1:]
    if int(processes) > 1 and _RANK not in os.environ:
        _start_others(int(processes))
    torch.set_num_threads(1)
    result = run(torch.load(file, weights_only=False, mmap=True))
    if os.environ.get(_RANK, "0") == "0":
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
