"""Pictures are made smaller only where the mix says so, and always to the same bytes."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from pipeline import files, shards
from pipeline.mix import ImagesConfig
from pipeline.reencode import reencode
from pipeline.verify import verify

SMALL = ImagesConfig(max_side=48, quality=80)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def photo():
    """A picture with some texture, 120 × 60."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((120, 60), Image.Resampling.BICUBIC)


def test_without_the_option_a_picture_stays_as_it_was_delivered(photo):
    data = encoded(photo)
    picture = reencode(data, "png", photo.size, None)
    assert (picture.data, picture.extension, picture.width, picture.height) == (data, "png", 120, 60)


def test_a_large_picture_becomes_a_jpeg_of_that_side_and_looks_the_same(photo):
    data = encoded(photo)
    picture = reencode(data, "png", photo.size, SMALL)
    with Image.open(io.BytesIO(picture.data)) as small:
        assert (small.format, small.size, picture.extension) == ("JPEG", (48, 24), "jpg")
        assert (picture.width, picture.height, picture.delivered_bytes) == (48, 24, len(data))
        expected = photo.resize((48, 24), Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(small, int) - np.asarray(expected, int)).mean() < 6
    assert reencode(data, "png", photo.size, SMALL).data == picture.data


def test_a_small_picture_is_left_alone_when_a_jpeg_would_be_larger():
    flat = Image.new("RGB", (40, 40), "red")
    data = encoded(flat)
    assert reencode(data, "png", flat.size, SMALL).data == data


def test_transparent_parts_become_white_and_palettes_are_smooth(photo):
    clear = Image.new("RGBA", (100, 100), (255, 0, 0, 0))
    with Image.open(io.BytesIO(reencode(encoded(clear), "png", clear.size, SMALL).data)) as small:
        assert small.getpixel((20, 20)) == (255, 255, 255)
    palette = photo.convert("P", palette=Image.Palette.ADAPTIVE)
    with Image.open(io.BytesIO(reencode(encoded(palette), "png", palette.size, SMALL).data)) as small:
        expected = palette.convert("RGB").resize((48, 24), Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(small, int) - np.asarray(expected, int)).mean() < 8


def test_a_picture_that_lies_on_its_side_stands_up(photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    data = encoded(photo, "JPEG", exif=exif)
    picture = reencode(data, "jpg", photo.size, SMALL)
    assert (picture.width, picture.height) == (24, 48)


def test_shards_with_smaller_pictures_verify_and_say_what_was_saved(photo, tmp_path):
    data = encoded(photo)
    image = {"image_sha256": hashlib.sha256(data).hexdigest(), "image_format": "png", "image": "x.png"}
    image |= {"image_width": 120, "image_height": 60, "licence": "", "credit": ""}
    text = dict.fromkeys(shards.TEXT_COLUMNS, "x") | {"scores": None}
    index = shards.write_index(
        tmp_path, [shards.write_shard(tmp_path / "shard-00000.tar", [(image, [text])], lambda _: data, SMALL)]
    )
    manifest = shards.describe_shards(tmp_path, "x", index, index.append_column("source", index["task"]), SMALL)
    files.write_json(tmp_path / "manifest.json", manifest)
    assert list(verify(tmp_path)) == []
    assert manifest["reencoded"] == {"max_side": 48, "quality": 80}
    assert manifest["delivered_image_bytes"] == len(data) > 2 * manifest["image_bytes"] > 0
    (row,) = index.to_pylist()
    assert row["key"] == image["image_sha256"][:16] and row["extension"] == "jpg"
    _, described, _ = shards.read_sample(tmp_path, row)
    assert (described["width"], described["height"]) == (48, 24)
