"""Which faults the quality filter catches and which good text it loses, on human translations that packages ship, with faults planted in them.

    python demo/translation_model/collect.py … --out pairs.parquet           # the texts, from installed packages
    python -m benchmarks.quality pairs.parquet                               # the table, on the half that nothing was learnt from
    python -m benchmarks.quality pairs.parquet --part calibrate              # the same on the half that was learnt from
    python -m benchmarks.quality pairs.parquet --leave-out                   # learnt anew without each source in turn, tested on it
    python -m benchmarks.quality pairs.parquet --speed                       # samples a second, memory, accept on a million scores

Texts are those of emoji names (CLDR), interfaces (LibreOffice, Django) and the Universal Declaration; names of countries and languages are left out.
The two halves are split by a hash of the English text, so no translation of a test text was learnt from. Beside the filter stands what people
use today: fastText's lid.176, top label, p >= 0.5. `--details FILE.csv` writes every figure by language.
"""

import argparse
import csv
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex

from pipeline import files
from pipeline.languages import BY_NLLB, LANGUAGES
from pipeline.quality.accept import accept, failures
from pipeline.quality.characters import column, numbers
from pipeline.quality.learn import NAMES, candidates_of, choose, learn, split
from pipeline.quality.learnt import LENGTHS
from pipeline.quality.lid import FastText, Identifier, _lines, default_model, load_identifier
from pipeline.quality.policy import Policy, parse_policy, read_policy
from pipeline.quality.score import score

SHOWN = {"1–3": (0, 1), "4–7": (2,), "8–15": (3,), "16+": (4,), "4 or more": (2, 3, 4)}
"""Classes of length of the table, in those of the policy."""
LEAST_TEXTS = 5
"""Texts of a language from which its share counts in the average."""
LEAST_FOR_WORST = 20
"""Texts of a language from which it is shown as the worst."""
MARKUP = ("</s>", "<unk>", "<pad>", "&nbsp;", "<b>", "{0}", "[MASK]", "<|im_end|>", "%s", "__label__fr", "▁", "&#39;")
DIGITS = regex.compile(r"\p{Nd}+")
UNSPACED = frozenset({"Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr"})


# --- planting --------------------------------------------------------------------------------------------------------------------------


