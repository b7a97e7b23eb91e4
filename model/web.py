"""The page of `python -m model.chat --web`: an image, a language, and what is said. Built with Gradio, the extra `web`.

It listens on the loopback interface alone, sends nothing anywhere and loads nothing from elsewhere. What is written in a language that runs
right to left does so on the page: the conversation, the box to write in, and each text by its own language.
"""

import html
import importlib.util
import os
import sys
from typing import Any

from model.generate import Decoding
from model.images import to_pixels
from model.load import LoadedModel
from model.talk import ANSWER, CAPTION, Conversation, answer, caption
from pipeline.languages import BY_NLLB, LANGUAGES, Language

HOST = "127.0.0.1"
STYLE = "footer {display: none !important} #conversation .message {font-size: 1.15rem; line-height: 1.7}"


def check_installed() -> None:
    """Raises ImportError with the remedy when Gradio is not there."""
    if importlib.util.find_spec("gradio") is None:
        raise ImportError("The page needs Gradio: make web, or pip install -c constraints.txt -e '.[web]'.")


def choices() -> list[tuple[str, str]]:
    """(what is shown, NLLB code) of every language, by English name."""
    return [(f"{x.name} · {x.own_name}", x.nllb) for x in sorted(LANGUAGES, key=lambda x: x.name)]


def shown(text: str, language: Language) -> str:
    """A text as HTML that says its language, so that a browser sets it in the right direction and script."""
    lines = "<br>".join(html.escape(line) for line in text.splitlines()) or "–"
    return f'<span lang="{language.tag}" dir="{language.direction}">{lines}</span>'


def page(loaded: LoadedModel, title: str, language: Language) -> Any:
    """The page as Gradio blocks; nothing is served yet."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio as gr

    size = loaded.model.config.vision_config.image_size

    def turn(direction_of: str) -> tuple[Any, Any]:
        is_rtl = BY_NLLB[direction_of].is_right_to_left
        return gr.update(rtl=is_rtl), gr.update(rtl=is_rtl)

    def write(
        kind: str, image: Any, text: str, code: str, beams: int, penalty: float, messages: list[dict[str, Any]], turns: list[Any]
    ) -> tuple[str, list[dict[str, Any]], list[Any]]:  # fmt: skip
        if image is None:
            raise gr.Error("Choose a picture first.")
        if kind != "caption" and not text.strip():
            raise gr.Error("Write something first.")
        pixels, chosen = to_pixels(image, size), BY_NLLB[code]
        decoding = Decoding(int(beams), CAPTION.max_new_tokens, length_penalty=penalty)
        if kind == "caption":
            asked, (reply,) = f"Caption in {chosen.name}", caption(loaded, [pixels], [code], decoding)
        elif kind == "answer":
            short = Decoding(int(beams), ANSWER.max_new_tokens, length_penalty=ANSWER.length_penalty)
            asked, (reply,) = text, answer(loaded, [pixels], [text], [code], short)
        else:
            conversation = Conversation(loaded, pixels, [tuple(pair) for pair in turns])
            asked, reply = text, conversation.ask(text.strip(), code, decoding)
            turns = conversation.turns
        said = f'<span dir="auto">{html.escape(asked)}</span>'
        new = [{"role": "user", "content": said}, {"role": "assistant", "content": shown(reply, chosen)}]
        return "", [*messages, *new], turns

    def forget() -> tuple[list[Any], list[Any]]:
        return [], []

    with gr.Blocks(title=f"{title} · Polyalign", analytics_enabled=False) as blocks:
        gr.Markdown(f"### {html.escape(title)}: talk about a picture in {len(LANGUAGES)} languages")
        turns = gr.State([])
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                image = gr.Image(type="pil", image_mode="RGBA", label="Picture", height=240, elem_id="picture")
                code = gr.Dropdown(choices(), value=language.nllb, label="Language of the answers", elem_id="language")
                with gr.Accordion("Decoding", open=False):
                    beams = gr.Slider(1, 8, CAPTION.beams, step=1, label="Beams")
                    penalty = gr.Slider(-2, 3, CAPTION.length_penalty, step=0.1, label="Length penalty")
            with gr.Column(scale=2, min_width=360):
                messages = gr.Chatbot(
                    label="Conversation", height=330, rtl=language.is_right_to_left, elem_id="conversation",
                    buttons=[], feedback_options=None,
                )  # fmt: skip
                text = gr.Textbox(
                    label="Write in any language", rtl=language.is_right_to_left, elem_id="text", placeholder="…"
                )
                with gr.Row():
                    caption_button = gr.Button("Caption", variant="primary", elem_id="caption", min_width=80)
                    answer_button = gr.Button("Short answer", elem_id="answer", min_width=80)
                    say_button = gr.Button("Say", elem_id="say", min_width=80)
                    new_button = gr.Button("New", elem_id="new", min_width=80)
        given = [image, text, code, beams, penalty, messages, turns]
        changed = [text, messages, turns]
        for button, kind in ((caption_button, "caption"), (answer_button, "answer"), (say_button, "say")):
            button.click(_with_kind(write, kind), given, changed)
        text.submit(_with_kind(write, "say"), given, changed)
        new_button.click(forget, None, [messages, turns])
        image.change(forget, None, [messages, turns])
        code.change(turn, code, [messages, text])
    return blocks


def _with_kind(write: Any, kind: str) -> Any:
    def of_kind(*given: Any) -> Any:
        return write(kind, *given)

    return of_kind


def serve(loaded: LoadedModel, title: str, language: Language, port: int, wait: bool = True) -> str:
    """Serve the page on the loopback interface until the process is interrupted; returns its address when not to `wait`."""
    import gradio as gr

    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    blocks = page(loaded, title, language)
    _, address, _ = blocks.queue(default_concurrency_limit=1).launch(
        server_name=HOST, server_port=port, share=False, quiet=True, prevent_thread_lock=True, theme=theme, css=STYLE,
        footer_links=[], ssr_mode=False,
    )  # fmt: skip
    sys.stdout.write(f"page: {address} (Ctrl-C ends it)\n")
    sys.stdout.flush()
    if wait:
        blocks.block_thread()
    return str(address)
