"""Measure what `make bench` shows: one module per part, each with `measure(device, rounds)`, which yields events."""

#: What can be measured, and the module of this folder that does it.
PARTS = {
    "optimizer": "optimizer",
    "training": "training",
    "loop": "training_loop",
    "precision": "precision",
    "start": "startup",
    "growth": "scaling",
}
