"""Reading samples out of shards: ours, webdataset's own loader, datasets streaming and litdata, on the same samples in one process.

A sample is an image with its texts: the image's bytes and its parsed JSON. Raw, the image's bytes are only summed up (CRC-32), which shows that every
loader read the same; with decoding, each picture becomes the 224-pixel square that the encoder sees, by the same function in all of them. That is
Pillow's time, which nothing that uses Pillow can be faster than: it is measured by itself, on bytes in memory, and "of Pillow alone" says how near
each comes. Ours reads in a shuffled order, which it can; the others in the order of their files.

Each runs in a process of its own, on one thread, from the page cache, and the best of three passes counts. The tars are those that
`pipeline.shards` writes; litdata gets the same bytes in its own format. It is measured where it is installed (pip install 'polyalign[bench]').

    python -m benchmarks.loader                 # about three minutes on two cores
"""

import argparse
import io
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SYSTEMS = {
    "ours": "ours (offset index)",
    "webdataset": "webdataset",
    "datasets": "datasets, streaming",
    "litdata": "litdata",
}
TEXTS = 4
SIDE = 320
PIXELS = 224
PASSES = 3

Sample = tuple[bytes, list[dict]]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        system, folder, extension = options.one
        sys.stdout.write(json.dumps(measure(system, Path(folder), extension)) + "\n")
        return 0
    wrong = 0
    for extension in ("jpg", "png"):
        with tempfile.TemporaryDirectory() as folder:
            size = make_shards(Path(folder), options.images, extension)
            rows = {system: child(system, folder, extension) for system in ["pillow", *SYSTEMS]}
            sys.stdout.write(
                f"\n{options.images:,} {extension.upper()}s of {SIDE} pixels ({size / options.images / 1000:.0f} kB each), {TEXTS} texts each\n"
                f"{'':<22} {'raw/s':>9} {'decoded/s':>10} {'of Pillow alone':>16}\n"
            )
            floor = rows.pop("pillow")["decoded"]
            sys.stdout.write(f"{'Pillow alone':<22} {'':>9} {floor:>10,.0f}\n")
            for system, row in rows.items():
                if "absent" in row:
                    sys.stdout.write(f"{SYSTEMS[system]:<22} not measured: {row['absent']}\n")
                    continue
                sys.stdout.write(
                    f"{SYSTEMS[system]:<22} {row['raw']:>9,.0f} {row['decoded']:>10,.0f} {row['decoded'] / floor:>15.0%}\n"
                )
                if row["checksum"] != rows["ours"]["checksum"]:
                    sys.stdout.write(f"{SYSTEMS[system]} did not read the same bytes and texts as ours\n")
                    wrong = 1
    return wrong


def child(system: str, folder: str, extension: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.loader", "--one", system, folder, extension]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": f"{folder}/cache"}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    return json.loads(output.splitlines()[-1])


