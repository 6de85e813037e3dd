"""Say where the project lies: the folder that holds Kconfig, the presets, the models and the commands."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
