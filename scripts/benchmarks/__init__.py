"""Measure what `make bench` shows: one module per part, each with `measure(device, rounds)`, which yields events."""
