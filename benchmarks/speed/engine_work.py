"""The work that `engine_table` times: one engine in a process of its own, result as JSON.

``python -m benchmarks.speed.engine_work '<JSON of Job>'`` prints one line.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from torch.nn import functional

from clients.app import app as training_app
from clients.app import client_app
from mpfl.config import Experiment, from_mapping, to_toml
from mpfl.errors import InputError
from mpfl.models import build_model
from mpfl.seeding import torch_generator
from mpfl.training.local import precision_context
from mpfl.wire.frame import decode_frame, encode_frame
from mpfl.world import World, world_from_toml
from server.methods import METHODS
from server.transport.courier import Courier
from server.transport.grid import LocalGrid

_TIMEOUT = 600.0
_PAYLOAD_BYTES = 1000

echo_app = ClientApp()


@echo_app.query()
def introduce_echo(message: Message, context: Context) -> Message:
    """Say who this is; the common ground of all is the experiment of defaults."""
    from clients.app import app  # Ray carries this function away, but not what it refers to here

    return app(message, context)


@echo_app.train()
def echo(message: Message, context: Context) -> Message:
    """Answer with what came: a client that costs nothing but its messages."""
    return Message(message.content, reply_to=message)


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes
    ----------
    engine
        ``bare`` (a plain PyTorch loop), ``local``, ``vectorised`` (the local grid, clients trained
        together, and on a GPU) or ``ray``.
    workers
        Processes; for ``ray`` actors of one core each.
    rounds
        Rounds that are timed, after the first.
    folder
        Folder of MNIST; empty: clients that only echo 1,000 bytes.
    codec
        Codec of the masks. ``raw`` keeps the cost of entropy coding, which the bare loop has
        no part in, out of the comparison of engines.
    together, device
        Clients trained together, and where clients are trained.
    model, precision, granularity
        The network, what it is trained in, and what a bit of its masks decides about.
    samples
        Of each client; 0: an equal part of all.
    augment
        What is done to images that are trained on.
    """

    engine: str
    workers: int
    clients: int
    rounds: int
    folder: str = ""
    codec: str = "raw"
    together: int = 0
    device: str = "cpu"
    model: str = "lenet300"
    precision: str = "float32"
    granularity: str = "weight"
    samples: int = 0
    augment: str = ""


def experiment(job: Job) -> Experiment:
    """Return the experiment: MNIST, one epoch, batches of 32, mask ballots."""
    train = {"epochs": 1, "batch_size": 32, "lr": 0.1}
    return from_mapping(
        {
            "method": "mpfl",
            "data": {
                "name": "mnist",
                "folder": job.folder,
                "clients": job.clients,
                "train_samples": job.samples * job.clients,
                "augment": job.augment,
            },
            "model": {"name": job.model},
            "train": {**train, "device": job.device, "precision": job.precision},
            "prune": {
                "density": 1.0 if job.granularity == "filter" else 0.1,
                "rounds": job.rounds + 1,
                "granularity": job.granularity,
            },
            "wire": {"mask_codec": job.codec},
            "federation": {"rounds": job.rounds + 1},
            "engine": {"vectorised": job.together},
        }
    )


def run_job(job: Job) -> dict[str, Any]:
    """Run the rounds of a job.

    Returns
    -------
    dict
        ``start_seconds``: from the start of the engine (data in memory, where it can share
        them) to the end of the first round; ``round_seconds``: the rounds after it;
        ``processor_seconds``: of this process and those it has waited for (Ray's are not among
        them), all rounds together; ``device_bytes``: the most that the GPU had to hold (None
        without one).
    """
    torch.set_num_threads(1)
    # A number for clients trained together must not be that of clients trained one after another.
    warnings.filterwarnings("error", message="engine.vectorised")
    world = world_from_toml(to_toml(experiment(job))) if job.folder else None
    began = time.perf_counter()
    ends: list[float] = []

    def rounds(round_once: Callable[[int], None]) -> None:
        for number in range(1, job.rounds + 2):
            round_once(number)
            ends.append(time.perf_counter() - began)

    used = sum(os.times()[:4])
    ENGINES[job.engine](job, world, rounds)
    return {
        "processor_seconds": sum(os.times()[:4]) - used,
        "start_seconds": ends[0],
        "round_seconds": [b - a for a, b in pairwise(ends)],
        "device_bytes": torch.cuda.max_memory_allocated() if job.device == "cuda" else None,
    }


Rounds = Callable[[Callable[[int], None]], None]


def _bare(job: Job, world: World | None, rounds: Rounds) -> None:
    if world is None:
        raise InputError("a bare loop has no messages to time")
    bare = BareLoop(world)

    def play(number: int) -> None:
        for client in range(job.clients):
            bare.client(client, number)

    rounds(play)


