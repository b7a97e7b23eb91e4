"""The frozen vision encoder's output for every image, written once and read in training instead of computed again.

    python -m training.features --shards 'runs/mine/shards/*.tar' --base FOLDER --features runs/mine/features         # tells the size
    python -m training.features --shards 'runs/mine/shards/*.tar' --base FOLDER --features runs/mine/features --yes   # writes
    python training/realign.py  --shards 'runs/mine/shards/*.tar' --base FOLDER --features runs/mine/features

It takes the trainer's own options, so the encoder, its precision and the images' preparation are the run's. Features are only right for
these: the manifest names the weights (their sha256), how images are prepared, and the floating type, and another of them is refused. Each tar has
one file, whose name holds a hash of the tar and of all this: a killed run goes on, and tars that growth left alone are not encoded again.

Files are plain `.npy` of shape (images, patches + 1, width), in the order of the tar; bfloat16, which NumPy does not know, stands in them as uint16.
When it pays is in docs/training.md. Random crops of images and features exclude each other; the trainer has no such augmentation.
"""

import argparse
import hashlib
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Blip2ForConditionalGeneration
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from model.images import normalise
from model.loss import encode_images
from pipeline import files
from training import base, options, report
from training.distributed import World
from training.loader import BadPicture, Reader, ShardError, Shards, open_shards
from training.step import arithmetic, precision_of, set_precision

log = logging.getLogger("training.features")

FORMAT = "polyalign-features/1"
MANIFEST = "manifest.json"
IMAGES_AT_A_TIME = 32
STORED_AS = {"float32": np.float32, "bfloat16": np.uint16}


