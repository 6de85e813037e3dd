"""Seed torch's global random generators, and save and restore their state."""

from __future__ import annotations

import os

import torch

from ..data.rng import seed_of


def seed_everything(seed: int, deterministic: bool = False) -> None:
    """Seed the global generators (initial weights, dropout); with `deterministic`, refuse nondeterministic kernels."""
    torch.manual_seed(seed_of(seed))
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic
    if deterministic:
        # cuBLAS needs a fixed workspace to repeat its sums (docs.nvidia.com/cuda/cublas, "Results reproducibility")
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def random_state() -> dict[str, torch.Tensor]:
    """Return the state of the global generators, for a checkpoint."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, torch.Tensor]) -> None:
    """Restore what `random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
