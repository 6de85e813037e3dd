"""Build LeNet-5 for 32x32 images, with batch norm after both convolutions."""

from __future__ import annotations

from torch import Tensor, nn


class LeNet5(nn.Module):
    """Classify images by two 5x5 convolutions (6 and 16 channels) and the linear layers 400-120-84-classes.

    LeCun et al. 1998, "Gradient-based learning applied to document recognition", with max pooling and ReLU
    in place of averages and tanh, and batch norm before them. Grey input and ten classes give
    61,750 parameters, 61,470 of them convolution and linear weights.

    Input: float, shape (n, channels, 32, 32). Output: logits, shape (n, classes).
    """

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        # Pooling stands before ReLU: both are monotone, so the function is the same, at a quarter of the ReLUs.
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5), nn.BatchNorm2d(6), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(6, 16, 5), nn.BatchNorm2d(16), nn.MaxPool2d(2), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.features(images).flatten(1))
