"""Optimizers: AdamWPrune, which prunes by its own states, and two AdamW variants that it is compared with."""

from .adamwadv import AdamWAdv
from .adamwprune import AdamWPrune
from .adamwspam import AdamWSpam

__all__ = ["AdamWAdv", "AdamWPrune", "AdamWSpam"]
