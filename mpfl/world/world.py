"""What every party of a run holds alike: data, model, w0, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mpfl.config import Experiment
from mpfl.data import Dataset
from mpfl.data.samples import Samples
from mpfl.data.virtual import Parts, held_in_a_round
from mpfl.mask import Layout, Mask
from mpfl.methods import Codecs, options_of
from mpfl.network.flat import FlatModel
from mpfl.network.footprint import Footprint
from mpfl.network.layers import Structure
from mpfl.ranking.coverage import Coverage
from mpfl.recent import Fixed, Recent
from mpfl.training.masked import MaskedNetwork
from mpfl.training.posterior import BetaPosterior
from mpfl.wire.discovery import Fingerprint
from mpfl.wire.masks import encode_mask
from mpfl.wire.values.channel import Channel
from mpfl.wire.values.grid import on_grid
from mpfl.world.fingerprint import fingerprint_of

_UPDATE_VALUES = 1 << 24  # 64 MiB


@dataclass(frozen=True)
class World:
    """The common ground of clients and server; a pure function of the experiment.

    Attributes
    ----------
    parts
        Indices of each client's training samples.
    model
        One network to train or evaluate in; its values are scratch.
    masked
        Trains and evaluates that network under masks.
    w0, b0
        Initial parameters float32[P] and buffers float32[B]: known to all, never sent.
    tie_break
        float32[d]: |w0| of every unit.
    classes
        uint8[d]: the statistics class of every unit in mask codecs, from |w0|.
    widths
        Units per row of each layer's weight matrix, for mask codecs (0 where a unit is a row).
    coverage
        Who reads whom, where the ranking needs it.
    starts, footprints, decoded, updates, moved, posteriors
        What clients of a round would otherwise make again one by one: the start under a mask;
        what travels under it; the mask that a message leads to, by whether it is a subset, what
        was held and payload; the update of the model that it holds, by payload, version, segments;
        the classes of differences to it, see `Channel`; the posterior after a round's draws, by its
        updates, ballots and counts before and the round's payload.
    """

    experiment: Experiment
    data: Dataset
    parts: Parts
    model: FlatModel
    masked: MaskedNetwork
    structure: Structure
    layout: Layout
    w0: NDArray[np.float32]
    b0: NDArray[np.float32]
    tie_break: NDArray[np.float32]
    classes: NDArray[np.uint8]
    widths: tuple[int, ...] = ()
    coverage: Coverage | None = None
    starts: Recent[Mask, NDArray[np.float32]] = field(default_factory=lambda: Recent(2))
    footprints: Recent[tuple[Mask, bool], Footprint] = field(default_factory=lambda: Recent(2))
    decoded: Recent[tuple[bool, Mask, bytes], Mask] = field(default_factory=lambda: Recent(1))
    updates: Recent[tuple[bytes, int, tuple[int, ...]], NDArray[np.float32]] = field(
        default_factory=lambda: Recent(_UPDATE_VALUES, np.size)
    )
    moved: Recent[tuple[Fixed, Fixed, bytes], NDArray[np.uint8]] = field(
        default_factory=lambda: Recent(1)
    )
    posteriors: Recent[tuple[int, int, bytes, bytes], BetaPosterior] = field(
        default_factory=lambda: Recent(4)
    )

    @property
    def round_samples(self) -> int:
        """At most so many training samples stand behind a round's mean."""
        asked = self.experiment.federation.clients_per_round or len(self.parts)
        return held_in_a_round(self.parts, asked)

    @cached_property
    def train_samples(self) -> Samples:
        """All training samples, on the device that trains; they stay there."""
        return self._placed(self.data.train)

    @cached_property
    def test_samples(self) -> Samples:
        """All test samples, on the device that trains; they stay there."""
        return self._placed(self.data.test)

    @cached_property
    def validation_samples(self) -> Samples | None:
        """All validation samples, in the same way; None where the run holds none out."""
        held = self.data.validation
        return None if held is None else self._placed(held)

    def _placed(self, samples: Samples) -> Samples:
        device = self.experiment.train.device
        return samples if device == "cpu" else samples.to(device)

    @cached_property
    def options(self) -> Any:
        """What stands in the parentheses of ``method = "name(…)"``; see `mpfl.methods.Method`."""
        return options_of(self.experiment)

    @cached_property
    def initial(self) -> NDArray[np.float32]:
        """w0 and b0, float32[P + B], read-only."""
        model = np.concatenate([self.w0, self.b0])
        model.setflags(write=False)
        return model

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What another party must have derived as well, or messages would mean something else."""
        return fingerprint_of(self.experiment, self.initial, self.data, self.parts)

    @cached_property
    def parameter_layout(self) -> Layout:
        """The layout of masks with one bit for every parameter that trains, tensor after tensor."""
        tensors, moves = self.structure.parameters, self.structure.moving_parameters
        counts = {name: int(moves[tensors.place(name)[0]].sum()) for name in tensors.names}
        trained = {name: count for name, count in counts.items() if count}
        return Layout(tuple(trained), tuple(trained.values()))

    @property
    def parameter_widths(self) -> tuple[int, ...]:
        """Parameters per row of each layer of `parameter_layout`, 0 where it is no matrix."""
        shapes = [self.structure.parameters.place(n)[1] for n in self.parameter_layout.names]
        rows = [shape[0] if len(shape) > 1 else 0 for shape in shapes]
        counts = self.parameter_layout.units
        return tuple(n // r if r else 0 for n, r in zip(counts, rows, strict=True))

    @property
    def travelling_buffers(self) -> int:
        """How many buffer entries clients and server exchange."""
        return int(self.exchanged.sum())

    @cached_property
    def exchanged(self) -> NDArray[np.bool_]:
        """bool[B]: the buffers that clients and server exchange; no constants, or none at all."""
        aggregate = self.experiment.model.batch_norm == "aggregate"
        return self.structure.moving_buffers & aggregate

    def footprint(self, mask: Mask, with_buffers: bool = True) -> Footprint:
        """Return what travels under a mask; buffers, if asked, where they are averaged."""
        with_buffers = with_buffers and self.travelling_buffers > 0
        make = partial(Footprint.of, self.structure, mask, with_buffers)
        return self.footprints.get((mask, with_buffers), make)

    def channel(self, way: Literal["up", "down"], footprint: Footprint) -> Channel:
        """Return how weights are written to the server (up) or to clients (down)."""
        wire = self.experiment.wire
        start = self.start(footprint.mask) if wire.value_classes else None
        codec = getattr(Codecs.of(self.experiment), way)
        return Channel(codec, footprint, wire.error_feedback, start, self.moved)

    def untravelled(self, mask: Mask) -> NDArray[np.float32]:
        """Return what nobody need be sent of a model under a mask, float32[P + B]; else zeros.

        Frozen parameters that survive, and buffers; those that travel replace the latter.
        """
        rests = self.structure.parameter_mask(mask) & ~self.structure.moving_parameters
        return np.concatenate([np.where(rests, self.w0, np.float32(0)), self.b0])

    def encode_mask(
        self,
        mask: Mask,
        within: Mask | None = None,
        classes: NDArray[np.uint8] | None = None,
    ) -> bytes:
        """Return a mask over the layout as the experiment writes it; `classes` as known to all."""
        return encode_mask(
            mask,
            within=within,
            classes=self.classes if classes is None else classes,
            codec=self.experiment.wire.mask_codec,
            widths=self.widths,
        )

    def start(self, mask: Mask) -> NDArray[np.float32]:
        """Return the model that a mask rewinds to, float32[P + B]: known to all, never sent.

        That is w0 under the mask. With ``prune.rescale`` the survivors of every pruned tensor
        are multiplied so that it keeps the L2 norm it had in w0: signals neither fade nor grow
        with the density, and training starts as fast as from the dense network. Where differences
        that travel add up (``grid``), they start from its multiples.

        Read-only.
        """
        return self.starts.get(mask, lambda: self._rewound(mask))

    def _rewound(self, mask: Mask) -> NDArray[np.float32]:
        keep = self.structure.parameter_mask(mask)
        values = np.where(keep, self.w0, np.float32(0))
        if self.experiment.prune.rescale:
            own = {slot.parameter for layer in self.structure.layers for slot in layer.own()}
            for name in sorted(own):
                where, _ = self.structure.parameters.place(name)
                left = float(np.square(values[where], dtype=np.float64).sum())
                if left > 0:
                    whole = float(np.square(self.w0[where], dtype=np.float64).sum())
                    values[where] *= np.float32(np.sqrt(whole / left))
        start = np.concatenate([values, self.b0])
        if Channel(Codecs.of(self.experiment).down, self.footprint(mask)).grid:
            start = on_grid(start)
        start.setflags(write=False)
        return start
