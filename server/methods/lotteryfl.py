"""LotteryFL, server half.

Source: Li et al. 2020, "LotteryFL: Personalized and communication-efficient federated learning
with lottery ticket hypothesis on non-IID datasets", arXiv 2008.03371. Faithful: every client has
a mask of its own; it prunes what it received by magnitude where its local accuracy reaches
``prune.gate`` and the target density is not reached, rewinds to w0 and trains; only its surviving
weights travel, both ways; every weight is averaged over the clients that have it. Differs: the
path of densities is the experiment's schedule; the mean is weighted by samples; local accuracy is
on the client's training samples; nobody prunes before the first average. The server keeps one
packed mask per client, which no server of this method can do without. Reported as the federated
model is the server's, under the union of all masks; the accuracy per client is that of its own
ticket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mpfl.average import OverlapMean
from mpfl.mask import Mask
from mpfl.wire.errors import WireError
from mpfl.wire.frame import Frame, Kind, Section
from mpfl.wire.masks import decode_mask, encode_mask, mask_bound_bits
from mpfl.wire.sections import Sync
from mpfl.wire.values import decode_values, encode_values
from mpfl.world import World
from server.methods.averaging import claimed_samples
from server.methods.base import Floats, Receipt, Request, ServerMethod


class LotteryFl(ServerMethod):
    """Serve every client its own part of the model; average what overlaps."""

    personalises = True

    def __init__(self, world: World) -> None:
        self._world = world
        self._model = world.initial
        self._masks: dict[int, Mask] = {}
        self._versions: dict[int, int] = {}
        self._lost: set[int] = set()
        self._samples = sum(len(part) for part in world.parts)
        self._mean = OverlapMean(self._model.size, self._samples, self._world.b0.size)
        self._round = self._step = self._version = 0

    @property
    def phase(self) -> str:
        """Always ``train``: pruning and training go together."""
        return "train"

    def begin_round(self, round_number: int, clients: Sequence[int]) -> None:
        """Start an empty mean."""
        self._round = round_number
        self._mean = OverlapMean(self._model.size, self._samples, self._world.b0.size)

    def request(self, client: int) -> Request:
        """Return the part of the model that the client's mask keeps."""
        mask, version = self._held(client), self._versions.get(client, 0)
        sync = Sync(mask_version=version, values_version=self._version, step=self._step)
        sections = {Section.CONFIG: sync.pack()}
        formula = bound = 0.0
        if client in self._lost and version:
            classes, codec = self._world.classes, self._world.experiment.wire.mask_codec
            sections[Section.MASK] = encode_mask(
                mask, classes=classes, codec=codec, widths=self._world.widths
            )
            formula += self._world.layout.total / 8
            bound += mask_bound_bits(mask, classes=classes) / 8
        if self._version:
            footprint = self._world.footprint(mask)
            values = encode_values(self._model[footprint.keep], "float32", footprint.segments)
            sections[Section.VALUES] = values
            formula, bound = formula + len(values), bound + len(values)
        return Request(Frame(Kind.TRAIN_REQUEST, self._round, sections), formula, bound)

    def accept(self, client: int, reply: Frame) -> Receipt:
        """Add a client's weights where it has any, and remember its mask."""
        if reply.kind is not Kind.UPDATE:
            raise WireError("kind", f"expected UPDATE, got {reply.kind.name}")
        samples = claimed_samples(self._world, client, reply)
        world, mask, formula, bound = self._world, self._held(client), 0.0, 0.0
        if Section.MASK in reply.sections:
            context = {"within": mask, "classes": world.classes}
            mask = decode_mask(reply.sections[Section.MASK], world.layout, **context)
            formula, bound = world.layout.total / 8, mask_bound_bits(mask, **context) / 8
        footprint = self._world.footprint(mask)
        payload = reply.sections.get(Section.VALUES, b"")
        full = np.zeros_like(self._model)
        full[footprint.keep] = decode_values(payload, "float32", footprint.segments)
        self._mean.add(full, footprint.keep, samples)
        if Section.MASK in reply.sections:
            self._masks[client] = mask
            self._versions[client] = self._versions.get(client, 0) + 1
        self._lost.discard(client)
        return Receipt(formula + len(payload), bound + len(payload))

    def finish_round(self, enough: bool) -> dict[str, Any]:
        """Average; what no client had stays as it was."""
        self._step += 1
        if enough:
            self._model = self._mean.mean(self._model)
            self._version = 1
        clients = range(len(self._world.parts))
        densities = [self._held(client).density() for client in clients]
        return {"client_density": float(np.mean(densities))}

    def _held(self, client: int) -> Mask:
        return self._masks.get(client) or Mask.full(self._world.layout)

    def _under(self, mask: Mask) -> Floats:
        keep = self._world.structure.parameter_mask(mask)
        return np.concatenate([np.where(keep, self._model[: keep.size], 0),
                               self._model[keep.size :]])  # fmt: skip

    def model(self) -> Floats:
        """Return the server's model."""
        return self._under(self.mask())

    def mask(self) -> Mask:
        """Return the union of all clients' masks (a client never heard of has them all)."""
        if len(self._masks) < len(self._world.parts):
            return Mask.full(self._world.layout)
        union = Mask.empty(self._world.layout)
        for mask in self._masks.values():
            union = union | mask
        return union

    def client_model(self, client: int) -> Floats:
        """Return the client's own ticket."""
        return self._under(self._held(client))

    def forget(self, client: int) -> None:
        """Send this client its mask along next time."""
        self._lost.add(client)

    def state(self) -> dict[str, Any]:
        """Return everything `restore` needs."""
        known = sorted(self._masks)
        packed = [np.frombuffer(self._masks[client].packed(), np.uint8) for client in known]
        empty = np.zeros((0, (self._world.layout.total + 7) // 8), np.uint8)
        return {
            "model": self._model,
            "masks": np.stack(packed) if packed else empty,
            "versions": np.array([[c, self._versions[c]] for c in known], np.int64).reshape(-1, 2),
            "lost": np.array(sorted(self._lost), np.int64),
            "numbers": np.array([self._step, self._version], np.int64),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        layout = self._world.layout
        self._model = state["model"]
        self._versions = {int(c): int(v) for c, v in state["versions"]}
        rows = zip(self._versions, state["masks"], strict=True)
        self._masks = {c: Mask.from_packed(layout, row.tobytes()) for c, row in rows}
        self._lost = {int(client) for client in state["lost"]}
        self._step, self._version = (int(n) for n in state["numbers"])
