"""The preset with a real language model makes its own base, and trains it."""

import pytest
import torch
from safetensors.torch import load_file

from training.drawings import package_folder
from training.options import arguments
from training.realign import realign
from training.smollm2 import INSTALL, PACKAGE, from_gguf


@pytest.mark.slow  # `make test-slow` installs the packages
def test_the_base_is_made_and_trained_and_the_language_model_in_it_is_as_it_was(shards, tmp_path):
    argv = ["--shards", shards, "--out", tmp_path, "--preset", "smollm2", "--qformer-steps", 2, "--text-steps", 2]
    argv += ["--max-steps", 2, "--batch-size", 4, "--eval-samples", 8, "--precision", "bfloat16", "--device", "cpu"]
    assert realign(arguments([str(arg) for arg in argv]))["steps"] == 2
    (weights,) = package_folder(PACKAGE, INSTALL).glob("*.gguf")
    shipped = load_file(from_gguf(weights, tmp_path / "language_model") / "model.safetensors")
    base = load_file(tmp_path / "base" / "model.safetensors")
    assert len(shipped) > 200
    for name, tensor in shipped.items():
        assert tensor.dtype == torch.float32 and torch.equal(base[f"language_model.{name}"], tensor), name
