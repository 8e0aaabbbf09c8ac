"""Payloads byte for byte as in tests/golden/wire.

After a deliberate change of a format, with its version raised, write the files anew with
``python tests/golden/wire/write.py``; nothing else writes them. That is the code under test, so
``test_by_hand.py`` writes most of them a second way.
"""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from mpfl.wire import decode_frame, decode_mask, decode_values

FOLDER = Path(__file__).parents[2] / "golden" / "wire"


def _load(path):
    spec = importlib.util.spec_from_file_location("wire_cases", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _load(Path(__file__).parent / "cases.py")
CRUDE = ("stc", "sbc", "eden", "lowrank")
"""What loses so much that only the direction is left; each has a test file of its own."""
NAMES = sorted(path.stem for path in FOLDER.glob("*.hex"))


def golden(name):
    return bytes.fromhex((FOLDER / f"{name}.hex").read_text())


def test_there_is_a_file_for_every_payload():
    assert sorted(cases.golden_payloads()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_encoding_equals_the_golden_file(name):
    assert cases.golden_payloads()[name] == golden(name)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("mask")])
def test_golden_masks_decode(name):
    context = cases.CONTEXTS[name.rsplit("-", 1)[1]]
    assert decode_mask(golden(name), cases.LAYOUT, **context) == cases.MASK


@pytest.mark.parametrize("spec", cases.VALUE_SPECS)
def test_golden_values_decode(spec):
    name = "values-" + "".join(c if c.isalnum() else "-" for c in spec)
    decoded = decode_values(golden(name), spec, cases.SEGMENTS, context=cases.SHAPES)
    assert decoded.dtype == np.float32
    if spec.startswith(CRUDE):
        assert (decoded * cases.VALUES).sum() > 0
        return
    steps = {"float32": 0, "float16": 2e-4, "bfloat16": 1e-3, "int8": 2e-3}
    tolerance = steps.get(spec, 0.13)
    np.testing.assert_allclose(decoded, cases.VALUES, atol=tolerance, rtol=0)


def test_golden_frame_decodes():
    frame = decode_frame(golden("frame"))
    assert (frame.kind, frame.round, len(frame.sections)) == (4, 70000, 2)
