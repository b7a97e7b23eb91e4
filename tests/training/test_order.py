"""The order of samples is a pure function of (seed, epoch, manifest, mixture)."""

import hashlib
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.order import Order, batches, count_batches, is_held_out, quotas, share

image_numbers = st.lists(st.integers(0, 9), min_size=1, max_size=60).map(lambda xs: np.array(xs, dtype=np.int64))
few = settings(max_examples=60, deadline=None)


@st.composite
def mixtures(draw):
    """Cells of samples, and a share for each cell."""
    cells = np.array(draw(st.lists(st.integers(0, 4), min_size=1, max_size=60)))
    names, cells = np.unique(cells, return_inverse=True)
    shares = np.array(draw(st.lists(st.floats(0.01, 1.0), min_size=len(names), max_size=len(names))))
    return cells.astype(np.int64), shares / shares.sum()


@few
@given(image_numbers, st.integers(0, 2**31), st.integers(0, 100), st.integers(1, 5), st.integers(0, 3))
def test_an_epoch_is_a_permutation(images, seed, epoch, texts_per_image, window):
    order = Order(images, seed, texts_per_image, shards=images % 4, shard_window=window)
    assert sorted(order.epoch(epoch)) == list(range(len(images)))


@few
@given(image_numbers, st.integers(1, 5))
def test_an_images_texts_stand_side_by_side_in_groups(images, texts_per_image):
    order = images[Order(images, 7, texts_per_image).epoch(0)]
    # no more runs of one image than groups are needed
    runs = 1 + int((order[1:] != order[:-1]).sum())
    assert runs <= sum(-(-int(count) // texts_per_image) for count in np.bincount(images))


def test_epochs_and_seeds_differ_and_repeat_exactly():
    images = np.repeat(np.arange(50), 4)
    first = Order(images, 0, 2).epoch(0)
    assert (first == Order(images, 0, 2).epoch(0)).all()
    assert (first != Order(images, 0, 2).epoch(1)).any()
    assert (first != Order(images, 1, 2).epoch(0)).any()


def test_the_order_is_this_one_on_every_machine_and_version():
    images = np.array([0, 0, 0, 1, 1, 2])
    assert Order(images, 3, 2).epoch(1).tolist() == [4, 3, 1, 5, 0, 2]
    cells, shares = np.array([0, 0, 0, 0, 1, 1]), np.array([0.5, 0.5])
    assert Order(images, 3, 2, cells, shares).epoch(1).tolist() == [2, 4, 4, 5, 0, 2]


@few
@given(mixtures(), st.integers(0, 2**31))
def test_each_cell_gets_its_share_of_every_epoch_to_one_sample(mixture, seed):
    cells, shares = mixture
    images = np.arange(len(cells)) % 7
    for epoch in range(4):
        drawn = np.bincount(cells[Order(images, seed, 2, cells, shares).epoch(epoch)], minlength=len(shares))
        assert drawn.sum() == len(cells)
        assert (np.abs(drawn - shares * len(cells)) < 1 + 1e-4).all()


@few
@given(mixtures(), st.integers(0, 2**31))
def test_no_sample_of_a_cell_comes_again_before_all_of_it_have_come(mixture, seed):
    cells, shares = mixture
    order = Order(np.arange(len(cells)) % 7, seed, 2, cells, shares)
    seen = np.zeros(len(cells), dtype=np.int64)
    for epoch in range(5):
        seen += np.bincount(order.epoch(epoch), minlength=len(cells))
        for cell in range(len(shares)):
            assert np.ptp(seen[cells == cell]) <= 1


def test_a_share_of_less_than_a_sample_is_met_over_the_epochs():
    shares = np.array([0.997, 0.003])
    drawn = sum(quotas(shares, 100, 5, epoch) for epoch in range(100))
    assert drawn.sum() == 10_000 and abs(drawn[1] - 30) <= 2


def test_a_text_that_a_mixture_repeats_is_in_no_group_twice():
    cells, shares = np.array([0, 1, 1, 1, 1, 1, 1, 1]), np.array([0.5, 0.5])
    for epoch in range(5):
        order = Order(np.zeros(8, dtype=np.int64), 0, 8, cells, shares).epoch(epoch).tolist()
        assert order.count(0) == 4
        # the first turn is one group of all five texts, each later turn the repeated text alone
        assert any(len(set(order[i : i + 5])) == 5 and set(order[:i] + order[i + 5 :]) == {0} for i in range(4))


def test_with_a_window_only_so_many_shards_are_read_at_a_time():
    shards = np.repeat(np.arange(12), 10)
    order = Order(np.arange(120), 1, shards=shards, shard_window=3)
    read = shards[order.epoch(0)].reshape(4, 30)
    assert [len(set(row)) for row in read.tolist()] == [3, 3, 3, 3]
    assert (shards[order.epoch(1)].reshape(4, 30)[0] != read[0]).any()
    assert sorted(read[0]) != read[0].tolist()  # shuffled within


@few
@given(mixtures(), st.integers(0, 60), st.integers(0, 3))
def test_a_stream_taken_up_at_any_position_is_the_rest_of_the_whole(mixture, position, window):
    cells, shares = mixture
    order = Order(np.arange(len(cells)) % 7, 5, 2, cells, shares, cells, window)
    whole = list(islice(order.stream(), position + 10))
    assert list(islice(order.stream(position), 10)) == whole[position:]


lengths_of_60 = np.arange(60) * 7 % 31 + 1


@pytest.mark.parametrize("tokens", [None, 90])
@pytest.mark.parametrize("window", [0, 20])
def test_batches_taken_up_after_any_of_them_are_the_rest_of_the_whole(tokens, window):
    order = Order(np.arange(60) // 3, 5, 2)

    def make(position=0):
        return batches(order, 6, position, lengths_of_60, tokens, window)

    whole = [batch.tolist() for batch in islice(make(), 40)]
    position = 0
    for number in range(20):
        assert [batch.tolist() for batch in islice(make(position), 5)] == whole[number : number + 5]
        position += len(whole[number])


@pytest.mark.parametrize("tokens", [None, 90])
def test_a_window_of_batches_holds_the_windows_samples_and_no_others(tokens):
    order = Order(np.arange(60) // 3, 5, 2)
    window = 24
    found: list[int] = []
    for batch in batches(order, 6, 0, lengths_of_60, tokens, window):
        found += batch.tolist()
        if len(found) == window:
            break
        assert len(found) < window
    assert sorted(found) == sorted(islice(order.stream(), window))


def test_without_a_window_batches_follow_the_order():
    order = Order(np.arange(60) // 3, 5, 2)
    for tokens in (None, 90):
        joined = np.concatenate(list(islice(batches(order, 6, 0, lengths_of_60, tokens), 40)))
        assert joined[:60].tolist() == order.epoch(0).tolist()


def test_a_batch_stays_within_its_budget_and_holds_texts_of_like_length():
    order = Order(np.arange(60), 5)
    by_budget = list(islice(batches(order, 6, 0, lengths_of_60, 90, 0), 20))
    assert all(len(batch) * lengths_of_60[batch].max() <= 90 for batch in by_budget)
    plain = list(islice(batches(order, 6), 10))
    grouped = list(islice(batches(order, 6, 0, lengths_of_60, None, 60), 10))

    def padding(found):
        return sum(len(batch) * lengths_of_60[batch].max() - lengths_of_60[batch].sum() for batch in found)

    assert padding(grouped) < padding(plain) / 3
    firsts = [lengths_of_60[batch[0]] for batch in grouped]
    assert firsts != sorted(firsts)  # long and short batches alternate


def test_an_images_texts_stay_together_in_batches_of_like_length():
    order = Order(np.arange(60) // 3, 5, 3)
    for batch in islice(batches(order, 6, 0, lengths_of_60, None, 60), 10):
        assert len(set(order.images[batch])) == 2


def test_a_position_between_two_batches_of_another_run_is_refused():
    order = Order(np.arange(60), 5)
    with pytest.raises(ValueError, match="--batch-size"):
        next(batches(order, 6, 3, lengths_of_60, None, 12))


@pytest.mark.parametrize(("tokens", "window"), [(None, 0), (90, 0), (None, 20), (90, 20)])
def test_the_batches_of_a_run_are_counted_before_it(tokens, window):
    order = Order(np.arange(60), 5)
    count = count_batches(order, 100, 6, lengths_of_60, tokens, window)
    sizes = [len(batch) for batch in islice(batches(order, 6, 0, lengths_of_60, tokens, window), count)]
    assert sum(sizes) >= 100 > sum(sizes[:-1])


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
