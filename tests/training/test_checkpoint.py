"""A checkpoint is there whole or not at all."""

import pytest
import torch

from training import checkpoint


def test_what_was_saved_comes_back(tmp_path):
    path = checkpoint.save(tmp_path, 7, {"a": torch.arange(3)}, {"position": 448}, keep=2)
    tensors, state = checkpoint.load(path)
    assert tensors["a"].tolist() == [0, 1, 2]
    assert state == {"step": 7, "position": 448}


def test_the_last_ones_are_kept(tmp_path):
    for step in (1, 2, 10, 9):
        checkpoint.save(tmp_path, step, {"a": torch.zeros(1)}, {}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000009", "step-00000010"]
    assert checkpoint.latest(tmp_path).name == "step-00000010"


def test_a_half_written_one_is_never_picked_and_is_cleared_away(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 1, {"a": torch.zeros(1)}, {}, keep=2)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        dying.setattr(checkpoint, "fsync", die)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(tmp_path, 2, {"a": torch.zeros(1)}, {}, keep=2)
    assert any(path.name.startswith(checkpoint.PARTIAL) for path in tmp_path.iterdir())
    assert checkpoint.latest(tmp_path).name == "step-00000001"
    checkpoint.save(tmp_path, 3, {"a": torch.zeros(1)}, {}, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000003"]


def test_no_checkpoint_is_none_and_a_wrong_folder_is_named(tmp_path):
    assert checkpoint.latest(tmp_path / "nothing") is None
    with pytest.raises(FileNotFoundError, match="not a checkpoint"):
        checkpoint.load(tmp_path)


def test_the_optimiser_goes_on_as_if_it_had_never_stopped():
    def run(steps: int, restore_after: int | None = None) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.ones(3))
        names = {id(weight): "weight"}
        optimizer = torch.optim.AdamW([weight], lr=0.1)
        for step in range(steps):
            (weight * torch.tensor([1.0, 2.0, 3.0]) * (step + 1)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
            if step + 1 == restore_after:
                kept = {name: tensor.clone() for name, tensor in checkpoint.optimizer_tensors(optimizer, names).items()}
                optimizer = torch.optim.AdamW([weight], lr=0.1)
                checkpoint.restore_optimizer(optimizer, names, kept)
        return weight.detach()

    assert torch.equal(run(6), run(6, restore_after=3))
