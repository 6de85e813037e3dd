"""Pruning methods: when to prune (schedule), how much (selection), which weights (criteria), how (masks)."""

from .criteria import CRITERIA
from .magnitude import MagnitudePruner
from .movement import MovementPruner
from .prunable import prunable_parameters
from .schedule import CubicSchedule

__all__ = ["CRITERIA", "CubicSchedule", "MagnitudePruner", "MovementPruner", "prunable_parameters"]
