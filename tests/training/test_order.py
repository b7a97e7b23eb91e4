"""The order of samples is a pure function of (seed, epoch, manifest)."""

import hashlib
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.order import epoch_order, is_held_out, share, stream

image_numbers = st.lists(st.integers(0, 9), min_size=1, max_size=60).map(lambda xs: np.array(xs, dtype=np.int64))


@settings(max_examples=60, deadline=None)
@given(image_numbers, st.integers(0, 2**31), st.integers(0, 100), st.integers(1, 5))
def test_an_epoch_is_a_permutation(images, seed, epoch, texts_per_image):
    assert sorted(epoch_order(images, seed, epoch, texts_per_image)) == list(range(len(images)))


@settings(max_examples=60, deadline=None)
@given(image_numbers, st.integers(1, 5))
def test_an_images_texts_stand_side_by_side_in_groups(images, texts_per_image):
    order = images[epoch_order(images, 7, 0, texts_per_image)]
    # no more runs of one image than groups are needed
    runs = 1 + int((order[1:] != order[:-1]).sum())
    assert runs <= sum(-(-int(count) // texts_per_image) for count in np.bincount(images))


def test_epochs_and_seeds_differ_and_repeat_exactly():
    images = np.repeat(np.arange(50), 4)
    first = epoch_order(images, 0, 0, 2)
    assert (first == epoch_order(images, 0, 0, 2)).all()
    assert (first != epoch_order(images, 0, 1, 2)).any()
    assert (first != epoch_order(images, 1, 0, 2)).any()


def test_the_order_is_this_one_on_every_machine_and_version():
    assert epoch_order(np.array([0, 0, 0, 1, 1, 2]), 3, 1, 2).tolist() == [4, 3, 1, 5, 0, 2]


def test_a_stream_taken_up_at_any_position_is_the_rest_of_the_whole():
    images = np.array([0, 0, 1, 1, 1, 2, 3])
    whole = list(islice(stream(images, 5, 2), 30))
    assert sorted(whole[:7]) == list(range(7))
    for position in range(20):
        assert list(islice(stream(images, 5, 2, position), 10)) == whole[position : position + 10]


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_share_a_batch_without_overlap_and_the_batch_is_the_same_for_any_world(world):
    batch = list(range(100, 121))
    pieces = [share(batch, rank, world) for rank in range(world)]
    assert [sample for piece in pieces for sample in piece] == batch
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def test_an_image_is_held_out_by_its_content():
    keys = [hashlib.sha256(str(i).encode()).hexdigest()[:16] for i in range(4000)]
    held_out = {key for key in keys if is_held_out(key, 0.1)}
    assert 300 < len(held_out) < 500
    assert held_out < {key for key in keys if is_held_out(key, 0.2)}
    assert not any(is_held_out(key, 0.0) for key in keys)
