"""Drawings that packages ship, and the same as others might have drawn them."""

import pytest
import torch

from training.drawings import emoji, move, package_folder, restyle, shapes, vary


def square() -> torch.Tensor:
    """Eight white pictures with a blue square that has a black line of two pixels round it."""
    pictures = torch.full((8, 3, 64, 64), 255, dtype=torch.uint8)
    pictures[:, :, 22:42, 22:42] = 0
    pictures[:, :, 24:40, 24:40] = torch.tensor([40, 80, 200], dtype=torch.uint8).view(3, 1, 1)
    return pictures


def test_a_moved_picture_stays_on_white_and_keeps_its_ink():
    moved = move(square(), torch.Generator().manual_seed(0))
    assert moved.dtype == torch.uint8 and not torch.equal(moved, square())
    assert bool((moved[:, :, 0, 0] == 255).all())
    ink = (255 - moved.float()).sum((1, 2, 3)) / (255 - square().float()).sum((1, 2, 3))
    assert bool(((ink > 0.5) & (ink < 1.5)).all())


def test_in_another_style_some_lose_their_lines_and_all_keep_their_colour_and_place():
    restyled = restyle(square(), torch.Generator().manual_seed(0)).float()
    line, inside = restyled[:, :, 22, 32], restyled[:, :, 32, 32]
    has_line = line.amax(1) < 150
    assert 0 < int(has_line.sum()) < 8
    assert bool((inside.argmax(1) == 2).all())
    assert bool((restyled[:, :, :16] == 255).all()), "white stays white"
    assert len({tuple(colour.tolist()) for colour in inside}) > 4, "not all have the same colour"


def test_a_seed_gives_the_same_variations():
    first, second, other = (vary(square(), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_a_missing_package_is_named_with_how_to_get_it():
    with pytest.raises(FileNotFoundError, match="no_such_package is not installed: make it so"):
        package_folder("no_such_package", "make it so")


@pytest.mark.slow  # `make test-slow` installs the drawings
def test_the_drawings_have_names_that_say_what_they_show():
    drawn, figures = emoji(16), shapes(16)
    assert len(drawn.names) == len(set(drawn.names)) == len(drawn.pixels) == len(drawn.questions) > 1000
    assert {"strawberry", "dog face", "rocket"} <= set(drawn.names)
    assert len(set(figures.names)) == 24
    red, _, blue = drawn.pixels[drawn.names.index("strawberry")].float().mean((1, 2))
    assert red > blue
    for name, questions in zip(figures.names, figures.questions, strict=True):
        answers = {answer for question, answer in questions if question.startswith("what")}
        assert answers == set(name.split())
