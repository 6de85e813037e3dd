"""What is checked before anything is started, and how many runs the machine takes at a time."""

from __future__ import annotations

import os
from pathlib import Path

from ..config.errors import CommandError
from ..config.run_config import RunConfig
from ..data.sources import locate, prepare
from ..memory_estimate import gpu_packing
from ..monitor.host import cores
from . import environment


class Refused(CommandError):
    """Nothing is started; the message is the sentence for the user."""


def check_machine(configs: list[RunConfig]) -> None:
    """Raise Refused where a run asks for a GPU that is not there."""
    if any(config.device == "cuda" for config in configs) and (why := environment.why_no_cuda()):
        raise Refused(f"DEVICE=cuda cannot be used: {why}; DEVICE=auto takes the CPU then")


def check_datasets(configs: list[RunConfig]) -> None:
    """Raise DataError where a data set is absent or damaged; download and decode it where that is still to be done."""
    needed = {(c.dataset, c.data_dir, c.download, c.train_images, c.validation_images) for c in configs}
    for dataset in sorted(needed):
        prepare(locate(*dataset))


def check_writable(root: Path) -> None:
    """Raise Refused unless files can be made in the results directory, which is made if it is missing."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (root / f".probe.{os.getpid()}.tmp").open("xb") as probe:
            Path(probe.name).unlink()
    except OSError as error:
        raise Refused(f"results cannot be written to {root}: {error.strerror}") from None


def automatic_jobs(configs: list[RunConfig]) -> int:
    """Return the number of runs to train at a time.

    On a GPU as many as fit into its free memory, otherwise as many as the cores can feed.
    """
    available = cores()
    if any(config.device != "cpu" for config in configs) and not environment.why_no_cuda():
        free = gpu_packing.free_mib()
        return 1 if free is None else min(available, gpu_packing.runs_per_gpu(configs, free))
    return max(1, available // max(config.threads or available for config in configs))