class BareLoop:
    """What one would write without any framework: a module, torch's optimizer, one process."""

    def __init__(self, world: World) -> None:
        generator = torch_generator(world.experiment.seed, "w0")
        self._config = config = world.experiment.train
        name = world.experiment.model.name
        model = build_model(name, 10, world.data.input_shape, generator)
        self.model = model.to(config.device)
        self._start = {k: v.clone() for k, v in self.model.state_dict().items()}
        everything = world.data.train.prepared().to("cpu")
        parts = [everything.subset(torch.from_numpy(part)) for part in world.parts]
        self._parts = [part.to(config.device) for part in parts]

    def client(self, number: int, round_number: int) -> float:
        """Train client `number` from the start for one epoch; returns its last batch's loss."""
        samples = self._parts[number]
        self.model.load_state_dict(self._start)
        optimizer = torch.optim.SGD(self.model.parameters(), self._config.lr)
        loss = torch.zeros(())
        for index in torch.split(self.order(number, round_number), self._config.batch_size):
            optimizer.zero_grad()
            place = index.to(samples.device)
            with precision_context(self._config.precision, self._config.device):
                logits = self.model(samples.inputs[place])
                loss = functional.cross_entropy(logits, samples.targets[place])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return float(loss.detach())

    def order(self, number: int, round_number: int) -> torch.Tensor:
        """Return the order in which client `number` goes over its part, int64."""
        generator = torch_generator(0, "batches", round_number, number)
        return torch.randperm(len(self._parts[number]), generator=generator)


def _local(job: Job, world: World | None, rounds: Rounds) -> None:
    together = experiment(job).together
    with LocalGrid(
        _app(world), job.clients, _run_config(job, world), job.workers, together
    ) as grid:
        rounds(_round(job, world, grid))


def _ray(job: Job, world: World | None, rounds: Rounds) -> None:
    from flwr.simulation import run_simulation

    server = ServerApp()
    text = to_toml(experiment(job)) if world else ""

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        rounds(_round(job, world, grid))

    run_simulation(
        server,
        _configured(text) if text else echo_app,
        job.clients,
        backend_config={
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            "init_args": {"num_cpus": job.workers, "logging_level": "error"},
        },
    )


def _configured(text: str) -> ClientApp:
    """Return the real app for an engine that passes clients no configuration of the run."""
    configured = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        known = context.run_id, context.node_id, context.node_config, context.state
        return training_app(message, Context(*known, run_config={"experiment": text}))

    configured.query()(answer)
    configured.train()(answer)
    return configured


ENGINES: dict[str, Callable[[Job, World | None, Rounds], None]] = {
    "bare": _bare,
    "local": _local,
    "vectorised": _local,
    "ray": _ray,
}


def _app(world: World | None) -> ClientApp:
    return client_app(lambda _: world) if world else echo_app


def _run_config(job: Job, world: World | None) -> dict[str, bool | float | int | str]:
    return {"experiment": to_toml(experiment(job))} if world else {}


def _round(job: Job, world: World | None, grid: Grid) -> Callable[[int], None]:
    courier: list[Courier] = []  # its search for nodes belongs to the first round
    method = METHODS["mpfl"](world) if world else None

    def requests(number: int) -> Iterator[tuple[int, bytes]]:
        for client in range(job.clients):
            if method is None:
                yield client, client.to_bytes(4, "little") + bytes(_PAYLOAD_BYTES - 4)
            else:
                yield client, encode_frame(method.request(client).frame)

    def once(number: int) -> None:
        if not courier:
            common = world or world_from_toml("")
            courier.append(Courier(grid, job.clients, _TIMEOUT, lambda: common.fingerprint))
        if method is not None:
            method.begin_round(number, range(job.clients))
        for delivery in courier[0].deliver(number, requests(number)):
            if delivery.reply is None:
                raise RuntimeError(f"client {delivery.client}: {delivery.error}")
            if method is not None:
                method.accept(delivery.client, decode_frame(delivery.reply))
        if method is not None:
            method.finish_round(True)

    return once


def main() -> None:
    """Run the job named on the command line; ``refused`` says why it cannot be done."""
    try:
        found = run_job(Job(**json.loads(sys.argv[1])))
    except InputError as error:
        found = {"refused": str(error)}
    print(json.dumps(found))


def arguments(job: Job) -> list[str]:
    """Return the command that runs a job in a process of its own."""
    return [sys.executable, "-m", "benchmarks.speed.engine_work", json.dumps(asdict(job))]


if __name__ == "__main__":
    main()
