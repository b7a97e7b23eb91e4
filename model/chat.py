"""Talk with a model about an image, in a terminal or on a page.

    python -m model.chat RUN_OR_FOLDER picture.jpg --language de
    python -m model.chat RUN_OR_FOLDER --web

A run of `training/realign.py` or a Hugging Face folder (`python -m model.export`). In the terminal a line is said to the model as it stands, and a
line that begins with a slash is a command. The page is for this machine alone: it listens on the loopback interface.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from model.generate import Decoding
from model.images import BadImage, read_image
from model.load import LoadedModel, load_model
from model.talk import ANSWER, CAPTION, Conversation, answer, caption
from pipeline.languages import LANGUAGES, Language, find_language

HELP = """/caption              a caption of the image
/ask QUESTION         a short answer
/language CODE        the language of the answers from now on
/languages            all of them
/image PATH           another image
/new                  forget what was said
/quit"""


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    try:
        language = find_language(args.language)
        if args.web:
            from model import web  # Gradio is an extra

            web.check_installed()
        loaded = load_model(args.model)
        if args.web:
            web.serve(loaded, args.model.name, language, args.port)
            return
        image = read_image(args.image, image_size(loaded))
    except (OSError, ValueError, ImportError, BadImage) as error:
        sys.exit(f"error: {error}")
    decoding = Decoding(args.beams, args.max_new_tokens, length_penalty=args.length_penalty)
    lines = args.say or prompted_lines()
    for text in talk(loaded, image, language, lines, decoding):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m model.chat", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, help="a run of training/realign.py, or a Hugging Face folder")
    parser.add_argument("image", type=Path, nargs="?", help="the picture to talk about (in the terminal)")
    parser.add_argument("--language", default="en", metavar="CODE", help="of the answers (default: English)")
    parser.add_argument(
        "--say", nargs="+", metavar="LINE", help="say these lines instead of reading them from the terminal"
    )
    parser.add_argument("--beams", type=int, default=CAPTION.beams)
    parser.add_argument("--length-penalty", type=float, default=CAPTION.length_penalty, help="above 1: longer texts")
    parser.add_argument("--max-new-tokens", type=int, default=CAPTION.max_new_tokens)
    parser.add_argument("--web", action="store_true", help="a page instead of the terminal (needs the extra `web`)")
    parser.add_argument("--port", type=int, default=7860, help="of the page")
    args = parser.parse_args(argv)
    if args.image is None and not args.web:
        parser.error("name an image, or open the page with --web")
    return args


def image_size(loaded: LoadedModel) -> int:
    return loaded.model.config.vision_config.image_size


def prompted_lines() -> Iterator[str]:
    """Lines from the terminal until it ends, /quit excluded."""
    sys.stdout.write(f"{HELP}\n")
    while True:
        try:
            yield input("> ")
        except EOFError:
            return


def talk(
    loaded: LoadedModel, image: Tensor, language: Language, lines: Sequence[str] | Iterator[str], decoding: Decoding
) -> Iterator[str]:
    """What is shown for each of `lines`."""
    conversation = Conversation(loaded, image)
    for line in lines:
        command, _, rest = line.strip().partition(" ")
        if command == "/quit":
            return
        try:
            if command == "/language":
                language = find_language(rest)
                yield f"{language.name} ({language.own_name})"
            elif command == "/languages":
                yield "\n".join(f"{x.code:4} {x.name} ({x.own_name})" for x in LANGUAGES)
            elif command == "/image":
                conversation = Conversation(loaded, read_image(Path(rest), image_size(loaded)))
                yield rest
            elif command == "/new":
                conversation.turns.clear()
                yield "nothing was said"
            elif command == "/caption":
                yield caption(loaded, [conversation.image], [language.nllb], decoding)[0]
            elif command == "/ask":
                short = replace(ANSWER, beams=decoding.beams)
                yield answer(loaded, [conversation.image], [rest], [language.nllb], short)[0]
            elif command.startswith("/"):
                yield HELP
            elif line.strip():
                yield conversation.ask(line.strip(), language.nllb, decoding)
        except (BadImage, ValueError) as error:
            yield f"error: {error}"


if __name__ == "__main__":
    main()
