"""Decode an image folder to tensors once, then read them from a cache that is checked against its source."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..storage.files import replacing
from ..storage.locks import locked
from ..storage.project import ROOT
from ..storage.received import is_private, open_regular
from .errors import DataError
from .sources import Listing, list_images

if TYPE_CHECKING:
    from PIL import Image

SIDE = 32  # pixels; every image is brought to this size
SPLITS = ("train", "test")
DECODING = 2  # counts up when the same file becomes other pixels, so that older caches are made again
GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")  # modes of Pillow with one channel
NAMED = 10  # broken files that an error names
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
    the images that cannot be decoded.
    """
    listings = {split: list_images(folder / split) for split in SPLITS}
    names = tuple(listings["train"])
    fingerprint = hashlib.sha256(repr((str(folder), SIDE, DECODING, listings)).encode()).hexdigest()
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
    broken: list[DataError] = []
    for split in SPLITS:
        paths = [folder / split / name / file for name, files in listings[split].items() for file, *_ in files]
        # Decoding lets go of the interpreter's lock. torch's number of threads is that of the run's settings and quota.
        with warnings.catch_warnings(), ThreadPoolExecutor(torch.get_num_threads()) as pool:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            decoded = list(pool.map(_decode_or_reason, paths))
        images[split] = [image for image in decoded if not isinstance(image, DataError)]
        broken += [reason for reason in decoded if isinstance(reason, DataError)]
    if broken:
        more = f"; and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise DataError("; ".join(map(str, broken[:NAMED])) + more)
    channels = max(len(image) for split in SPLITS for image in images[split])
    tensors = {}
    for split in SPLITS:
        stack = np.stack([np.broadcast_to(image, (channels, SIDE, SIDE)) for image in images[split]])
        tensors[f"{split}_images"] = torch.from_numpy(stack)
        tensors[f"{split}_labels"] = _labels(listings[split])
    return tensors


def _decode_or_reason(path: Path) -> np.ndarray | DataError:
    try:
        return _decode_one(path)
    except DataError as reason:
        return reason


def _decode_one(path: Path) -> np.ndarray:
    """Return one image as uint8 (channels, 32, 32), upright by its EXIF orientation."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with open_regular(path) as file, Image.open(file, formats=FORMATS) as image:
            ImageOps.exif_transpose(image, in_place=True)
            grey = image.mode in GREY
            pixels = _to_bytes(image) if grey else image.convert("RGB")
            if pixels.size != (SIDE, SIDE):
                pixels = pixels.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            array = np.asarray(pixels)
    except UnidentifiedImageError:
        raise DataError(f"{path} cannot be decoded: none of {', '.join(FORMATS)}") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path} cannot be decoded: {getattr(error, 'strerror', None) or error}") from error
    return array[None] if grey else np.ascontiguousarray(array.transpose(2, 0, 1))


def _to_bytes(image: Image.Image) -> Image.Image:
    """Return a grey image with 8 bits a pixel.

    More bits are scaled by the range of their format: whole numbers from 0 to 65535, fractions from 0 to 1. Values
    beyond it have no range of their own, so that the image's own from the darkest to the brightest is taken.
    """
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image.convert("L")
    values = np.asarray(image, np.float64)
    if not np.isfinite(values).all():
        raise ValueError("pixels that are not finite")
    low, high = 0.0, 1.0 if image.mode == "F" else 65535.0
    if values.min() < low or values.max() > high:
        low, high = values.min(), values.max()
    return Image.fromarray(np.rint((values - low) * (255 / (high - low or 1))).astype(np.uint8))


def main(arguments: list[str]) -> int:
    """Decode the image folder that is named into its cache. Exit code: 0, or 2 with a sentence on stderr."""
    try:
        read(Path(arguments[0]))
    except DataError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":  # started by sources.prepare
    sys.exit(main(sys.argv[1:]))
