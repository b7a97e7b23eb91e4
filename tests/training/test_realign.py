"""The trainer from outside: bits after a kill, images that matter, errors that help."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from model import assemble
from model.adapt import add_lora
from model.freeze import set_trainable, trainable_parameters
from model.inputs import Layout
from training.loader import Collator, Reader, open_shards
from training.realign import TRAINED, accumulate_gradients, arguments, cosine_with_warmup, main, realign

ROOT = Path(__file__).resolve().parents[2]


def options(shards: str, base: Path, out: Path, *more: object) -> list[str]:
    fixed = [
        "--shards",
        shards,
        "--base",
        base,
        "--out",
        out,
        "--device",
        "cpu",
        "--batch-size",
        12,
        "--eval-samples",
        48,
    ]
    return [str(option) for option in (*fixed, *more)]


def losses(out: Path) -> list[tuple[int, float, float]]:
    return [
        (row["step"], row["loss"], row["gradient_norm"]) for row in map(json.loads, (out / "train_log.jsonl").open())
    ]


def start(argv: list[str]) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "training" / "realign.py"), *argv],
        env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_killed_and_resumed_it_gives_the_bits_of_an_undisturbed_run(shards, base, tmp_path):
    argv = ["--max-steps", 30, "--checkpoint-every", 4, "--micro-batch", 8, "--lora-dropout", 0.05]
    whole = tmp_path / "undisturbed"
    realign(arguments(options(shards, base, whole, *argv)))
    killed = tmp_path / "killed"
    log = killed / "train_log.jsonl"
    for after in (6, 17):  # within an epoch of four steps, between two checkpoints
        process = start(options(shards, base, killed, *argv, "--resume"))
        deadline = time.monotonic() + 120
        while not log.exists() or log.read_text().count("\n") < after:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    realign(arguments(options(shards, base, killed, *argv, "--resume", "auto")))
    assert len(losses(whole)) == 30
    assert losses(killed) == losses(whole)
    for name in ("adapter_model.safetensors", "aligned_parts.safetensors"):
        assert (killed / "adapter" / name).read_bytes() == (whole / "adapter" / name).read_bytes(), name


@pytest.fixture(scope="module")
def trained(shards, base, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("trained") / "out"
    return out, realign(arguments(options(shards, base, out, "--max-steps", 60, "--lr-qformer", 2e-3)))


def test_it_learns_to_use_the_image(trained):
    _, result = trained
    assert result["loss_right_images"] + 0.5 < result["loss_shuffled_images"]
    assert result["gap"] > 5 * result["gap_standard_error"]
    for task in ("captioning", "vqa"):
        assert result["by_task"][task]["loss_right_images"] < result["by_task"][task]["loss_shuffled_images"]
    assert set(result["by_language"]) == {"eng_Latn", "deu_Latn", "rus_Cyrl"}


def test_what_a_run_leaves_behind_can_be_used(trained, base, shards):
    out, result = trained
    assert json.loads((out / "result.json").read_text())["samples_seen"] == 60 * 12 == result["samples_seen"]
    generations = json.loads((out / "generations.json").read_text())
    for key in {row["key"] for row in generations}:  # one language a script
        assert sorted(row["language"][-4:] for row in generations if row["key"] == key) == ["Cyrl", "Latn"]
    page = (out / "index.html").read_text()
    assert page.count("<figure>") == 5 and "<svg" in page and 'dir="auto"' in page
    model = assemble.load(base, assemble.load_tokenizer(base))
    PeftModel.from_pretrained(model, out / "adapter")
    aligned = load_file(out / "adapter" / "aligned_parts.safetensors")
    names = dict(model.named_parameters())
    assert "query_tokens" in aligned and all(names[name].shape == tensor.shape for name, tensor in aligned.items())
    assert not list((out / "adapter").glob("*.bin"))


def test_a_run_is_not_started_over_by_accident(trained, shards, base):
    out, _ = trained
    with pytest.raises(ValueError, match="--resume"):
        realign(arguments(options(shards, base, out, "--max-steps", 60)))


def test_resuming_on_other_shards_or_settings_is_refused_with_the_remedy(trained, shards, base, make_shards):
    out, _ = trained
    other = make_shards("other", colours=5)
    with pytest.raises(ValueError, match=r"other shards.*--out"):
        realign(arguments(options(other, base, out, "--max-steps", 60, "--lr-qformer", 2e-3, "--resume")))
    with pytest.raises(ValueError, match=r"seed was 0 and is 1"):
        realign(arguments(options(shards, base, out, "--max-steps", 60, "--lr-qformer", 2e-3, "--resume", "--seed", 1)))
    with pytest.raises(FileNotFoundError, match="No checkpoint at"):
        realign(arguments(options(shards, base, out, "--resume", out / "nowhere")))


def test_a_finished_run_that_is_resumed_trains_no_further(trained, shards, base):
    out, before = trained
    after = realign(arguments(options(shards, base, out, "--max-steps", 60, "--lr-qformer", 2e-3, "--resume")))
    assert after["loss_right_images"] == before["loss_right_images"]
    assert after["samples_seen"] == before["samples_seen"]


def test_cut_targets_are_counted_and_held_out_images_are_kept_from_training(shards, base, tmp_path):
    result = realign(
        arguments(
            options(shards, base, tmp_path / "out", "--max-steps", 4, "--max-target-tokens", 1, "--held-out", 0.4)
        )
    )
    assert 0 < result["cut_targets"] <= 48
    assert "loss_right_images" in result["held_out_images"]
    assert result["samples"] < 48


@pytest.mark.parametrize("preset", ["tiny", "tiny-decoder"])
def test_without_a_base_the_presets_make_one_and_train(preset, shards, tokenizer_folder, tmp_path):
    argv = [
        "--shards",
        shards,
        "--out",
        tmp_path,
        "--preset",
        preset,
        "--tokenizer",
        tokenizer_folder,
        "--text-steps",
        2,
    ]
    result = realign(
        arguments(
            [str(a) for a in (*argv, "--qformer-steps", 2, "--max-steps", 2, "--batch-size", 12, "--device", "cpu")]
        )
    )
    assert result["steps"] == 2
    assert (tmp_path / "base" / "model.safetensors").exists()


def test_bad_data_ends_in_one_line_and_exit_code_1(tmp_path):
    with pytest.raises(SystemExit, match="error: No shard matches") as stopped:
        main(["--shards", str(tmp_path / "*.tar"), "--out", str(tmp_path / "out")])
    assert isinstance(stopped.value.code, str)  # which Python prints to stderr before it exits with 1


def test_the_learning_rate_rises_then_falls_to_zero():
    factors = [cosine_with_warmup(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == factors[10] == 1.0
    assert all(a >= b for a, b in pairwise(factors[10:])) and factors[-1] < 0.001


def test_a_batch_cut_into_pieces_has_the_gradient_of_the_whole(shards, base):
    tokenizer = assemble.load_tokenizer(base)
    model = assemble.load(base, tokenizer)
    add_lora(model, dropout=0.0)
    set_trainable(model, TRAINED)
    layout = Layout.of(model.config, tokenizer)
    opened = open_shards(shards)
    reader = Reader(opened.folder, model.config.vision_config.image_size)
    batch = Collator(reader, tokenizer, layout, 32, 32)(opened.rows[:13])
    gradients = []
    for size in (13, 4):
        model.zero_grad()
        loss = accumulate_gradients(model, batch, layout, size, torch.device("cpu"))
        gradients.append([torch.tensor(loss), *(p.grad.clone() for _, _, p in trainable_parameters(model))])
    for whole, pieces in zip(*gradients, strict=True):
        torch.testing.assert_close(pieces, whole, rtol=1e-3, atol=1e-5)


def test_a_mixture_decides_what_is_seen_and_a_run_with_another_is_not_gone_on_from(shards, base, tmp_path):
    mixture = tmp_path / "mixture.yaml"
    mixture.write_text("tasks: {vqa: 0}\nlanguages: {deu_Latn: 0}\n")
    run = ["--max-steps", 3, "--batch-tokens", 160, "--length-window", 24, "--checkpoint-every", 2]
    result = realign(arguments(options(shards, base, tmp_path / "out", *run, "--mixture", mixture)))
    rows = list(map(json.loads, (tmp_path / "out" / "train_log.jsonl").open()))
    assert [row["position"] for row in rows] != [12, 24, 36]  # batches by budget, not by --batch-size
    assert result["samples_seen"] == rows[-1]["position"]
    with pytest.raises(ValueError, match=r"another mixture.*--out"):
        realign(arguments(options(shards, base, tmp_path / "out", *run, "--task-temperature", 2, "--resume")))