def make_shards(folder: Path, images: int, extension: str) -> int:
    """Shards of crops of the demo's photographs, no two alike; returns the bytes of all pictures."""
    import hashlib

    import pyarrow as pa
    from PIL import Image

    from model.assemble import in_repository
    from pipeline import files, shards

    draw = random.Random(0)
    photos = []
    for path in sorted(in_repository("demo/sample/images/photos").iterdir()):
        with Image.open(path) as photo:
            photos.append(photo.convert("RGB"))
    contents: dict[int, list[shards.ImageWithTexts]] = {}
    for number in range(images):
        photo = photos[number % len(photos)]
        side = draw.randint(min(photo.size) // 2, min(photo.size))
        left, top = draw.randint(0, photo.width - side), draw.randint(0, photo.height - side)
        picture = photo.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
        picture.putpixel((0, 0), (number % 256, number // 256 % 256, 0))
        buffer = io.BytesIO()
        picture.save(buffer, {"jpg": "JPEG", "png": "PNG"}[extension], quality=90)
        sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
        image = {
            "image_sha256": sha256,
            "image_format": extension,
            "image": f"{number}.{extension}",
            "licence": "",
            "credit": "",
        }
        image |= {"image_width": SIDE, "image_height": SIDE, "data": buffer.getvalue()}
        text = dict.fromkeys(shards.TEXT_COLUMNS, "") | {
            "prompt": "Describe the picture:",
            "target": "a picture " * 6,
            "scores": {},
        }
        texts = [{**text, "id": f"{number}-{i}", "language": "eng_Latn", "task": "captioning"} for i in range(TEXTS)]
        contents.setdefault(shards.shard_of(sha256, 4), []).append((image, texts))
    parts = [
        shards.write_shard(
            folder / shards.shard_name(n),
            sorted(contents[n], key=lambda pair: pair[0]["image_sha256"]),
            lambda image: image["data"],
        )
        for n in sorted(contents)
    ]
    index = shards.write_index(folder, parts)
    columns = pa.table(
        {name: index[name] if name != "source" else index["task"] for name in ("language", "task", "source")}
    )
    manifest = shards.describe_shards(folder, "benchmark", index, columns)
    files.write_json(folder / "manifest.json", manifest)
    return manifest["image_bytes"]


# In the process of one system


def measure(system: str, folder: Path, extension: str) -> dict[str, Any]:
    """Samples a second, raw and decoded, and a checksum of what was read that does not depend on the order."""
    logging.disable(logging.WARNING)
    import torch

    from model.images import read_image

    torch.set_num_threads(1)
    if system == "pillow":
        pictures = [data for data, _ in ours(folder, extension)()]
        return {"decoded": best(lambda: sum(read_image(io.BytesIO(data), PIXELS) is not None for data in pictures))}
    try:
        samples = {"ours": ours, "webdataset": webdataset, "datasets": datasets, "litdata": litdata}[system](
            folder, extension
        )
    except ImportError as error:
        return {"absent": str(error)}
    sums = []

    def raw() -> int:
        count, checksum = 0, 0
        for data, texts in samples():
            count += 1
            checksum += zlib.crc32(data) * len(texts) + zlib.crc32(texts[-1]["id"].encode())
        sums.append(checksum)
        return count

    def decoded() -> int:
        count = 0
        for data, texts in samples():
            assert len(texts) == TEXTS
            read_image(io.BytesIO(data), PIXELS)
            count += 1
        return count

    return {"raw": best(raw), "decoded": best(decoded), "checksum": sums[0]}


def best(read_all: Callable[[], int]) -> float:
    """Samples a second in the fastest of some passes."""
    rates = []
    for _ in range(PASSES):
        start = time.perf_counter()
        count = read_all()
        rates.append(count / (time.perf_counter() - start))
    return max(rates)


def tars(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.glob("*.tar"))


def ours(folder: Path, extension: str) -> Callable[[], Iterator[Sample]]:
    from training.loader import Reader, open_shards

    shards = open_shards(str(folder / "*.tar"))
    of_image: dict[str, list[dict]] = {}
    for row in shards.rows:
        of_image.setdefault(row["key"], []).append(row)
    shuffled = list(of_image.values())
    random.Random(0).shuffle(shuffled)

    def read() -> Iterator[Sample]:
        reader = Reader(shards.folder, PIXELS)  # anew for each pass: it keeps what it read last
        for rows in shuffled:
            yield reader.image_file(rows[0]), [reader.text(row) for row in rows]

    return read


def webdataset(folder: Path, extension: str) -> Callable[[], Iterator[Sample]]:
    import webdataset

    def read() -> Iterator[Sample]:
        for sample in webdataset.WebDataset(tars(folder), shardshuffle=False):
            yield sample[extension], json.loads(sample["json"])["texts"]

    return read


def datasets(folder: Path, extension: str) -> Callable[[], Iterator[Sample]]:
    import datasets

    def read() -> Iterator[Sample]:
        stream = datasets.load_dataset("webdataset", data_files=tars(folder), split="train", streaming=True)
        for sample in stream.cast_column(extension, datasets.Image(decode=False)):
            yield sample[extension]["bytes"], sample["json"]["texts"]

    return read


def litdata(folder: Path, extension: str) -> Callable[[], Iterator[Sample]]:
    import litdata

    chunks = folder / "litdata"
    inputs = [(data, json.dumps(texts).encode()) for data, texts in ours(folder, extension)()]
    litdata.optimize(_as_it_is, inputs, str(chunks), chunk_bytes="64MB", num_workers=1)
    stream = litdata.StreamingDataset(str(chunks), shuffle=False)

    def read() -> Iterator[Sample]:
        for sample in stream:
            yield sample["image"], json.loads(sample["json"])

    return read


def _as_it_is(sample: tuple[bytes, bytes]) -> dict[str, bytes]:
    return {"image": sample[0], "json": sample[1]}


if __name__ == "__main__":
    sys.exit(main())
