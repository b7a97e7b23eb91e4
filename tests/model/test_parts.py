"""A model from parts has the parts' weights, reads nothing else, and says what to do when a part is wrong."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Blip2ForConditionalGeneration,
)

from model import assemble, parts, sources
from model.adapt import add_lora
from model.freeze import set_trainable
from model.inputs import Layout, stack, tokenize
from model.loss import batch_losses, check_against_plain, encode_images

ROWS = 192


@pytest.fixture(params=["bloom", "llama", "mt5"])
def language_model(request, language_models) -> Path:
    return language_models[request.param]


@pytest.fixture
def copied(tmp_path):
    """A function that copies a folder, for a test that damages it."""
    return lambda folder: Path(shutil.copytree(folder, tmp_path / "copy"))


def test_every_weight_is_the_one_of_its_part(eyes, language_model, tokenizer):
    model, _ = parts.from_parts(eyes, language_model, dtype=torch.float32)
    published = Blip2ForConditionalGeneration.from_pretrained(eyes).state_dict()
    kind = AutoModelForCausalLM if model.config.use_decoder_only_language_model else AutoModelForSeq2SeqLM
    own = kind.from_pretrained(language_model).state_dict()
    for name, tensor in model.state_dict().items():
        if name.startswith("language_model."):
            assert torch.equal(tensor, own[name.removeprefix("language_model.")]), name
        elif not name.startswith("language_projection."):
            assert torch.equal(tensor, published[name]), name
    assert 0.01 < float(model.language_projection.weight.detach().std()) < 0.03


def test_the_language_model_of_the_eyes_is_never_read(eyes, language_models, copied):
    folder = copied(eyes)
    index = json.loads((folder / sources.INDEX).read_text())["weight_map"]
    needed = {file for name, file in index.items() if name.startswith(parts.EYES)}
    others = set(index.values()) - needed
    assert others
    for file in others:
        (folder / file).unlink()
    model, _ = parts.from_parts(folder, language_models["mt5"])
    assert model.vision_model.dtype == torch.bfloat16


def test_the_output_matrix_is_as_its_checkpoint_has_it(eyes, language_models, tokenizer, tmp_path):
    """mT0's is untied although transformers' class ties it, BLOOM's is tied; after loading, after LoRA is merged, and after saving and loading."""
    for kind, tied in (("mt5", False), ("bloom", True), ("llama", False)):
        model, _ = parts.from_parts(eyes, language_models[kind], dtype=torch.float32)
        assert assemble.output_matrix_is_tied(model) == tied, kind
        add_lora(model).merge_and_unload()
        assert assemble.output_matrix_is_tied(model) == tied, kind
        model.save_pretrained(tmp_path / kind)
        loaded = assemble.load(tmp_path / kind, tokenizer)
        assert assemble.output_matrix_is_tied(loaded) == tied, kind
        own = sources.first_rows(language_models[kind], sources.INPUT_MATRICES, ROWS)
        assert torch.equal(loaded.language_model.get_input_embeddings().weight, own)
        if not tied:
            head = sources.first_rows(language_models[kind], sources.OUTPUT_MATRICES, ROWS)
            assert torch.equal(loaded.language_model.get_output_embeddings().weight, head)
            assert not torch.equal(head, own)


