"""lib/memory/accounting.py: every byte is counted once, and counting changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib.memory.accounting import CATEGORIES, account, activation_bytes, storage_bytes, tensors_in


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def small_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(6 * 28 * 28, 10),
    )


def batch(n: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 1, 32, 32), torch.randint(0, 10, (n,))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, inputs: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), labels).backward()
    optimizer.step()


def test_categories_are_the_bytes_of_the_tensors() -> None:
    model = small_net()
    optimizer = torch.optim.AdamW(model.parameters())
    n = sum(p.numel() for p in model.parameters())
    tensors = sum(1 for _ in model.parameters())
    assert account(model, optimizer) == {
        "weights": 4 * n,
        "gradients": 0,
        "buffers": 2 * 6 * 4 + 8,  # running mean and variance, batches tracked
        "optimizer_state": 0,
        "pruning_state": 0,
    }
    step(model, optimizer, *batch())
    after = account(model, optimizer)
    assert after["gradients"] == 4 * n
    assert after["optimizer_state"] == 8 * n + 4 * tensors  # two states, and one step count a tensor
    assert tuple(after) == CATEGORIES


def test_tied_weights_and_views_count_once() -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))
    model[1].weight = nn.Parameter(model[0].weight.detach())  # another parameter on the same storage
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert account(model, optimizer)["weights"] == 8 * 8 * 4
    base = torch.zeros(10)
    assert storage_bytes([base, base[2:], base.view(2, 5)]) == 40


def test_nested_state_is_found() -> None:
    a, b = torch.zeros(2), torch.zeros(3)
    assert list(tensors_in({"x": [a, {"y": (b,)}], "n": 3, "s": "text"})) == [a, b]


def test_pruner_says_how_state_divides() -> None:
    class Pruner:
        def memory_bytes(self) -> dict[str, int]:
            return {"optimizer_state": 100, "pruning_state": 7}

    model = small_net()
    optimizer = torch.optim.AdamW(model.parameters())
    step(model, optimizer, *batch())
    counted = account(model, optimizer, Pruner())
    assert (counted["optimizer_state"], counted["pruning_state"]) == (100, 7)


def test_activations_are_what_backward_needs() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1024, 32), nn.ReLU(), nn.Linear(32, 10))
    inputs, labels = batch(8)
    kept = activation_bytes(model, inputs, labels, F.cross_entropy)
    # ReLU's output, log-probabilities, the loss's total weight; neither the batch nor the weights
    assert kept == 8 * 32 * 4 + 8 * 10 * 4 + 4
    double = activation_bytes(model, torch.cat([inputs] * 2), torch.cat([labels] * 2), F.cross_entropy)
    assert double - 4 == 2 * (kept - 4)


def test_measuring_activations_leaves_training_unchanged_bit_for_bit() -> None:
    measured = small_net()
    plain = copy.deepcopy(measured)
    inputs, labels = batch()
    for model, look in ((measured, True), (plain, False)):
        torch.manual_seed(7)  # dropout draws
        optimizer = torch.optim.AdamW(model.parameters())
        for _ in range(3):
            if look:
                assert activation_bytes(model, inputs, labels, F.cross_entropy) > 0
            step(model, optimizer, inputs, labels)
    for a, b in zip(measured.state_dict().values(), plain.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_batch_statistics_come_back_when_the_forward_pass_fails() -> None:
    model = small_net()
    before = copy.deepcopy(model.state_dict())

    def broken(_outputs: Tensor, _labels: Tensor) -> Tensor:
        raise RuntimeError("no loss today")

    with pytest.raises(RuntimeError, match="no loss today"):
        activation_bytes(model, *batch(), broken)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_reduced_precision_activations_are_smaller() -> None:
    model = small_net()
    inputs, labels = batch()
    full = activation_bytes(model, inputs, labels, F.cross_entropy)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = activation_bytes(model, inputs, labels, F.cross_entropy)
    assert reduced < full