class Planter:
    """Makes bad texts of good ones. Every choice is drawn from a generator seeded with the fault's name."""

    def __init__(self, pairs: pa.Table, identifier: Identifier) -> None:
        self.english, self.languages, self.texts = (pairs[x].to_pylist() for x in ("english", "language", "text"))
        contracts = identifier.resolve([x.nllb for x in LANGUAGES])
        self.groups = {code: set(c.accepted) for code, c in contracts.items()}
        self.same: dict[str, list[int]] = {}
        self.of_language: dict[str, list[int]] = {}
        for row, (english, language) in enumerate(zip(self.english, self.languages, strict=True)):
            self.same.setdefault(english, []).append(row)
            self.of_language.setdefault(language, []).append(row)

    def plant(self, fault: str) -> list[str | None]:
        """The texts with the fault; None where it can't be planted."""
        random = np.random.default_rng(list(fault.encode()))
        make: Callable[[int, np.random.Generator], str | None] = getattr(self, fault)
        return [make(row, random) for row in range(len(self.texts))]

    def _other(self, row: int, random: np.random.Generator, fits: Callable[[str], bool]) -> str | None:
        """The same English in a language that fits; or, where that is in none, any text of one."""
        rows = [r for r in self.same[self.english[row]] if fits(self.languages[r])]
        if not rows:
            codes = [code for code in self.of_language if fits(code)]
            if not codes:
                return None
            rows = self.of_language[codes[random.integers(len(codes))]]
        return self.texts[rows[random.integers(len(rows))]]

    def english_copy(self, row: int, random: np.random.Generator) -> str | None:
        return self.english[row]

    def other_language(self, row: int, random: np.random.Generator) -> str | None:
        return self._other(row, random, lambda code: code not in self.groups[self.languages[row]])

    def same_script(self, row: int, random: np.random.Generator) -> str | None:
        """Another language outside the group, but in the same script."""
        script, group = BY_NLLB[self.languages[row]].script, self.groups[self.languages[row]]
        return self._other(row, random, lambda code: code not in group and BY_NLLB[code].script == script)

    def confusable(self, row: int, random: np.random.Generator) -> str | None:
        own = self.languages[row]
        return self._other(row, random, lambda code: code in self.groups[own] and code != own)

    def wrong_script(self, row: int, random: np.random.Generator) -> str | None:
        script = BY_NLLB[self.languages[row]].script
        east = {"Hans", "Jpan", "Hang"}  # these share characters
        return self._other(
            row, random, lambda code: BY_NLLB[code].script != script and not {script, BY_NLLB[code].script} <= east
        )

    def loop(self, row: int, random: np.random.Generator) -> str | None:
        """A run of one to four words (two to eight characters where words have no spaces) comes four to eight times."""
        text = self.texts[row]
        is_spaced = BY_NLLB[self.languages[row]].script not in UNSPACED and " " in text
        parts = text.split() if is_spaced else list(text)
        size = int(random.integers(1, 5)) if is_spaced else int(random.integers(2, 9))
        start = int(random.integers(max(len(parts) - size, 0) + 1))
        unit = parts[start : start + size]
        if not any(c.isalpha() for part in unit for c in part):
            return None
        return (" " if is_spaced else "").join(parts[:start] + unit * int(random.integers(4, 9)))

    def cut(self, row: int, random: np.random.Generator) -> str | None:
        """30 to 60 % of the text is left."""
        text = self.texts[row]
        end = int(len(text) * random.uniform(0.3, 0.6))
        return text[:end].rstrip() if end >= 2 else None

    def numbers(self, row: int, random: np.random.Generator) -> str | None:
        """One number becomes another."""
        found = [m for m in DIGITS.finditer(self.texts[row])]
        if not found or not DIGITS.search(self.english[row]):
            return None
        match = found[random.integers(len(found))]
        first = match[0][0]
        zero = ord(first) - int(first)
        changed = chr(zero + (int(first) + int(random.integers(1, 9))) % 9 + 1) + match[0][1:]
        return (
            None if changed == match[0] else self.texts[row][: match.start()] + changed + self.texts[row][match.end() :]
        )

    def markup(self, row: int, random: np.random.Generator) -> str | None:
        words = self.texts[row].split(" ")
        words.insert(int(random.integers(len(words) + 1)), MARKUP[random.integers(len(MARKUP))])
        return " ".join(words)

    def swapped(self, row: int, random: np.random.Generator) -> str | None:
        """The text of another row of the language."""
        rows = self.of_language[self.languages[row]]
        other = rows[random.integers(len(rows))]
        return self.texts[other] if self.texts[other] != self.texts[row] else None

    def empty(self, row: int, random: np.random.Generator) -> str | None:
        return ""


GOOD = "good text lost"
FAULTS = {
    "english_copy": "English copy",
    "other_language": "another language, outside the group",
    "same_script": "… of the same script",
    "confusable": "a confusable language",
    "wrong_script": "wrong script",
    "loop": "repetition loop",
    "cut": "sentence cut",
    "numbers": "numbers changed",
    "markup": "markup leaked",
    "swapped": "two rows swapped",
    "empty": "empty",
}
AIMS = {"english_copy": 0.998, "other_language": 0.995, "loop": 0.98, "wrong_script": 0.999, "numbers": 0.95}


# --- measuring -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Of texts of one kind: language, class of length, and what each filter rejects."""

    language: np.ndarray
    length: np.ndarray
    rejected: np.ndarray
    reasons: dict[str, np.ndarray]
    today: np.ndarray

    def share(self, name: str, classes: tuple[int, ...], which: str) -> tuple[float, str, float]:
        """Rejected share of a length, languages weighing the same; and the language with the most, with its share."""
        values = getattr(self, which)
        mine = np.isin(self.length, classes)
        texts = {code: int((mine & (self.language == code)).sum()) for code in np.unique(self.language[mine])}
        by_language = {
            code: float(values[mine & (self.language == code)].mean()) for code, n in texts.items() if n >= LEAST_TEXTS
        }
        if not by_language:
            return np.nan, "", np.nan
        mean = float(np.mean(list(by_language.values())))
        candidates = [code for code in by_language if texts[code] >= LEAST_FOR_WORST]
        if not candidates:
            return mean, "", np.nan
        worst = max(candidates, key=lambda code: by_language[code])
        return mean, worst, by_language[worst]


