"""The trainer from outside: bits after a kill, images that matter, errors that help."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file

from model import assemble
from model.adapt import add_lora
from model.export import export
from model.freeze import set_trainable, trainable_parameters
from model.inputs import Layout, TokenizedText
from pipeline import files
from tests.training.test_loader import damage
from training import checkpoint, order, report
from training.base import load_or_make
from training.distributed import World
from training.loader import Collator, Reader, ShardError, open_shards
from training.options import STAGES, arguments
from training.realign import main, realign
from training.step import accumulate_gradients, arithmetic, cosine_with_warmup, pieces, seed_step, set_precision

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


def kill(argv: list[str], is_time: Callable[[float], bool]) -> None:
    """Start a run and SIGKILL it as soon as `is_time(seconds since its start)`, unless it is done before."""
    process = start(argv)
    started = time.monotonic()
    while process.poll() is None and not is_time(time.monotonic() - started):
        time.sleep(0.005)
        assert time.monotonic() - started < 300
    if process.poll() is not None:
        assert process.returncode == 0, process.communicate()[1]
    process.send_signal(signal.SIGKILL)
    process.communicate()


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def assert_same_run(one: Path, other: Path) -> None:
    assert losses(one) == losses(other)
    assert (one / "groups.jsonl").read_bytes() == (other / "groups.jsonl").read_bytes()
    for name in ("adapter_model.safetensors", "aligned_parts.safetensors"):
        assert (one / "adapter" / name).read_bytes() == (other / "adapter" / name).read_bytes(), name


def test_killed_and_resumed_it_gives_the_bits_of_an_undisturbed_run(shards, base, tmp_path):
    argv = ["--batch-size", 4, "--max-steps", 27, "--checkpoint-every", 4, "--log-every", 3, "--lora-dropout", 0.05]
    whole, killed = tmp_path / "undisturbed", tmp_path / "killed"
    realign(arguments(options(shards, base, whole, *argv, "--workers", 0)))
    # an epoch has twelve steps: at the first one's edge, then twice within the second, between two checkpoints
    for after in (12, 15, 19):
        command = options(shards, base, killed, *argv, "--resume")
        kill(command, lambda _, after=after: lines(killed / "train_log.jsonl") >= after)
        assert checkpoint.latest(killed / "checkpoints").name < "step-00000027"
    realign(arguments(options(shards, base, killed, *argv, "--resume", "auto", "--workers", 3)))
    assert len(losses(whole)) == 27
    assert_same_run(whole, killed)


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_gives_the_bits_of_an_undisturbed_run(shards, base, tmp_path):
    argv = ["--batch-size", 6, "--max-steps", 400, "--checkpoint-every", 7, "--log-every", 5, "--lora-dropout", 0.05]
    whole, killed = tmp_path / "undisturbed", tmp_path / "killed"
    began = time.monotonic()
    assert start(options(shards, base, whole, *argv)).wait() == 0
    took = time.monotonic() - began
    moments = random.Random(time.time_ns())
    reached = []
    for _ in range(10):
        moment = moments.uniform(0.2, 1.0) * took / 2  # of any of its work: imports, steps, checkpoints, the end
        kill(options(shards, base, killed, *argv, "--resume"), lambda seconds, moment=moment: seconds > moment)
        reached.append(lines(killed / "train_log.jsonl"))
    assert start(options(shards, base, killed, *argv, "--resume")).wait() == 0
    assert any(0 < steps < 400 for steps in reached), reached
    assert_same_run(whole, killed)


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


def test_two_runs_do_not_write_into_one_folder(shards, base, tmp_path):
    options = ["--shards", shards, "--base", str(base), "--device", "cpu", "--max-steps", "1", "--out", str(tmp_path)]
    with files.locked(tmp_path), pytest.raises(files.RunLocked, match="Another process is working"):
        realign(arguments(options))


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
    written = {row["key"] for row in json.loads((tmp_path / "out" / "generations.json").read_text())}
    assert written and all(order.is_held_out(key, 0.4) for key in written)  # what is shown was not learnt by heart
    assert result["samples"] < 48
    page, unseen = (tmp_path / "out" / "index.html").read_text(), result["held_out_images"]
    worth = f"{unseen['gap']:.3f} ± {unseen['gap_standard_error']:.3f}"
    assert page.count("what the image is worth") == 2
    assert f"<dd>{unseen['loss_right_images']:.3f}</dd>" in page.split("On images that it learnt from")[0]
    assert f"{worth} nats a token where the model never saw the image" in report.text_table(result)


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


def test_any_seed_gives_each_step_and_process_random_numbers_of_its_own():
    seen = set()
    for seed, step, rank in product((0, 20261124, 2**40 - 1), (0, 1, 99_999), (0, 7)):
        seed_step(seed, step, rank)
        seen.add(float(torch.rand(1, dtype=torch.float64)))
    assert len(seen) == 18


def test_the_learning_rate_rises_then_falls_to_zero():
    factors = [cosine_with_warmup(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == factors[10] == 1.0
    assert all(a >= b for a, b in pairwise(factors[10:])) and factors[-1] < 0.001


def gradients(shards, base, size: int = 13, **more) -> list[torch.Tensor]:
    """The loss and its gradients over the first 13 texts, in pieces of `size`."""
    tokenizer = assemble.load_tokenizer(base)
    model = assemble.load(base, tokenizer)
    torch.manual_seed(0)
    add_lora(model, dropout=0.0)
    set_trainable(model, STAGES["instruct"])
    set_precision(model, more.pop("precision", torch.float32))
    if more.pop("checkpointing", False):
        model.language_model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    layout = Layout.of(model.config, tokenizer)
    opened = open_shards(shards)
    reader = Reader(opened.folder, model.config.vision_config.image_size)
    batch = Collator(reader, tokenizer, layout, 32, 32)(opened.rows[:13])
    cpu = torch.device("cpu")
    with arithmetic(model.vision_model.dtype, cpu):
        loss, nats = accumulate_gradients(model, batch, layout, size, cpu, **more)
    assert float(nats.sum()) / batch.target_tokens == pytest.approx(loss)
    return [torch.tensor(loss), *(p.grad for _, _, p in trainable_parameters(model))]


@pytest.mark.parametrize(
    "otherwise", [{"size": 4}, {"size_tokens": 60}, {"checkpointing": True}], ids=["pieces", "budget", "checkpointing"]
)
def test_a_batch_has_the_same_gradient_however_it_is_computed(shards, base, otherwise):
    for expected, got in zip(gradients(shards, base), gradients(shards, base, **otherwise), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)


def test_in_bfloat16_the_loss_is_that_of_float32_to_its_precision_and_what_learns_stays_float32(shards, base):
    expected, got = gradients(shards, base), gradients(shards, base, precision=torch.bfloat16)
    assert got[0] == pytest.approx(float(expected[0]), rel=0.02)
    assert {gradient.dtype for gradient in got[1:]} == {torch.float32}
    a, b = (torch.cat([g.flatten() for g in many[1:]]) for many in (expected, got))
    assert torch.nn.functional.cosine_similarity(a, b, dim=0) > 0.99


def test_pieces_are_of_like_length_and_within_both_limits():
    texts = [TokenizedText([0] * n, [0], False, False) for n in (9, 1, 5, 1, 9, 1)]
    assert pieces(texts, 2, 2) == [[1, 3], [5, 2], [0, 4]]
    assert pieces(texts, 2, 8, size_tokens=12) == [[1, 3, 5], [2], [0], [4]]


def test_warmup_trains_the_projection_alone_and_instruct_goes_on_from_it(shards, base, tmp_path):
    warm = options(shards, base, tmp_path / "warm", "--stage", "warmup", "--max-steps", 4, "--lr-projection", 0.01)
    realign(arguments(warm))
    saved = load_file(tmp_path / "warm" / "adapter" / "aligned_parts.safetensors")
    assert set(saved) == {"language_projection.weight", "language_projection.bias"}
    assert not (tmp_path / "warm" / "adapter" / "adapter_model.safetensors").exists()
    start_of_base = dict(assemble.load(base, assemble.load_tokenizer(base)).named_parameters())
    assert not torch.equal(saved["language_projection.weight"], start_of_base["language_projection.weight"])
    frozen = ["--max-steps", 2, "--lr-projection", 0, "--aligned", tmp_path / "warm"]
    realign(arguments(options(shards, base, tmp_path / "instruct", *frozen)))
    after = load_file(tmp_path / "instruct" / "adapter" / "aligned_parts.safetensors")
    assert torch.equal(after["language_projection.weight"], saved["language_projection.weight"])
    assert not torch.equal(after["query_tokens"], start_of_base["query_tokens"])


def test_a_base_in_a_folder_is_quantised_as_asked_and_learns(shards, base, tmp_path):
    options = ["--shards", shards, "--base", str(base), "--device", "cpu", "--max-steps", "2", "--batch-size", "6"]
    options += [
        "--quantisation",
        "nf4",
        "--precision",
        "bfloat16",
        "--eval-samples",
        "6",
        "--out",
        str(tmp_path / "run"),
    ]
    model, _, _ = load_or_make(arguments(options), World(torch.device("cpu")))
    assert any(type(module).__name__ == "Linear4bit" for module in model.language_model.modules())
    assert math.isfinite(realign(arguments(options))["loss_right_images"])


def test_dora_and_rslora_are_trained_saved_as_peft_does_and_exported(shards, base, tmp_path):
    argv = options(shards, base, tmp_path / "run", "--max-steps", 3, "--use-dora", "--use-rslora")
    realign(arguments(argv))
    config = PeftConfig.from_pretrained(tmp_path / "run" / "adapter")
    assert (config.use_dora, config.use_rslora) == (True, True)
    saved = load_file(tmp_path / "run" / "adapter" / "adapter_model.safetensors")
    assert any("lora_magnitude_vector" in name for name in saved)
    with pytest.raises(ValueError, match=r"use_dora was True and is False"):
        realign(arguments([*argv, "--no-use-dora", "--resume"]))
    found = export(tmp_path / "run", tmp_path / "exported", torch.float32)
    assert "logits" in " ".join(found)


def test_bad_pictures_are_left_out_and_listed_and_too_many_stop_the_run(make_shards, base, tmp_path):
    shards = make_shards()
    opened = open_shards(shards)
    damage(opened, opened.rows[0])
    run = ["--max-steps", 5, "--checkpoint-every", 4]
    with pytest.raises(ShardError, match=r"1 of 8 images can't be decoded.*--max-bad-images"):
        realign(arguments(options(shards, base, tmp_path / "strict", *run)))
    result = realign(arguments(options(shards, base, tmp_path / "out", *run, "--max-bad-images", 0.2)))
    assert result["bad_images"] == 1 and result["samples_seen"] == 60
    (listed,) = map(json.loads, (tmp_path / "out" / "bad_samples.jsonl").open())
    assert listed["key"] == opened.rows[0]["key"] and "can't be decoded" in listed["why"]
    seen = [json.loads(line) for line in (tmp_path / "out" / "groups.jsonl").open()]
    assert seen[-1]["position"] == 60


def test_losses_by_group_add_up_to_the_loss_and_tell_bits_per_byte(trained):
    out, _ = trained
    steps = list(map(json.loads, (out / "train_log.jsonl").open()))
    rows = list(map(json.loads, (out / "groups.jsonl").open()))
    for what in ("language", "task"):
        nats = sum(sums[0] for row in rows for sums in row[what].values())
        assert nats == pytest.approx(sum(step["loss"] * step["target_tokens"] for step in steps), rel=1e-4)
    assert set(rows[-1]["language"]) == {"eng_Latn", "deu_Latn", "rus_Cyrl"}
    assert report.bits_per_byte([[math.log(2) * 8, 1, 4]]) == pytest.approx(2.0)


def test_a_mixture_decides_what_is_seen_and_a_run_with_another_is_not_gone_on_from(shards, base, tmp_path):
    mixture = tmp_path / "mixture.yaml"
    mixture.write_text("tasks: {vqa: 0}\nlanguages: {deu_Latn: 0}\n")
    run = ["--max-steps", 3, "--batch-tokens", 160, "--length-window", 24, "--checkpoint-every", 2]
    result = realign(arguments(options(shards, base, tmp_path / "out", *run, "--mixture", mixture)))
    rows = list(map(json.loads, (tmp_path / "out" / "train_log.jsonl").open()))
    (taken,) = map(json.loads, (tmp_path / "out" / "groups.jsonl").open().readlines()[:1])
    assert set(taken["task"]) == {"captioning"} and set(taken["language"]) == {"eng_Latn", "rus_Cyrl"}
    assert [row["position"] for row in rows] != [12, 24, 36]  # batches by budget, not by --batch-size
    assert result["samples_seen"] == rows[-1]["position"]
    with pytest.raises(ValueError, match=r"another mixture.*--out"):
        realign(arguments(options(shards, base, tmp_path / "out", *run, "--task-temperature", 2, "--resume")))
