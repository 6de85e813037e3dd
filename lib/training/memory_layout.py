"""Find models whose convolutions must not run in channels_last."""

from __future__ import annotations

import torch
from torch import nn

MIN_CHANNELS = 16  # input channels from which on oneDNN's kernels for strided 1x1 convolutions are safe


def crashes_in_channels_last(model: nn.Module, device: torch.device) -> bool:
    """Return whether oneDNN may write past its workspace in channels_last (uxlfoundation/oneDNN, issue 6035).

    On a CPU, training with small odd batches and several threads was seen to abort or to end with a segmentation fault
    if the model has a strided 1x1 convolution with few input channels.
    """
    return device.type == "cpu" and any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels < MIN_CHANNELS
        for module in model.modules()
    )