def judge(pairs: pa.Table, identifier: Identifier, policy: Policy) -> Measured:
    contracts = identifier.resolve([x.nllb for x in LANGUAGES])
    scores = score(candidates_of(pairs), identifier, contracts)
    reasons = failures(scores, contracts, policy)
    order = np.argsort(numbers(pc.cast(scores["id"], pa.int64())), kind="stable")  # scores come grouped by language
    words = numbers(scores["source_words"])[order]
    return Measured(
        np.array(scores["language"].to_pylist())[order],
        np.digitize(words, LENGTHS),
        np.any(list(reasons.values()), axis=0)[order],
        {name: failed[order] for name, failed in reasons.items()},
        lid176_rejects(pairs),
    )


def lid176_rejects(pairs: pa.Table) -> np.ndarray:
    """What most pipelines do: keep a text when lid.176's top label is the language's and p >= 0.5. A language without a label loses all."""
    model = FastText(default_model())
    result = []
    for line, code in zip(_lines(pairs["text"]), pairs["language"].to_pylist(), strict=True):
        votes = model.vote(line) if line else []
        result.append(not votes or votes[0][0] != BY_NLLB[code].labels["lid176"] or votes[0][1] < 0.5)
    return np.array(result)


def with_texts(pairs: pa.Table, texts: list[str | None]) -> pa.Table:
    taken = pairs.filter(pa.array([t is not None for t in texts], pa.bool_()))
    position = taken.schema.get_field_index("text")
    return taken.set_column(position, "text", column([t for t in texts if t is not None]))


def prepare(pairs: pa.Table, each: int) -> pa.Table:
    running = pairs.filter(pc.invert(pc.is_in(pairs["source"], value_set=pa.array(sorted(NAMES)))))
    return choose(running, each)


def with_digits(pairs: pa.Table, each: int) -> pa.Table:
    """Good texts that have digits, as their English does."""
    has = pc.and_(*(pc.match_substring_regex(pairs[x], r"\p{Nd}") for x in ("english", "text")))
    return prepare(pairs.filter(has), each)


def percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.2f}" if value < 0.1 else f"{100 * value:.1f}"


def table(
    good: pa.Table, with_numbers: pa.Table, identifier: Identifier, policy: Policy, details: Path | None = None
) -> str:
    """The Markdown table, % rejected; every figure by language goes to `details`. Few texts have numbers, so `with_numbers` holds more of them."""
    planter, counter = Planter(good, identifier), Planter(with_numbers, identifier)
    kinds = {GOOD: good, "good text with numbers lost": with_numbers}
    for key, name in FAULTS.items():
        kinds[name] = (
            with_texts(with_numbers, counter.plant(key)) if key == "numbers" else with_texts(good, planter.plant(key))
        )
    lines = [
        "| % | "
        + " | ".join(f"{x} words" for x in SHOWN)
        + " | lowest, 4 or more words | lid.176 p ≥ .5, 4 or more | aim |"
    ]
    lines.append("|---|" + "---:|" * (len(SHOWN) + 2) + "---|")
    rows: list[list[object]] = []
    for name, pairs in kinds.items():
        if not pairs.num_rows:
            continue
        measured = judge(pairs, identifier, policy)
        cells = [percent(measured.share(name, classes, "rejected")[0]) for classes in SHOWN.values()]
        flip = (
            measured
            if "lost" in name
            else Measured(measured.language, measured.length, ~measured.rejected, {}, ~measured.today)
        )
        _, worst, share = flip.share(name, SHOWN["4 or more"], "rejected")
        share = share if "lost" in name else 1 - share
        today = measured.share(name, SHOWN["4 or more"], "today")[0]
        key = next((k for k, v in FAULTS.items() if v == name), "")
        aim = "≤ 3, worst ≤ 15" if name == GOOD else f"≥ {100 * AIMS[key]:.1f}" if key in AIMS else ""
        shown = f"{percent(share)} ({BY_NLLB[worst].name})" if worst else "–"
        lines.append(
            f"| {f'**{name}**' if not key else name} | {' | '.join(cells)} | {shown} | {percent(today)} | {aim} |"
        )
        for code in np.unique(measured.language):
            for length, classes in SHOWN.items():
                mine = (measured.language == code) & np.isin(measured.length, classes)
                if mine.any():
                    first = {r: int(f[mine].sum()) for r, f in measured.reasons.items() if f[mine].any()}
                    rows.append([name, code, length, int(mine.sum()), round(float(measured.rejected[mine].mean()), 5),
                                 round(float(measured.today[mine].mean()), 5), " ".join(f"{k}={v}" for k, v in first.items())])  # fmt: skip
    if details:
        with files.written_aside(details) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["kind", "language", "words", "texts", "rejected", "rejected_by_lid176", "reasons"])
            writer.writerows(rows)
    return "\n".join(lines)