def encoder_of(model: Blip2ForConditionalGeneration, precision: torch.dtype) -> dict[str, Any]:
    """Everything that decides what the encoder gives for an image: weights, preparation of the image, floating type."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.vision_model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    vision = model.config.vision_config
    return {
        "weights": digest.hexdigest(),
        "image": {
            "size": vision.image_size,
            "resample": "bicubic",
            "transparent": "white",
            "turned": "upright",
            "mean": list(OPENAI_CLIP_MEAN),
            "std": list(OPENAI_CLIP_STD),
        },
        "dtype": str(precision).removeprefix("torch."),
        "shape": [(vision.image_size // vision.patch_size) ** 2 + 1, vision.hidden_size],
    }


@dataclass(frozen=True)
class ShardOfFeatures:
    """One file of features and what it is of."""

    file: str
    shard: str
    keys: list[str]
    bytes: int


def plan(shards: Shards, encoder: dict[str, Any]) -> list[ShardOfFeatures]:
    """The files that features of all images of `shards` are in, whatever is selected of their texts."""
    manifest = files.read_json(shards.folder / "manifest.json")
    hashes = {shard["file"]: shard["sha256"] for shard in manifest["shards"]}
    keys: dict[str, dict[str, None]] = {}
    index = pq.read_table(shards.folder / "index.parquet", columns=["shard", "key"])
    used = set(shards.column("shard"))
    for shard, key in zip(index["shard"].to_pylist(), index["key"].to_pylist(), strict=True):
        if shard in used:
            keys.setdefault(shard, {})[key] = None
    size = int(np.prod(encoder["shape"])) * np.dtype(STORED_AS[encoder["dtype"]]).itemsize
    return [
        ShardOfFeatures(
            f"{Path(shard).stem}-{files.sha256_json([hashes[shard], encoder])[:16]}.npy",
            shard,
            list(of),
            size * len(of),
        )
        for shard, of in sorted(keys.items())
    ]


def write(
    shards: Shards,
    reader: Reader,
    model: Blip2ForConditionalGeneration,
    encoder: dict[str, Any],
    folder: Path,
    device: torch.device,
) -> dict[str, Any]:
    """Write features of all images of `shards` to `folder`, the manifest last; what is there already stays. Returns the manifest.

    `model`: on `device`, in the precision of `encoder`, in evaluation mode.
    """
    planned = plan(shards, encoder)
    rows = _one_row_an_image(shards)
    todo = [shard for shard in planned if not (folder / shard.file).exists()]
    total, done, start = sum(len(shard.keys) for shard in todo), 0, time.monotonic()
    files.check_writable(folder)
    for shard in todo:
        shape = (len(shard.keys), *encoder["shape"])
        bad = []
        with files.written_aside(folder / shard.file) as temporary:
            with temporary.open("wb") as file:
                header = {"descr": np.dtype(STORED_AS[encoder["dtype"]]).str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for first in range(0, len(shard.keys), IMAGES_AT_A_TIME):
                    keys = shard.keys[first : first + IMAGES_AT_A_TIME]
                    states, undecodable = _encode(model, reader, [rows[key] for key in keys], encoder, device)
                    bad += undecodable
                    file.write(_as_numpy(states).tobytes())
                    done += len(keys)
                    left = (time.monotonic() - start) / done * (total - done)
                    log.info("%d of %d images, %s left", done, total, report.duration(left))
            if bad:
                files.write_json(folder / f"{shard.file}.bad.json", bad)
    manifest = {
        "format": FORMAT,
        "encoder": encoder,
        "files": {shard.file: {"shard": shard.shard, "images": len(shard.keys)} for shard in planned},
        "bytes": sum(shard.bytes for shard in planned),
    }
    files.write_json(folder / MANIFEST, manifest)
    return manifest


def _one_row_an_image(shards: Shards) -> dict[str, dict]:
    table = pq.read_table(
        shards.folder / "index.parquet",
        columns=["shard", "key", "extension", "image_offset", "image_bytes", "json_offset", "json_bytes", "text"],
    )
    return {row["key"]: row for row in table.to_pylist() if row["text"] == 0}


def _encode(
    model: Blip2ForConditionalGeneration,
    reader: Reader,
    rows: list[dict],
    encoder: dict[str, Any],
    device: torch.device,
) -> tuple[Tensor, list[str]]:
    """(states of the images, zeros for those that can't be decoded; keys of these)."""
    pixels, places, bad = [], [], []
    for place, row in enumerate(rows):
        try:
            pixels.append(reader.pixels(row))
            places.append(place)
        except BadPicture as error:
            log.warning("%s", error)
            bad.append(row["key"])
    dtype = getattr(torch, encoder["dtype"])
    states = torch.zeros(len(rows), *encoder["shape"], dtype=dtype)
    if pixels:
        with arithmetic(dtype, device):
            states[places] = encode_images(model, normalise(torch.stack(pixels)).to(device)).to("cpu", dtype)
    return states, bad


def _as_numpy(states: Tensor) -> NDArray:
    return (states.view(torch.uint16) if states.dtype == torch.bfloat16 else states).numpy()


@dataclass
class Features:
    """Reads features of images. Open with `open_features`."""

    folder: Path
    dtype: torch.dtype
    places: dict[str, tuple[str, int]]
    """Key of an image → its file and place in it."""
    bad: frozenset[str]
    digest: str
    """Of what the features are of; a run that has others has other numbers."""
    _files: dict[str, NDArray] = field(default_factory=dict)

    def states(self, row: dict) -> Tensor:
        """The encoder's output (patches + 1, width) for the image of an index row. Raises BadPicture for one that could not be decoded."""
        if row["key"] in self.bad:
            raise BadPicture(f"{row['key']}.{row['extension']} could not be decoded when {self.folder} was written.")
        name, place = self.places[row["key"]]
        if name not in self._files:
            self._files[name] = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        copy = torch.from_numpy(np.array(self._files[name][place]))
        return copy.view(self.dtype) if self.dtype == torch.bfloat16 else copy


def open_features(folder: Path, shards: Shards, encoder: dict[str, Any]) -> Features:
    """The features in `folder` of the images of `shards`, by this encoder.

    Raises ShardError when they are not there, are of another encoder, preparation or floating type, or lack an image.
    """
    if not (folder / MANIFEST).exists():
        raise ShardError(f"{folder} holds no finished features: write them with `python -m training.features … --yes`.")
    manifest = files.read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise ShardError(
            f"{folder} is of format {manifest.get('format')!r}, this trainer reads {FORMAT!r}: write it again."
        )
    for name, wanted in encoder.items():
        if manifest["encoder"].get(name) != wanted:
            raise ShardError(
                f"The features in {folder} are of another encoder: {name} is {json.dumps(manifest['encoder'].get(name))[:80]}, this run's is "
                f"{json.dumps(wanted)[:80]}. Write them again to another folder, or train without --features."
            )
    places: dict[str, tuple[str, int]] = {}
    bad: set[str] = set()
    for shard in plan(shards, encoder):
        path = folder / shard.file
        if shard.file not in manifest["files"] or not path.exists():
            raise ShardError(
                f"{folder} has no features of {shard.shard} as it is now: run `python -m training.features … --yes` again; only "
                "what is missing is written."
            )
        if path.stat().st_size < shard.bytes:
            raise ShardError(f"{path} is truncated: delete it and run `python -m training.features … --yes` again.")
        places |= {key: (shard.file, place) for place, key in enumerate(shard.keys)}
        of_bad = folder / f"{shard.file}.bad.json"
        bad |= set(files.read_json(of_bad)) if of_bad.exists() else set()
    return Features(
        folder, getattr(torch, encoder["dtype"]), places, frozenset(bad), files.sha256_json(manifest["encoder"])
    )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--yes", action="store_true")
    own, rest = parser.parse_known_args(argv)
    args = options.arguments(rest)
    report.log_to_stderr()
    try:
        if args.features is None:
            raise ValueError("Name the folder to write to with --features.")
        for line in run(args, own.yes):
            sys.stdout.write(line + "\n")
    except (ShardError, OSError, ValueError, ImportError) as error:
        sys.exit(f"error: {error}")


def run(args: argparse.Namespace, confirmed: bool) -> Iterator[str]:
    """Tell the size, and write when `confirmed`."""
    device = torch.device(args.device)
    shards = open_shards(args.shards)
    model, _, _ = base.load_or_make(args, World(device))
    precision = precision_of(args.precision, device)
    encoder = encoder_of(model, precision)
    planned = plan(shards, encoder)
    images, size = sum(len(shard.keys) for shard in planned), sum(shard.bytes for shard in planned)
    missing = sum(shard.bytes for shard in planned if not (args.features / shard.file).exists())
    yield f"{images:,} images: {size / 1e9:.2f} GB in {encoder['dtype']}, of which {missing / 1e9:.2f} GB are to be written"
    if not confirmed:
        yield f"Nothing was written. Add --yes to write them to {args.features}."
        return
    model.requires_grad_(False)
    set_precision(model, precision)
    model.to(device).eval()
    write(shards, Reader(shards.folder, model.config.vision_config.image_size), model, encoder, args.features, device)
    yield f"features: {args.features}"


if __name__ == "__main__":
    main()
