"""The page in a real browser: a caption in a language that runs right to left is written and shown so, and nothing leaves the machine."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

from model import assemble, web
from model.load import LoadedModel
from pipeline.languages import find_language
from tests.model import browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium here (Debian: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def address() -> str:
    tokenizer = assemble.load_tokenizer(assemble.in_repository(assemble.DEMO_MODEL))
    model = assemble.build(assemble.PRESETS["tiny-nllb"], tokenizer, seed=0).eval()
    with socket.socket() as probe:
        probe.bind((web.HOST, 0))
        port = probe.getsockname()[1]
    return web.serve(LoadedModel(model, tokenizer, "untrained"), "untrained", find_language("en"), port, wait=False)


@pytest.fixture
def tab(tmp_path):
    opened = browser.Browser(tmp_path / "profile")
    yield opened
    opened.close()


def choose(tab: browser.Browser, name: str) -> None:
    tab.run("document.querySelector('#language input').focus(); document.querySelector('#language input').select()")
    tab.type(name)
    tab.wait(f"[...document.querySelectorAll('#language [role=option]')].some(x => x.textContent.includes({name!r}))")
    tab.press("Enter", 13)


def texts(role: str) -> str:
    return f"[...document.querySelectorAll('#conversation .{role} span[dir]')]"


@pytest.mark.parametrize("code", ["ar", "ur"])
def test_right_to_left(code, address, tab, tmp_path):
    language = find_language(code)
    picture = tmp_path / "picture.png"
    Image.linear_gradient("L").resize((120, 90)).convert("RGB").save(picture)
    tab.open(address)
    tab.wait("!!document.querySelector('#picture input[type=file]') && !!document.querySelector('#language input')")
    tab.upload("#picture input[type=file]", picture)
    tab.wait("!!document.querySelector('#picture img')")
    choose(tab, language.name)
    tab.wait("document.querySelector('#text textarea, #text input').dir == 'rtl'")
    tab.run("document.querySelector('#caption').click()")
    said = tab.wait(
        f"{texts('bot')}.length && {texts('bot')}.map(x => [x.lang, getComputedStyle(x).direction, x.textContent])"
    )
    assert said[0][:2] == [language.tag, "rtl"]
    assert any("\u0600" <= letter <= "\u06ff" for letter in said[0][2])
    tab.run("document.querySelector('#text textarea, #text input').focus()")
    tab.type(f"{language.own_name} <b>؟")
    tab.run("document.querySelector('#say').click()")
    tab.wait(f"{texts('bot')}.length == 2")
    asked = tab.run(f"{texts('user')}.map(x => [getComputedStyle(x).direction, x.textContent])")
    assert asked[1] == ["rtl", f"{language.own_name} <b>؟"]
    if folder := os.environ.get("POLYALIGN_PICTURES"):  # to look at them
        tab.picture(Path(folder) / f"chat-{code}.png")
    elsewhere = {urlsplit(url).netloc for url in tab.requested if url.startswith("http")} - {urlsplit(address).netloc}
    assert not elsewhere
