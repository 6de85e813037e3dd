"""Decode an image folder to tensors once, then read them from a cache that is checked against its source."""

from __future__ import annotations

import contextlib
import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..storage.files import replacing
from ..storage.locks import locked
from ..storage.project import ROOT
from ..storage.received import is_private, open_regular
from .sources import DataError, Listing, list_images

SIDE = 32  # pixels; every image is brought to this size
SPLITS = ("train", "test")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "PPM", "TIFF")  # Pillow starts other programs for some of the rest


class Images(NamedTuple):
    """Hold images, uint8 (n, channels, 32, 32), and labels, int64 (n,), on the CPU, with a name for each class."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]


def read(folder: Path) -> Images:
    """Return the images of `<folder>/{train,test}/<class>/*`, grey if all of them are, else in colour.

    Decoded images are kept in `.cache` at the root of the project (or in $ADAMWPRUNE_CACHE), and used as long as the
    names, sizes and times of the source are unchanged, and nobody else can have written them. Raises DataError naming
    an image that cannot be decoded.
    """
    listings = {split: list_images(folder / split) for split in SPLITS}
    names = tuple(listings["train"])
    fingerprint = hashlib.sha256(repr((str(folder), SIDE, listings)).encode()).hexdigest()
    cache = _cache_file(folder)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a place that cannot be written has no cache and needs no lock
            cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if cache.parent == ROOT / ".cache":
                cache.parent.chmod(0o700)  # it may have been made by an older version
            stack.enter_context(locked(cache.with_suffix(".lock"), wait=None))
        cached = _load(cache, fingerprint) if is_private(cache.parent) and is_private(cache) else None
        if cached is None or not _fits(cached, listings):
            cached = _decode(folder, listings)
            _store(cache, cached, fingerprint)
    return Images(**cached, class_names=names)


def _cache_file(folder: Path) -> Path:
    base = os.environ.get("ADAMWPRUNE_CACHE") or ROOT / ".cache"
    return Path(base) / f"{folder.name}-{hashlib.sha256(bytes(folder)).hexdigest()[:16]}.safetensors"


def _load(cache: Path, fingerprint: str) -> dict[str, Tensor] | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(cache, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("source") != fingerprint:
                return None
            # copies: pages of a mapped file could change under our feet
            tensors = {name: file.get_tensor(name).clone() for name in Images._fields[:4]}
    except (OSError, SafetensorError):
        return None  # absent or damaged: decode again
    return tensors if metadata.get("sha256") == _sum_of(tensors) else None


def _sum_of(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _fits(tensors: dict[str, Tensor], listings: dict[str, Listing]) -> bool:
    """Return whether there is an image of the right shape for each file, and the label of its class."""
    channels = tensors["train_images"].shape[1:2]
    for split in SPLITS:
        images, labels = tensors[f"{split}_images"], _labels(listings[split])
        if images.dtype != torch.uint8 or images.shape != (len(labels), *channels, SIDE, SIDE):
            return False
        if not torch.equal(tensors[f"{split}_labels"], labels):
            return False
    return channels in ((1,), (3,))


def _labels(listing: Listing) -> Tensor:
    counts = torch.tensor([len(files) for files in listing.values()])
    return torch.arange(len(counts)).repeat_interleave(counts)


def _store(cache: Path, tensors: dict[str, Tensor], fingerprint: str) -> None:
    from safetensors.torch import save

    if not is_private(cache.parent):
        return
    with contextlib.suppress(OSError), replacing(cache) as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(save(tensors, metadata={"source": fingerprint, "sha256": _sum_of(tensors)}))


def _decode(folder: Path, listings: dict[str, Listing]) -> dict[str, Tensor]:
    from PIL import Image

    images: dict[str, list[np.ndarray]] = {}
    for split in SPLITS:
        paths = [folder / split / name / file for name, files in listings[split].items() for file, *_ in files]
        # Decoding lets go of the interpreter's lock. torch's number of threads is that of the run's settings and quota.
        with warnings.catch_warnings(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            images[split] = list(pool.map(_decode_one, paths))
    channels = max(len(image) for split in SPLITS for image in images[split])
    tensors = {}
    for split in SPLITS:
        stack = np.stack([np.broadcast_to(image, (channels, SIDE, SIDE)) for image in images[split]])
        tensors[f"{split}_images"] = torch.from_numpy(stack)
        tensors[f"{split}_labels"] = _labels(listings[split])
    return tensors


def _decode_one(path: Path) -> np.ndarray:
    from PIL import Image

    try:
        with open_regular(path) as file, Image.open(file, formats=FORMATS) as image:
            grey = image.mode in ("1", "L")
            pixels = image.convert("L" if grey else "RGB")
            if pixels.size != (SIDE, SIDE):
                pixels = pixels.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            array = np.asarray(pixels)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} cannot be decoded: {getattr(error, 'strerror', None) or error}") from error
    return array[None] if grey else np.ascontiguousarray(array.transpose(2, 0, 1))
