"""What a run will take is told before it, and nothing is kept."""

import numpy as np
import pytest
import torch

from model import assemble
from tests.training.test_realign import options
from training.dry_run import longest, parts_of, text
from training.options import arguments
from training.realign import realign


def test_a_dry_run_counts_weights_exactly_measures_real_steps_and_keeps_nothing(shards, base, tmp_path):
    argv = options(shards, base, tmp_path / "out", "--max-steps", 500, "--dry-run")
    measured = realign(arguments(argv))
    model = assemble.load(base, assemble.load_tokenizer(base))
    frozen = sum(p.numel() * p.element_size() for p in model.parameters())
    adapter = sum(part["bytes"] for part in measured["parts"] if part["name"] == "adapter")
    assert measured["weight_bytes"] == frozen + adapter
    trained = sum(part["parameters"] for part in measured["parts"] if part["is_trained"])
    assert measured["gradient_and_optimiser_bytes"] == 12 * trained
    assert measured["worst_batch"]["texts"] == 12
    assert measured["worst_batch"]["peak_bytes"] > measured["weight_bytes"]
    told = text(measured, torch.device("cpu"))
    assert "500 steps will take" in told and "samples/s" in told
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_are_counted_once_and_as_they_are_stored():
    model = torch.nn.Module()
    model.language_projection = torch.nn.Linear(3, 2).to(torch.bfloat16)
    model.language_model = torch.nn.Module()
    model.language_model.a = torch.nn.Linear(4, 4, bias=False)
    model.language_model.tied = model.language_model.a
    assert [(part.name, part.parameters, part.bytes) for part in parts_of(model)] == [
        ("projection", 8, 16),
        ("language_model", 16, 64),
    ]


@pytest.mark.parametrize(("tokens", "expected"), [(None, [2, 0, 3]), (40, [2, 0]), (10, [2])])
def test_the_worst_batch_is_of_the_longest_texts(tokens, expected):
    assert longest(np.array([19, 3, 20, 9]), 3, tokens) == expected