def test_it_trains_and_what_is_merged_saved_and_loaded_has_the_same_loss(eyes, language_model, tmp_path):
    model, tokenizer = parts.from_parts(eyes, language_model, dtype=torch.float32)
    layout = Layout.of(model.config, tokenizer)
    texts = tokenize(
        tokenizer, layout, ["what is it"] * 2, ["a dog", "eine Katze"], ["eng_Latn"] * 2, ["eng_Latn"] * 2, 16, 16
    )
    pixels, image_of_text, text = torch.randn(2, 3, 28, 28), torch.tensor([0, 1]), stack(layout, texts)
    check_against_plain(model, pixels, image_of_text, text)
    wrapped = add_lora(model, dropout=0.0)
    set_trainable(model, ("qformer", "query_tokens", "projection", "adapter"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        loss = batch_losses(model, encode_images(model, pixels), image_of_text, text)[0].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1
    with torch.no_grad():
        before = batch_losses(model, encode_images(model, pixels), image_of_text, text)[0]
        wrapped.merge_and_unload().save_pretrained(tmp_path)
        loaded = assemble.load(tmp_path, tokenizer).eval()
        after = batch_losses(loaded, encode_images(loaded, pixels), image_of_text, text)[0]
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


def test_a_fresh_model_is_a_function_of_the_seed(eyes, language_models):
    one, two, other = (parts.from_parts(eyes, language_models["mt5"], seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(one.language_projection.weight, two.language_projection.weight)
    assert not torch.equal(one.language_projection.weight, other.language_projection.weight)


def test_eyes_without_a_qformer_get_a_fresh_one_with_drawn_query_tokens(eyes, language_models, tmp_path):
    shutil.copy(eyes / "config.json", tmp_path)
    tensors = sources.read_tensors(eyes, ["vision_model."], torch.float32)
    save_file(tensors, tmp_path / sources.SINGLE, metadata={"format": "pt"})
    model, _ = parts.from_parts(tmp_path, language_models["bloom"], dtype=torch.float32)
    assert 0.01 < float(model.query_tokens.detach().std()) < 0.03
    assert not any(p.is_meta for p in model.parameters())
    del tensors[sorted(tensors)[0]]
    save_file(tensors, tmp_path / sources.SINGLE, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks weights.*vision_model"):
        parts.from_parts(tmp_path, language_models["bloom"])


def test_aligned_parts_of_an_earlier_stage_replace_the_others_and_those_of_another_model_are_refused(
    eyes, language_models, tmp_path
):
    model, _ = parts.from_parts(eyes, language_models["mt5"], dtype=torch.float32)
    saved = {n: torch.randn_like(p) for n, p in model.named_parameters() if n.startswith("language_projection")}
    save_file(saved, tmp_path / parts.ALIGNED_FILE)
    loaded, _ = parts.from_parts(eyes, language_models["mt5"], aligned=tmp_path, dtype=torch.float32)
    assert torch.equal(loaded.language_projection.weight, saved["language_projection.weight"])
    save_file({"language_projection.weight": torch.zeros(7, 24)}, tmp_path / parts.ALIGNED_FILE)
    with pytest.raises(ValueError, match=r"another model.*\(7, 24\)"):
        parts.from_parts(eyes, language_models["mt5"], aligned=tmp_path)
    with pytest.raises(FileNotFoundError, match="adapter folder"):
        parts.from_parts(eyes, language_models["mt5"], aligned=tmp_path / "nothing")


def test_a_tokenizer_that_uses_every_row_needs_a_named_special_token(tokenizer):
    rows = len(tokenizer)
    assert assemble.placeholder_for(tokenizer, rows + 1) == rows
    assert assemble.placeholder_for(tokenizer, rows) == tokenizer.mask_token_id
    named = assemble.placeholder_for(tokenizer, rows, "rus_Cyrl")
    assert tokenizer.convert_ids_to_tokens(named) == "rus_Cyrl"
    with pytest.raises(ValueError, match=r"no special token.*<mask>"):
        assemble.placeholder_for(tokenizer, rows, "dog")


def test_no_spare_row_and_no_mask_token_is_an_error_that_names_the_special_tokens(language_models, tmp_path):
    shutil.copytree(language_models["llama"], tmp_path, dirs_exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((tmp_path / name).read_text().replace('"mask_token"', '"unused_token"'))
    tokenizer = assemble.load_tokenizer(tmp_path)
    assert tokenizer.mask_token_id is None
    with pytest.raises(ValueError, match=r"never resized.*image_token.*deu_Latn"):
        assemble.placeholder_for(tokenizer, len(tokenizer))


def test_a_wrong_folder_is_named_with_the_remedy(eyes, language_models, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"hf download nobody/nothing"):
        parts.from_parts(eyes, "nobody/nothing")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        parts.from_parts(eyes, tmp_path)
    with pytest.raises(ValueError, match=r"'mt5', not a BLIP-2 checkpoint"):
        parts.from_parts(language_models["mt5"], language_models["mt5"])
    shutil.copy(language_models["mt5"] / "config.json", tmp_path)
    shutil.copytree(language_models["mt5"], tmp_path, dirs_exist_ok=True)
    (tmp_path / sources.SINGLE).unlink()
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(FileNotFoundError, match="pickles"):
        parts.from_parts(eyes, tmp_path)


def test_a_missing_or_damaged_file_of_a_checkpoint_is_named(eyes, language_models, copied):
    folder = copied(eyes)
    file = json.loads((folder / sources.INDEX).read_text())["weight_map"]["query_tokens"]
    (folder / file).write_bytes((folder / file).read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"{file} can't be read"):
        parts.from_parts(folder, language_models["mt5"])
    (folder / file).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{file} is missing.*query_tokens|{file} is missing"):
        parts.from_parts(folder, language_models["mt5"])


def test_a_missing_file_of_a_language_model_is_named(eyes, language_models, tmp_path):
    tokenizer_files = [f for f in language_models["llama"].iterdir() if f.name.startswith(("tokenizer", "special"))]
    model = AutoModelForCausalLM.from_pretrained(language_models["llama"])
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    for file in tokenizer_files:
        shutil.copy(file, tmp_path)
    file = sorted(tmp_path.glob("*.safetensors"))[1]
    file.unlink()
    with pytest.raises(FileNotFoundError, match=file.name):
        parts.from_parts(eyes, tmp_path)


def test_mixed_precisions_and_float16_for_t5_are_refused(eyes, language_models):
    model, _ = parts.from_parts(eyes, language_models["mt5"], dtype=torch.float32)
    model.vision_model.to(torch.float16)
    with pytest.raises(ValueError, match=r"mixes precisions.*float16.*model\.to"):
        parts.check_dtypes(model)
    with pytest.raises(ValueError, match="overflows in float16"):
        parts.from_parts(eyes, language_models["mt5"], dtype=torch.float16)


def test_embeddings_that_loading_replaced_are_noticed(eyes, language_models):
    model, _ = parts.from_parts(eyes, language_models["mt5"], dtype=torch.float32)
    parts.check_language_weights(model, language_models["mt5"])
    model.language_model.lm_head.weight.data[3] += 1
    with pytest.raises(ValueError, match="output matrix"):
        parts.check_language_weights(model, language_models["mt5"])


def test_of_a_hub_id_only_the_files_with_needed_tensors_are_fetched(eyes, language_models, tmp_path, monkeypatch):
    hub = {"lab/eyes": eyes, "lab/language-model": language_models["mt5"]}

    def snapshot_download(repo_id: str, allow_patterns: list[str]) -> str:
        """What the hub's client does with these arguments, from a folder."""
        cache = tmp_path / repo_id
        cache.mkdir(parents=True, exist_ok=True)
        names = [path.name for path in hub[repo_id].iterdir()]
        for name in filter_repo_objects(names, allow_patterns=allow_patterns):
            shutil.copy(hub[repo_id] / name, cache)
        return str(cache)

    monkeypatch.setattr(sources, "snapshot_download", snapshot_download)
    model, _ = parts.from_parts("lab/eyes", "lab/language-model", dtype=torch.float32)
    here, _ = parts.from_parts(eyes, language_models["mt5"], dtype=torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), here.parameters(), strict=True))
    fetched = {path.name for path in (tmp_path / "lab/eyes").glob("*.safetensors")}
    index = json.loads((eyes / sources.INDEX).read_text())["weight_map"]
    assert fetched == {file for name, file in index.items() if name.startswith(parts.EYES)}
    assert fetched < set(index.values())
