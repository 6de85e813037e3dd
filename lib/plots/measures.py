"""Which figure of memory a picture shows, and its values for a group. Figures are never mixed on one axis."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

from ..results.display_names import MIB
from ..results.records import MeanStd, Results, RunRecord, SeedGroup, number


@dataclass(frozen=True)
class MemoryMeasure:
    """One way of counting memory: `key` in the files, `name` in titles, `axis` on axes. Values are in bytes.

    Of what was sampled, `record` is the part of a run's summary that holds its mean and peak.
    """

    key: str
    name: str
    axis: str
    record: str = "sampled_in_training"

    def mean_of(self, run: RunRecord) -> float | None:
        """Return the mean over the training, in bytes; start-up and evaluation are left out.

        None where the first epochs are not on record.
        """
        if self.key in SAMPLED:
            return self._sampled(run, "mean")
        if run.column("epoch")[:1] not in ([], [1.0]):
            return None
        rows = [sum(row.values()) for row in run.memory_rows]
        return statistics.fmean(rows) if rows else None

    def peak_of(self, run: RunRecord) -> float | None:
        """Return the largest value while training, in bytes."""
        return self._sampled(run, "peak") if self.key in SAMPLED else run.memory(self.key)

    def _sampled(self, run: RunRecord, which: str) -> float | None:
        value = number(((run.summary.get(self.record) or {}).get(self.key) or {}).get(which))
        return None if value is None else value * MIB

    def mean(self, group: SeedGroup) -> MeanStd | None:
        return MeanStd.of(self.mean_of(run) for run in group.complete_runs)

    def peak(self, group: SeedGroup) -> MeanStd | None:
        return MeanStd.of(self.peak_of(run) for run in group.complete_runs)


BY_CATEGORY = MemoryMeasure("by_category", "bytes by category, counted from the tensors", "all categories")
ALLOCATOR = MemoryMeasure("allocator_peak", "allocator peak (torch.cuda.max_memory_allocated)", "allocator peak")
SAMPLED = {
    "process_mib": MemoryMeasure("process_mib", "sampled GPU memory of the process", "sampled, process"),
    "device_used_mib": MemoryMeasure("device_used_mib", "sampled GPU memory of the whole device", "sampled, device"),
    "host_rss_mib": MemoryMeasure("host_rss_mib", "sampled host memory (RSS)", "sampled, host RSS"),
}
#: The same in data files published before evaluation was left out, of which it cannot be taken out any more.
WITH_EVALUATION = [replace(f, name=f"{f.name}, with evaluation", record="sampled") for f in SAMPLED.values()]


def sampled(results: Results) -> MemoryMeasure | None:
    """Return the sampled figure that every complete run has: of the process, else of the device, else of the host."""
    complete = [run for run in results.runs if run.is_complete] or list(results.runs)
    for measure in (*SAMPLED.values(), *WITH_EVALUATION):
        if complete and all(measure.peak_of(run) is not None for run in complete):
            return measure
    return None


def training(results: Results) -> MemoryMeasure:
    """Return the measure with mean and peak: sampled on a GPU, by category elsewhere (samples are mostly torch)."""
    found = sampled(results)
    return found if found and found.key != "host_rss_mib" else BY_CATEGORY


def peak(results: Results) -> MemoryMeasure:
    """Return the measure of peaks that tables show too: the allocator's on a GPU, else by category."""
    return ALLOCATOR if results.memory_measure == "allocator_peak" else BY_CATEGORY


def states_at_end(group: SeedGroup) -> MeanStd | None:
    """Return optimizer and pruning state in bytes per prunable weight at the end of training."""
    return group.state_per_prunable(at_peak=False)


def states_at_peak(group: SeedGroup) -> MeanStd | None:
    """Return the largest optimizer and pruning state of the run in bytes per prunable weight."""
    return group.state_per_prunable(at_peak=True)
