"""What is counted as kept for the backward pass is what is allocated, and few layers tell what many keep."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from model import activations

EYES = {
    "model_type": "blip-2",
    "num_query_tokens": 8,
    "vision_config": {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "image_size": 56},
    "qformer_config": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2},
}
LANGUAGE_MODELS = {
    "mt5": {
        "model_type": "mt5", "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 9, "num_decoder_layers": 9, "num_heads": 4,
        "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
    },
    "bloom": {"model_type": "bloom", "hidden_size": 64, "n_layer": 9, "n_head": 4},
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(LANGUAGE_MODELS))
def test_two_depths_tell_what_a_deeper_model_keeps(kind):
    one, two, five = (
        activations.measure(EYES, LANGUAGE_MODELS[kind], n, texts=3, prompt=6, target=5) for n in (1, 2, 5)
    )
    assert two > one
    assert activations.extrapolate(one, two, 5) == pytest.approx(five, rel=0.01)


def test_more_texts_keep_more(kind="mt5"):
    few, many = (activations.measure(EYES, LANGUAGE_MODELS[kind], 2, texts=n, prompt=6, target=5) for n in (4, 8))
    assert 1.3 < many / few < 2.05


def test_gradient_checkpointing_keeps_less(kind="bloom"):
    sizes = {"depth": 4, "texts": 4, "prompt": 6, "target": 5}
    plain, recomputed = (
        activations.measure(EYES, LANGUAGE_MODELS[kind], **sizes, checkpointing=checkpointing)
        for checkpointing in (False, True)
    )
    assert recomputed < 0.7 * plain


def test_what_is_counted_is_what_stays_allocated():
    """Of a plain network, by the profiler of torch: bytes allocated minus bytes freed while the graph is alive."""
    network = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 64), torch.nn.Tanh())
    inputs = torch.randn(512, 64)
    counted = activations.kept_bytes(lambda: network(inputs).sum(), network)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        loss = network(inputs).sum()
    allocated = sum(event.self_cpu_memory_usage for event in profiled.key_averages())
    assert loss.requires_grad
    assert counted - inputs.untyped_storage().nbytes() == pytest.approx(allocated, rel=0.02)
