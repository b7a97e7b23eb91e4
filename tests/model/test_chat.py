"""Captions, answers and conversations, in the terminal and on the page."""

import pytest
import torch
from PIL import Image

from model import assemble, chat, talk, web
from model.generate import Decoding
from model.load import LoadedModel
from pipeline.languages import LANGUAGES, find_language

QUICK = Decoding(beams=1, max_new_tokens=4)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory) -> LoadedModel:
    """The demo's language model behind untrained eyes."""
    tokenizer = assemble.load_tokenizer(assemble.in_repository(assemble.DEMO_MODEL))
    model = assemble.build(assemble.PRESETS["tiny-nllb"], tokenizer, seed=0).eval()
    return LoadedModel(model, tokenizer, "untrained")


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)


def test_a_batch_has_the_texts_of_its_members_alone_each_in_its_language(loaded, image):
    languages = [find_language(code).nllb for code in ("de", "ar", "hi")]
    together = talk.caption(loaded, [image] * 3, languages, QUICK)
    assert together == [talk.caption(loaded, [image], [code], QUICK)[0] for code in languages]
    assert len(set(together)) == 3
    assert any("\u0600" <= letter <= "\u06ff" for letter in together[1])
    assert any("\u0900" <= letter <= "\u097f" for letter in together[2])


def test_prompts_are_those_of_training(loaded, image, monkeypatch):
    asked = []
    monkeypatch.setattr(talk, "generate", lambda *given: asked.append(given[3:6]) or ["yes"] * len(given[3]))
    talk.answer(loaded, [image], ["What is it?"], ["deu_Latn"])
    conversation = talk.Conversation(loaded, image)
    conversation.ask("Was ist das?", "deu_Latn")
    conversation.ask("Und dort?", "deu_Latn")
    assert asked[0] == (["Question: What is it? Short answer in German:"], ["eng_Latn"], ["deu_Latn"])
    assert asked[2] == (["Was ist das?\nyes\nUnd dort?"], ["deu_Latn"], ["deu_Latn"])
    written = "".join(path.read_text() for path in assemble.in_repository("pipeline/prompts").glob("*.yaml"))
    assert '"Caption in {language}:"' in written and '"Question: {question} Short answer in {language}:"' in written


def test_the_terminals_commands(loaded, image, tmp_path):
    picture = tmp_path / "picture.png"
    Image.new("RGB", (20, 30), "red").save(picture)
    lines = ["hello", "/caption", "/ask what?", "/language ar", "/language xx", f"/image {picture}", "/image none.png", "/new",
             "/help", "", "/languages", "/quit", "never said"]  # fmt: skip
    said = list(chat.talk(loaded, image, find_language("de"), lines, QUICK))
    assert len(said) == 10
    assert said[3] == "Arabic (العربية)" and said[4].startswith("error: There is no language 'xx'")
    assert said[5] == str(picture) and said[6].startswith("error: none.png")
    assert said[8] == chat.HELP and said[9].count("\n") == len(LANGUAGES) - 1


def test_longer_texts_are_preferred_by_a_larger_length_penalty(loaded, image):
    texts = [
        talk.caption(loaded, [image], ["eng_Latn"], Decoding(beams=4, max_new_tokens=12, length_penalty=penalty))[0]
        for penalty in (-10.0, 10.0)
    ]
    lengths = [len(loaded.tokenizer(text)["input_ids"]) for text in texts]
    assert lengths[0] < lengths[1]


def test_what_is_missing_is_named_before_a_model_is_loaded(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(chat, "load_model", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(SystemExit, match="no language 'klingon'"):
        chat.main([str(tmp_path), "x.png", "--language", "klingon"])
    monkeypatch.setattr(web.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="needs Gradio"):
        chat.main([str(tmp_path), "--web"])
    with pytest.raises(SystemExit):
        chat.main([str(tmp_path)])
    assert "name an image" in capsys.readouterr().err


def test_the_page_offers_every_language_and_shows_texts_in_their_direction():
    shown = dict(web.choices())
    assert len(shown) == len(LANGUAGES) and shown["Urdu · اردو"] == find_language("ur").nllb
    assert web.shown("<b>کتا", find_language("ur")) == '<span lang="ur" dir="rtl">&lt;b&gt;کتا</span>'
    assert 'dir="ltr"' in web.shown("x", find_language("de"))
