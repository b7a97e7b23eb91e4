"""Pictures as the encoder gets them: upright, transparent parts white."""

import io

import numpy as np
import pytest
from PIL import Image

from model.images import BadImage, read_image

ORIENTATION = 0x0112


def encoded(image: Image.Image, kind: str, **options) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def test_a_photograph_taken_sideways_is_turned_upright():
    """EXIF orientation 6: the camera stood on its right side, so the file's left column is the picture's top row."""
    upright = Image.new("RGB", (32, 32), "red")
    upright.paste("blue", (0, 16, 32, 32))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    lying = encoded(upright.transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    assert np.array_equal(read_image(lying, 32), read_image(encoded(upright, "PNG"), 32))


def test_transparent_parts_are_white_whatever_colour_hides_in_them():
    hidden = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert (read_image(encoded(hidden, "PNG"), 8) == 255).all()


def test_what_is_no_picture_is_an_error_and_never_a_black_one():
    with pytest.raises(BadImage, match="cannot identify"):
        read_image(io.BytesIO(b"not a picture"), 8)
