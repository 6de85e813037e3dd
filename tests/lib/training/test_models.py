"""The models are those that the papers and the published figures speak of, and are found by their names alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lenet5.model import LeNet5
from lib.pruning.prunable import prunable_parameters
from lib.storage.project import ROOT
from lib.training.models import load_build_model, train_module, train_script
from resnet18.model import ResNet18


def parameters(model: nn.Module) -> tuple[int, int]:
    prunable = prunable_parameters(model)
    return sum(p.numel() for p in model.parameters()), sum(w.numel() for w in prunable.values())


def test_lenet5_has_61750_parameters_61470_of_them_prunable() -> None:
    assert parameters(LeNet5()) == (61_750, 61_470)


def test_resnet18_has_11173962_parameters_11164352_of_them_prunable() -> None:
    assert parameters(ResNet18()) == (11_173_962, 11_164_352)


@pytest.mark.parametrize("width", [4, 16])
def test_resnet18_scales_with_its_width(width: int) -> None:
    model = ResNet18(width=width)
    assert model.stem[0].out_channels == width
    assert model.classifier.in_features == 8 * width
    # all but the stem and the classifier grow with the square of the width
    blocks = sum(p.numel() for p in model.stages.parameters() if p.dim() == 4)
    assert blocks * (64 // width) ** 2 == 11_164_352 - 3 * 9 * 64 - 512 * 10


@pytest.mark.parametrize("model", [LeNet5(channels=3, classes=7), ResNet18(channels=3, classes=7, width=8)])
def test_models_take_any_channels_and_classes_and_teach_every_weight(model: nn.Module) -> None:
    logits = model(torch.randn(4, 3, 32, 32))
    assert logits.shape == (4, 7)
    F.cross_entropy(logits, torch.arange(4)).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_resnet18_stem_keeps_the_resolution_and_the_stages_halve_it_three_times() -> None:
    model = ResNet18(width=4)
    x = model.stem(torch.randn(1, 3, 32, 32))
    sides = [x.shape[-1]]
    for stage in model.stages:
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == [32, 32, 16, 8, 4]


def test_pooling_before_relu_is_the_same_function() -> None:
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(F.relu(F.max_pool2d(x, 2)), F.max_pool2d(F.relu(x), 2))


@pytest.mark.parametrize("model", ["lenet5", "resnet18"])
def test_a_model_is_found_by_its_name(model: str) -> None:
    assert train_script(model) == ROOT / model / "train.py" and train_script(model).is_file()
    assert load_build_model(model).__module__ == train_module(model) == f"{model}.train"


def test_where_a_model_lies_is_told_without_torch() -> None:
    code = "import sys, lib.training.models as m; m.train_script('lenet5'); print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert told == "False\n"
