"""What every party of a run derives from its configuration alone: data, model, w0, contexts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from mpfl.checks import check_codecs, check_faults, check_pruning, check_stress, check_training
from mpfl.config import DataConfig, EngineConfig, Experiment, from_toml, to_toml
from mpfl.data import Dataset, draws, load_data
from mpfl.data.partition import partition
from mpfl.data.samples import Samples
from mpfl.data.virtual import Parts, contents, held_by_all
from mpfl.errors import InputError, keyed
from mpfl.mask import Layout, Mask
from mpfl.methods import Codecs, options_of
from mpfl.models import build_model, is_own
from mpfl.network.cost import macs
from mpfl.network.flat import FlatModel, Manner, aliases_of
from mpfl.network.footprint import Footprint
from mpfl.network.layers import Structure
from mpfl.network.structure import find_structure
from mpfl.plugins import load as load_plugins
from mpfl.ranking.coverage import Coverage
from mpfl.ranking.fans import find_coverage
from mpfl.recent import Fixed, Recent
from mpfl.scores import check_score
from mpfl.seeding import numpy_rng, torch_generator
from mpfl.training.local import prepare_module
from mpfl.training.losses import check_loss
from mpfl.training.masked import MaskedNetwork
from mpfl.training.trial import try_out
from mpfl.wire.discovery import Fingerprint, digest
from mpfl.wire.masks import encode_mask, magnitude_classes
from mpfl.wire.masks.plan import matrix_widths
from mpfl.wire.values.channel import Channel

_UPDATE_VALUES = 1 << 24  # 64 MiB

Loader = Callable[[DataConfig, int], Dataset]
"""Reads a data set; see `mpfl.data.load_data`."""


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
    starts, footprints, decoded, updates, moved
        What clients of a round would otherwise make again one by one: the start under a mask;
        what travels under it; the mask that a message leads to, by whether it is a subset, what
        was held and payload; the update of the model that it holds, by payload, version, segments;
        the classes of differences to it, see `Channel`.
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

    @property
    def sample_count(self) -> int:
        """Training samples of all clients together."""
        return held_by_all(self.parts)

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
        return Fingerprint(
            w0=digest([self.initial.tobytes()]),
            configuration=digest([to_toml(_anywhere(self.experiment)).encode()]),
            data=digest([*self.data.contents(), *contents(self.parts)]),
            streams=digest(_draws(self.experiment.seed)),
        )

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
        with the density, and training starts as fast as from the dense network.

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
        start.setflags(write=False)
        return start


def _anywhere(experiment: Experiment) -> Experiment:
    """Return an experiment without what may differ from machine to machine: paths, the engine."""
    return replace(
        experiment,
        data=replace(experiment.data, folder="", download=False),
        model=replace(experiment.model, weights=""),
        engine=EngineConfig(),
    )


def _draws(seed: int) -> list[bytes]:
    """Return the first draws of streams of every kind that clients draw from."""
    generator, rng = torch_generator(seed, "fingerprint"), numpy_rng(seed, "fingerprint")
    drawn = [
        torch.rand(64, generator=generator),
        torch.randn(64, generator=generator),
        torch.randperm(64, generator=generator),
    ]
    return [*(t.numpy().tobytes() for t in drawn), rng.random(64).tobytes()]


def shared_loader() -> Loader:
    """Return a loader that reads each data set once, for worlds that are built one after another.

    Whoever holds it decides how long that is: nothing here outlives a run or a comparison, so that
    the next one sees data, models and parts as they are then.
    """
    made: Recent[tuple[DataConfig, int], Dataset] = Recent(4)
    return lambda config, seed: made.get((config, seed), lambda: load_data(config, seed))


def held_data(experiment: Experiment, load: Loader = load_data) -> tuple[Dataset, Parts]:
    """Return the experiment's data, and the indices of each client's training samples."""
    config = experiment.data
    data = load(config, experiment.seed if draws(config) else 0)
    parts = partition(config, data.train.targets.numpy(), experiment.seed, data.groups)
    return data, parts


def build_world(experiment: Experiment, load: Loader = load_data) -> World:
    """Load the data, divide it, build the network and w0; anew at every call.

    Parameters
    ----------
    load
        Reads the data set.

    Raises
    ------
    InputError
        For unknown names, missing data, more clients than samples, unsupported combinations.
    """
    load_plugins(experiment)
    prune = experiment.prune
    check_training(experiment.train)
    check_pruning(experiment)
    check_codecs(experiment.wire)
    data, parts = held_data(experiment, load)
    check_stress(experiment, data)
    generator = torch_generator(experiment.seed, "w0")
    with keyed("model.name"):
        size, name = experiment.model.size, experiment.model.name
        module = build_model(name, data.classes, data.input_shape, generator, size=size)
    if experiment.model.weights:
        load_weights(module, Path(experiment.model.weights))
    prepare_module(module, experiment.train)
    check_loss(experiment.train, module, *data.test.batch(torch.arange(min(2, len(data.test)))))
    structure = find_structure(module, prune.granularity, data.input_shape)
    check_faults(experiment, structure.layout)
    with keyed("prune.score"):
        score = check_score(prune.score, prune.granularity, structure, module)
    model, structure = _bound(module, structure, experiment, data)
    w0, b0 = model.snapshot()
    magnitudes = structure.unit_values(w0)
    return World(
        experiment=experiment,
        data=data,
        parts=parts,
        model=model,
        masked=MaskedNetwork(model, structure),
        structure=structure,
        layout=structure.layout,
        w0=w0,
        b0=b0,
        tie_break=np.concatenate(magnitudes),
        classes=magnitude_classes(magnitudes, experiment.wire.mask_classes),
        widths=matrix_widths(structure),
        coverage=find_coverage(module, structure, prune, score, data.input_shape),
    )


def _bound(
    module: nn.Module, structure: Structure, experiment: Experiment, data: Dataset
) -> tuple[FlatModel, Structure]:
    """Bind a network to flat vectors; what others wrote is tried out first."""
    if not is_own(experiment.model.name):
        draws = any(isinstance(part, _DropoutNd) for part in module.modules())
        return FlatModel(module, Manner(draws=draws)), structure
    with keyed(f"model.name: {experiment.model.name!r}"):
        trial = FlatModel(module)
        manner, structure = try_out(trial, structure, data.train, data.classes, experiment.train)
        _check_copies(module, data)
    return FlatModel(module, manner), structure


def _check_copies(module: nn.Module, data: Dataset) -> None:
    """Refuse what could not be copied and measured when the run is over."""
    try:
        macs(module, data.input_shape, tokens=data.train.has_tokens)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"{type(module).__name__} cannot be copied: {error}") from error


def load_weights(module: nn.Module, path: Path) -> None:
    """Overwrite parameters and buffers with those of a safetensors file that all parties hold.

    Tensors whose shape differs (a classifier for other classes) stay as they are; names that
    the network does not have are an error.

    Raises
    ------
    InputError
        If the file cannot be read, names unknown tensors, or matches nothing.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"model.weights: cannot read {path}: {error}") from None
    own = module.state_dict()
    unknown = sorted(tensors.keys() - own.keys())
    if unknown:
        raise InputError(f"model.weights: {path}: the model has no tensor {unknown[0]!r}")
    fitting = {name: t for name, t in tensors.items() if t.shape == own[name].shape}
    if not fitting:
        raise InputError(f"model.weights: {path}: no tensor has the shape the model expects")
    module.load_state_dict(fitting, strict=False)
    for alias, name in aliases_of(module).items():
        if alias in fitting and name in fitting and not fitting[alias].equal(fitting[name]):
            raise InputError(
                f"model.weights: {path}: {name!r} and {alias!r} differ, but the model ties them"
            )


def world_from_toml(text: str) -> World:
    """Return the world of a configuration text, built anew."""
    return build_world(from_toml(text))
