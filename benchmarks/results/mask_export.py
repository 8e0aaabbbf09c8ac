"""A mask as other programs read it: npz, a torch state dict, the form of torch's pruning."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.results.loading import weight_shapes
from mpfl.config import to_toml
from mpfl.errors import InputError
from mpfl.mask import Mask
from mpfl.network.layers import Tensors
from mpfl.registry import Registry
from mpfl.world import World, world_from_toml
from server.custody import write_atomically, writing
from server.runfolder import CONFIG, MODEL, config_file, read_config

_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Export:
    """A format of exported masks.

    Attributes
    ----------
    write
        (mask, run folder or None) -> the file's content.
    """

    write: Callable[[Mask, Path | None], bytes]


def run_of(path: Path, run: Path | None) -> Path | None:
    """Return the run folder that a mask belongs to: the one named, or the one it lies in.

    InputError if the one named is no run folder.
    """
    if run is not None:
        return config_file(run).parent
    return path.parent if (path.parent / CONFIG).is_file() else None


def parameter_masks(mask: Mask, world: World) -> dict[str, NDArray[np.bool_]]:
    """Return bool arrays, in the shape of the parameter, for all that the mask decides about."""
    parameters = world.structure.parameters
    keep = world.structure.parameter_mask(mask)
    decided = {slot.parameter for layer in world.structure.layers for slot in layer.slots}
    masks = {name: _part(keep, parameters, name) for name in parameters.names if name in decided}
    tied = {alias: masks[name] for alias, name in world.structure.aliases if name in masks}
    return masks | tied


def export_mask(mask: Mask, form: str, out: Path, run: Path | None) -> None:
    """Write a mask to the file `out`.

    Parameters
    ----------
    form
        One of `FORMATS`.
    run
        The run folder that says which network the mask is for; ``npz`` needs none.

    Raises
    ------
    InputError
        For an unknown format, a missing or unfitting run, or a file that cannot be written.
    """
    content = FORMATS[form].write(mask, run)
    with writing(out):
        write_atomically(out, content)


def _npz(mask: Mask, run: Path | None) -> bytes:
    """Boolean NumPy arrays: ``bool[units]`` of each layer, in its weight's shape if known."""
    shapes = weight_shapes(run)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:  # same bytes every time
        for name, bits in mask.layers().items():
            shape = shapes.get(f"{name}.weight", ())
            matching = int(np.prod(shape, dtype=np.int64)) == bits.size if shape else False
            entry = io.BytesIO()
            np.lib.format.write_array(entry, bits.reshape(shape) if matching else bits)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), entry.getvalue())
    return buffer.getvalue()


def _torch(mask: Mask, run: Path | None) -> bytes:
    """A state dict of boolean tensors ``<parameter>_mask`` in the shape of the parameters."""
    world = _world(run, "torch")
    masks = parameter_masks(mask, world)
    return _saved({f"{name}_mask": torch.from_numpy(keep) for name, keep in masks.items()})


def _prune(mask: Mask, run: Path | None) -> bytes:
    """The run's model as ``torch.nn.utils.prune`` stores it: ``*_orig``, ``*_mask``, the rest."""
    world = _world(run, "prune")
    masks = parameter_masks(mask, world)
    state: dict[str, Tensor] = {}
    for name, values in _model(run, world).items():
        if name in masks:
            state[f"{name}_orig"] = values
            state[f"{name}_mask"] = torch.from_numpy(masks[name]).to(values.dtype)
        else:
            state[name] = values
    return _saved(state)


FORMATS: Registry[Export] = Registry(
    "format", {"npz": Export(_npz), "torch": Export(_torch), "prune": Export(_prune)}
)


def _world(run: Path | None, form: str) -> World:
    if run is None:
        raise InputError(f"--run: the format {form} needs the run folder the mask comes from")
    return world_from_toml(to_toml(read_config(run)))


def _model(run: Path | None, world: World) -> Mapping[str, Tensor]:
    """Return the run's final model, with the counters that a run folder does not keep."""
    file = Path() if run is None else run / MODEL
    if not file.is_file():
        raise InputError(f"{file}: missing; is the run finished?")
    try:
        saved = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: damaged ({error})") from None
    state: dict[str, Tensor] = {}
    for name, like in world.model.module.state_dict().items():
        values = saved.get(name, like)
        if values.shape != like.shape:
            raise InputError(
                f"{file}: {name} has shape {tuple(values.shape)}, expected {tuple(like.shape)}"
            )
        state[name] = values.clone()
    return state


def _part(vector: NDArray[np.bool_], tensors: Tensors, name: str) -> NDArray[np.bool_]:
    where, shape = tensors.place(name)
    return vector[where].reshape(shape)


def _saved(state: Mapping[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()
