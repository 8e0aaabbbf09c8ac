"""Any method of this project as a Flower strategy, for use in somebody else's ServerApp."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from logging import INFO

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from mpfl.config import Experiment
from mpfl.errors import InputError
from mpfl.faults.replies import tolerated
from mpfl.mask import Mask
from mpfl.world import World, build_world
from server.ledger import Ledger
from server.loop import evaluations
from server.methods import server_method
from server.methods.base import Floats, ServerMethod
from server.records import DOWNLINK, UPLINK
from server.round import Exchange, RunState
from server.sampling import asked_clients
from server.transport.courier import Delivery, delivery
from server.transport.directory import Directory
from server.transport.flower import GONE, Reply, blob_message, read_reply, serialize


class MethodStrategy(Strategy):
    """The server half of a method behind Flower's own ``strategy.start(grid=...)``.

    The nodes run ``clients.app:app`` with the same experiment, as TOML text, under
    ``experiment`` in their run configuration. Clients are sampled by partition, requests and
    replies are the same bytes as with our own loop, and so are mask and model. Who wants to
    stop early or to resume uses our own loop.

    Parameters
    ----------
    experiment
        What to run; ``strategy.start`` is told as many rounds as ``federation.rounds``.

    Raises
    ------
    InputError
        If the experiment is not possible, or its method has no clients.

    Examples
    --------
    In a ServerApp::

        strategy = MethodStrategy(from_toml(context.run_config["experiment"]))
        strategy.start(
            grid=grid,
            initial_arrays=strategy.initial_arrays(),
            num_rounds=strategy.rounds,
            evaluate_fn=strategy.evaluate,
        )
        Path("mask.mpfl").write_bytes(strategy.mask().to_bytes())
    """

    def __init__(self, experiment: Experiment) -> None:
        self._world = build_world(experiment)
        method = server_method(self._world)
        if not method.uses_clients:
            raise InputError(f"method: {experiment.method} has no clients, so no strategy")
        self._state = RunState(method, Ledger())
        self._directory: Directory | None = None
        self._goes_on = partial(tolerated, experiment.faults.tolerate, False)
        self._exchange = Exchange(self._state, method.phase)
        self._sent: list[tuple[int, Message | None]] = []

    @property
    def rounds(self) -> int:
        """The rounds of the experiment."""
        return self._world.experiment.federation.rounds

    @property
    def method(self) -> ServerMethod:
        """The server half itself."""
        return self._state.method

    @property
    def ledger(self) -> Ledger:
        """Bytes so far, and the digest of all frames."""
        return self._state.ledger

    def mask(self) -> Mask:
        """Return the mask so far."""
        return self.method.mask()

    def initial_arrays(self) -> ArrayRecord:
        """Return the initial model; nodes know it without being sent it."""
        return model_arrays(self._world, self.method.model())

    def evaluate(self, server_round: int, arrays: ArrayRecord) -> MetricRecord:
        """Return loss and accuracy on held-out data, as ``evaluate_fn`` of ``strategy.start``."""
        return MetricRecord(dict(evaluations(self._world, self.method)))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return the method's requests; `arrays` and `config` are not sent.

        Raises
        ------
        InputError
            If this is not the round after the last one.
        """
        experiment, state = self._world.experiment, self._state
        if server_round != state.round + 1:
            raise InputError(f"round {server_round} cannot follow round {state.round}")
        directory = self._nodes_of(grid)
        state.round = server_round
        clients = asked_clients(experiment, self.method, server_round)
        self._exchange = Exchange(state, self.method.phase, goes_on=self._goes_on)
        self.method.begin_round(server_round, clients)
        self._sent = [
            (client, _message(frame, directory.node(client), server_round))
            for client, frame in self._exchange.requests(clients)
        ]
        return [message for _, message in self._sent if message]

    def _nodes_of(self, grid: Grid) -> Directory:
        """Return who is there, after waiting for all in the first round, for any later."""
        experiment = self._world.experiment
        timeout = experiment.engine.timeout
        if self._directory is None:
            fingerprint = self._world.fingerprint
            self._directory = Directory(grid, experiment.data.clients, fingerprint)
            self._directory.wait_for_all(timeout)
        self._directory.wait_for_one(timeout)
        return self._directory

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Let the method accept the replies; returns its model, and density and bytes so far."""
        if server_round != self._state.round:
            raise InputError(f"round {server_round} was never configured")
        came = [read_reply(serialize(reply)) for reply in replies]
        answers = {reply.request_id: reply for reply in came}
        for client, request in self._sent:
            self._exchange.receive(_delivery(client, request, answers))
        least = min(self._world.experiment.federation.min_replies, len(self._sent))
        self.method.finish_round(self._exchange.accepted >= least)
        self.ledger.close_round()
        self._sent = []
        return model_arrays(self._world, self.method.model()), self._metrics()

    def _metrics(self) -> MetricRecord:
        density, density_all = self._world.structure.densities(self.mask())
        return MetricRecord(
            {
                "density": density,
                "density_all_parameters": density_all,
                "clients_replied": self._exchange.accepted,
                "uplink_bytes": self.ledger.totals[UPLINK],
                "downlink_bytes": self.ledger.totals[DOWNLINK],
            }
        )

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask no client: the model is evaluated on held-out data, see `evaluate`."""
        return []

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Return None: no client was asked."""
        return None

    def summary(self) -> None:
        """Log what is run."""
        experiment = self._world.experiment
        log(INFO, "\t├── method %s, seed %d", experiment.method, experiment.seed)
        log(INFO, "\t└── %d clients of %s", experiment.data.clients, experiment.data.name)


def _message(frame: bytes, node: int | None, server_round: int) -> Message | None:
    return None if node is None else blob_message(frame, node, str(server_round))


def _delivery(client: int, request: Message | None, answers: Mapping[str, Reply]) -> Delivery:
    if request is None:
        why = f"no node holds partition {client}"
        return delivery(client, 0, Reply("", 0, error=(GONE, why)))
    size, answer = len(serialize(request)), answers.get(request.metadata.message_id)
    return delivery(client, size, answer) if answer else Delivery(client, size)


def model_arrays(world: World, model: Floats) -> ArrayRecord:
    """Return float32[P + B] as a Flower record: one array per parameter and buffer."""
    named = world.structure.named(model)
    return ArrayRecord({name: Array(tensor) for name, tensor in named.items()})
