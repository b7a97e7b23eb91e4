"""RefCLIPScore with a CLIP model of random weights: the parts fit together, and there is no such score without a model."""

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from evaluation import benchmarks, refclip
from evaluation.evaluate import evaluate, select
from tests.evaluation.test_run import quick


@pytest.fixture(scope="module")
def clip(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**small, "vocab_size": len(model.tokenizer), "max_position_embeddings": 77, "eos_token_id": model.tokenizer.eos_token_id},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    images = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(images, model.tokenizer).save_pretrained(folder)
    return folder


def test_scores_are_means_over_items_and_the_best_reference_counts(clip, written):
    images = [item.images[0] for item in benchmarks.read("xm3600", written[0], ["en"])[:2]]
    captions = ["a dog", "two cats"]
    one = [refclip.score(clip, [x], [y], [["a bird", y]]) for x, y in zip(images, captions, strict=True)]
    both = refclip.score(clip, images, captions, [["a bird", y] for y in captions])
    assert both["ref_clip_score"] == pytest.approx(np.mean([x["ref_clip_score"] for x in one]))
    for x in one:  # the caption is among its references, so their cosine is 1
        w = x["clip_score"] / 100
        assert x["ref_clip_score"] == pytest.approx(100 * 2 * w / (w + 1), abs=0.01)


def test_there_is_no_such_score_without_a_model(clip, written, model, tmp_path):
    items = {"xflickrco": select(benchmarks.read("xflickrco", written[0], ["de"]), 2)}
    for given in (None, clip):
        out = tmp_path / str(given is None)
        result = evaluate(items, model, quick("polyalign"), out, written[0], "tiny", clip=given)
        values = result["benchmarks"]["xflickrco"]["by_language"]["de"]
        assert ("ref_clip_score" in values) == (given is not None)
    assert "RefCLIPScore" in (out / "index.html").read_text()
