"""The shim lets torchvision be imported, and does nothing where its operators exist."""

import subprocess
import sys

import torch

from mpfl import torchvision_shim


def test_torchvision_imports_after_the_shim():
    import torchvision

    assert torchvision.models.resnet18


def test_operators_exist_afterwards_and_a_second_call_declares_nothing():
    for name in ("nms", "qnms"):
        assert hasattr(torch.ops.torchvision, name)
    assert torchvision_shim.declare_missing() is None


def test_the_shim_is_harmless_where_the_operators_exist():
    # torch and torchvision built for each other have them; elsewhere these two stand for them.
    # An older torchvision has no qnms, and needs none.
    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    stand_in = (
        "real = torch.library.Library('torchvision', 'FRAGMENT')\n"
        f"for name in ('nms', 'qnms'): real.define(name + {signature!r})\n"
        "real.impl('nms', lambda d, s, t: torch.tensor([0]), 'CPU')\n"
    )
    code = (
        "import torch\n"
        f"{'' if _nms_is_compiled() else stand_in}"
        "from mpfl import torchvision_shim\n"
        "box = torch.zeros(1, 4)\n"
        "assert torch.ops.torchvision.nms(box, box[:, 0], 0.5).tolist() == [0]\n"
        "import torchvision\n"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def _nms_is_compiled() -> bool:
    """Whether torchvision's own operator runs here, and is not only declared."""
    box = torch.zeros(1, 4)
    try:
        torch.ops.torchvision.nms(box, box[:, 0], 0.5)
    except NotImplementedError:
        return False
    return True