def leave_out(pairs: pa.Table, each: int) -> str:
    """Everything learnt anew without one source, and tested on it."""
    voters = load_identifier(None).voters
    sources = [s for s in sorted(set(pairs["source"].to_pylist())) if s not in NAMES]
    blocks = []
    for source in sources:
        is_source = pc.equal(pairs["source"], source)
        found, content = learn(pairs.filter(pc.invert(is_source)), voters)
        policy = parse_policy(content, "learnt")
        tested, counted = prepare(pairs.filter(is_source), each), with_digits(pairs.filter(is_source), each)
        blocks.append(
            f"Tested on {source}, learnt from the others:\n\n{table(tested, counted, Identifier(voters, found), policy)}\n"
        )
    return "\n".join(blocks)


# --- speed -----------------------------------------------------------------------------------------------------------------------------


def _score_some(arguments: tuple[pa.Table, str]) -> tuple[int, float, int]:
    """Score a table in this process: samples, seconds of CPU, peak memory in MiB."""
    candidates, what = arguments
    identifier = load_identifier(None)
    contracts = identifier.resolve([x.nllb for x in LANGUAGES])
    score(candidates.slice(0, 200), identifier, contracts)  # load the models
    start = time.process_time()
    if what == "all":
        score(candidates, identifier, contracts)
    else:
        model = FastText(default_model())
        texts = [f[0]["text"] for f in candidates["fields"].to_pylist()]
        start = time.process_time()
        for line in _lines(column(texts)):
            model.vote(line)
    seconds = time.process_time() - start
    return candidates.num_rows, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def speed(pairs: pa.Table) -> str:
    good = candidates_of(prepare(pairs, 60))
    small, large = good, pa.concat_tables([good] * 5)
    lines = [
        "| | samples | samples a second of one core | two processes: samples a second of CPU time, together | peak memory |",
        "|---|---:|---:|---:|---:|",
    ]
    context = multiprocessing.get_context("spawn")
    for name, what, some in (
        ("fastText lid.176 alone", "fasttext", small),
        ("all signals", "all", small),
        ("all signals, five times as many", "all", large),
    ):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            samples, seconds, memory = pool.submit(_score_some, (some, what)).result()
        halves = [some.slice(0, samples // 2), some.slice(samples // 2)]
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            both = list(pool.map(_score_some, [(half, what) for half in halves]))
        together = samples / max(b[1] for b in both)
        lines.append(f"| {name} | {samples:,} | {samples / seconds:,.0f} | {together:,.0f} | {memory:,} MiB |")
    identifier = load_identifier(None)
    contracts = identifier.resolve([x.nllb for x in LANGUAGES])
    scores = score(small, identifier, contracts)
    million = pa.concat_tables([scores] * (1_000_000 // scores.num_rows + 1)).slice(0, 1_000_000)
    million = million.set_column(0, "id", pa.array([f"example:{i}@x" for i in range(1_000_000)]))
    start, cpu = time.perf_counter(), time.process_time()
    accept(million, contracts, read_policy())
    lines.append(
        f"\n`accept` on a million stored scores: {time.process_time() - cpu:.1f} s of CPU, {time.perf_counter() - start:.1f} s in all."
    )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path, help="Parquet of demo/translation_model/collect.py")
    parser.add_argument("--part", choices=["test", "calibrate"], default="test")
    parser.add_argument("--each", type=int, default=60, help="texts of each language, source and class of length")
    parser.add_argument("--leave-out", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--details", type=Path, help="write every figure by language to this CSV")
    options = parser.parse_args(arguments)
    pairs = files.read_table(options.pairs)
    learning, testing = split(pairs)
    if options.speed:
        result = speed(testing)
    elif options.leave_out:
        result = leave_out(pairs, options.each)
    else:
        part = testing if options.part == "test" else learning
        good = prepare(part, options.each)
        result = table(good, with_digits(part, options.each), load_identifier(None), read_policy(), options.details)
        result = f"{good.num_rows:,} texts in {len(set(good['language'].to_pylist()))} languages, part {options.part}:\n\n{result}"
    sys.stdout.write(result + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
