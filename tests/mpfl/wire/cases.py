"""Fixed examples of every codec, for golden files and as seeds of mutation."""

from typing import Any

import numpy as np

from mpfl.mask import Layout, Mask
from mpfl.wire import (
    MASK_CODECS,
    Frame,
    Kind,
    Section,
    ValueContext,
    encode_frame,
    encode_mask,
    encode_values,
)

LAYOUT = Layout(("first", "second"), (300, 77))
SEGMENTS = (60, 0, 5, 35)
VALUE_SPECS = (
    "float32",
    "float16",
    "bfloat16",
    "int8",
    "int8(nearest)",
    "int4",
    "int4(nearest)",
    "int3",
    "int3(nearest)",
    "ternary",
    "ternary(nearest)",
    "step(1.5)",
    "step(2, 0.6)",
    "rd_step(0.1)",
    "grid(1, 0.6)",
    "stc(0.1)",
    "sbc(0.1)",
    "eden(1)",
    "eden(0.5)",
    "eden(2)",
    "lowrank(1)",
    "lowrank(1)|int8",
)
SHAPES = ValueContext(shapes=((12, 5), (), None, (7, 5)))


def bits(count, step, modulus):
    """A pattern from integer arithmetic alone: the same under every version of NumPy."""
    return np.array([(i * i * step + 7 * i) % 1009 % modulus == 0 for i in range(count)])


WITHIN = Mask.from_bools(LAYOUT, bits(LAYOUT.total, 3, 2))
MASK = Mask.from_bools(LAYOUT, WITHIN.bools() & bits(LAYOUT.total, 5, 3))
CLASSES = np.array([i * 31 % 101 % 3 for i in range(LAYOUT.total)], np.uint8)
VALUES = np.array([((i * 37) % 101 - 50) ** 3 / 2.0**20 for i in range(100)], np.float32)
CONTEXTS: dict[str, dict[str, Any]] = {
    "alone": {},
    "within": {"within": WITHIN},
    "classes": {"classes": CLASSES},
    "both": {"within": WITHIN, "classes": CLASSES},
}


def mask_payload(codec, context):
    return encode_mask(MASK, codec=codec, widths=(20, 11), **CONTEXTS[context])


def value_payload(spec):
    # The stream is NumPy's PCG64, which NumPy promises to keep.
    rng = np.random.Generator(np.random.PCG64(5))
    return encode_values(VALUES, spec, SEGMENTS, rng, context=SHAPES)


def golden_payloads():
    """Every payload that has a golden file, by name."""
    payloads = {
        f"mask-{codec}-{context}": mask_payload(codec, context)
        for codec in MASK_CODECS.names()
        for context in CONTEXTS
    }
    for spec in VALUE_SPECS:
        payloads["values-" + "".join(c if c.isalnum() else "-" for c in spec)] = value_payload(spec)
    payloads["frame"] = encode_frame(
        Frame(
            Kind.UPDATE,
            70000,
            {Section.VALUES: value_payload("int4"), Section.MASK: mask_payload("rans", "both")},
        )
    )
    return payloads
