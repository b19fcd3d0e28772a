"""What an audit asks: true and wrong statements on the user's documents, at known depths and lengths, and probes."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import cycle
from typing import Literal

from lrf.evaluation import probe_texts
from lrf.evaluation.planting import KINDS, TrueSentence, corrupted, names_in, paraphrased, true_sentences
from lrf.text.chunking import count_tokens
from lrf.text.languages import language_of
from lrf.types import JSON

Part = Literal["statement", "answer", "completeness", "probe"]

QUESTIONS = {"en": "What do the documents say? Name facts from them.", "zh": "文档里说了什么？请列举其中的事实。"}
FACTS = 6
"""Sentences of an answer."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer that the judge is asked about.

    Parameters
    ----------
    sample, candidate: ids in the run's data.
    part: single statements, answers of several, answers with facts removed, or a probe.
    true: whether the documents say everything that the answer says.
    kind: the kind of the planted error; of a probe its name; "" for what is true.
    error: the kind of the planted error, of a probe as well; "" for what has none.
    form: "verbatim", "paraphrased" (by rules) or "reworded" (by a judge); of an answer its style, "prose" or "list".
    depth: where in the context the sentence stands, 0 to 1.
    length: tokens that the context was to have.
    removed: facts that were taken out of the answer.
    base: sample and candidate without the change, with which this one is compared; None for one that has no such.
    characters: length of the answer.
    """

    sample: str
    candidate: str
    part: Part
    true: bool
    kind: str
    form: str
    depth: float
    length: int
    characters: int
    error: str = ""
    removed: int = 0
    base: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """How large an audit is.

    Parameters
    ----------
    limit: target sentences; each is asked about in eight ways, and with ``probes`` in eight more.
    lengths: tokens of the contexts.
    depths: number of depths at which sentences are placed.
    """

    limit: int = 20
    lengths: tuple[int, ...] = (4000,)
    depths: int = 5
    probes: bool = True
    seed: int = 0


@dataclass(slots=True)
class Built:
    """The samples of an audit as rows of data, with what is asked in each; and what has to be said about them."""

    rows: list[Mapping[str, JSON]] = field(default_factory=list)
    comparisons: list[Mapping[str, JSON]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def build(documents: Sequence[str], settings: AuditSettings) -> Built:
    """The audit of these documents; the same for the same documents and settings."""
    built = Built()
    sentences = [true_sentences(text) for text in documents]
    usable = [number for number, found in enumerate(sentences) if len(found) > FACTS]
    if short := len(documents) - len(usable):
        built.remarks.append(f"documents with too few plain sentences, which serve as surroundings only: {short:,}")
    targets = _targets(sentences, usable, settings)
    if len(targets) < settings.limit and usable:
        few = f"the documents have {len(targets):,} sentences to ask about, fewer than the limit of {settings.limit:,}"
        built.remarks.append(few)
    repeated = False
    for number, (place, sentence) in enumerate(targets):
        chance = random.Random(f"{settings.seed} {number}")
        length = settings.lengths[number // settings.depths % len(settings.lengths)]
        wanted = (number % settings.depths + chance.random()) / settings.depths
        context = _context(documents, place, sentence, length, wanted, chance)
        repeated = repeated or context.repeated
        _ask(built, number, _Target(sentence, sentences, place, context, length), settings, chance)
    if repeated:
        built.remarks.append("the documents together are shorter than the longest context: some stand in it twice")
    return built


def _targets(
    sentences: Sequence[Sequence[TrueSentence]], usable: Sequence[int], settings: AuditSettings
) -> list[tuple[int, TrueSentence]]:
    """The sentences to ask about, with their document's number: from all documents alike, chosen by the seed."""
    chance = random.Random(f"{settings.seed} targets")
    left = {place: chance.sample(list(sentences[place]), len(sentences[place])) for place in usable}
    targets: list[tuple[int, TrueSentence]] = []
    while len(targets) < settings.limit and any(left.values()):
        for place in usable:
            if left[place] and len(targets) < settings.limit:
                targets.append((place, left[place].pop()))
    return targets


# --- contexts -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Context:
    documents: tuple[str, ...]
    depth: float
    repeated: bool


_CUT = re.compile(r"(?<=[.。!?！？\n])\s*")


def _context(
    documents: Sequence[str], place: int, sentence: TrueSentence, length: int, depth: float, chance: random.Random
) -> _Context:
    """The target's document with parts of others around it, so that the sentence stands near the wanted depth."""
    text = documents[place]
    tokens = _tokens(text)
    if tokens > length:
        room = round(len(text) * length / tokens)  # characters
        start = min(max(0, round(sentence.start - depth * room)), len(text) - room)
        return _Context((text[start : start + room],), (sentence.start - start) / room, False)
    spare = length - tokens
    before = min(max(0, round(depth * length - tokens * sentence.start / len(text))), spare)
    others = [d for number, d in enumerate(documents) if number != place and d.strip()]
    chance.shuffle(others)
    others.sort(key=lambda other: language_of(other) != sentence.language)  # of the same language first
    if not others:
        return _Context((text,), sentence.start / len(text), False)
    filler = cycle(others)
    first, used = _filled(filler, before, from_end=True)
    last, more = _filled(filler, spare - before, from_end=False)
    at = (sum(map(len, first)) + sentence.start) / sum(map(len, (*first, text, *last)))
    return _Context((*first, text, *last), at, used + more > len(others))


_tokens = lru_cache(maxsize=1024)(count_tokens)


def _filled(filler: Iterator[str], room: int, *, from_end: bool) -> tuple[list[str], int]:
    """Documents of this many tokens together, the last one cut; and how many were taken."""
    parts: list[str] = []
    taken = 0
    while room > 50:
        text = next(filler)
        taken += 1
        tokens = _tokens(text)
        if tokens > room:
            text = _cut(text, round(len(text) * room / tokens), from_end=from_end)
        if text.strip():
            parts.append(text)
        room -= tokens
    return parts, taken


def _cut(text: str, characters: int, *, from_end: bool) -> str:
    """So many characters of the end or the beginning of a text, at most, cut between sentences where there are some."""
    places = [match.end() for match in _CUT.finditer(text)]
    if from_end:
        return text[next((p for p in places if p >= len(text) - characters), len(text) - characters) :]
    return text[: next((p for p in reversed(places) if p <= characters), characters)]


# --- answers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Target:
    sentence: TrueSentence
    sentences: Sequence[Sequence[TrueSentence]]
    place: int
    context: _Context
    length: int

    @property
    def text(self) -> str:
        return "\n".join(self.context.documents)

    def from_another_document(self, chance: random.Random) -> str | None:
        """A true sentence of another document that this context doesn't have."""
        places = [n for n in range(len(self.sentences)) if n != self.place]
        chance.shuffle(places)
        text = self.text
        for place in places:
            absent = [s.text for s in self.sentences[place] if s.text not in text]
            if absent:
                return chance.choice(absent)
        return None


def _wrong(built: Built, target: _Target, sentence: TrueSentence, chance: random.Random) -> tuple[str, str] | None:
    """A wrong statement with its kind: of those that fit, the kind that was planted least often so far."""
    names = [name for document in target.context.documents for name in _names(document)]
    planted = Counter(one.error for one in built.asked if one.error)
    for kind in sorted(KINDS, key=lambda kind: planted[kind]):
        if kind == KINDS[-1]:
            changed = target.from_another_document(chance)
        else:
            changed = corrupted(sentence, kind, chance, names)
        if changed is not None and changed not in target.text:
            return changed, kind
    return None


_names = lru_cache(maxsize=64)(names_in)


def _ask(built: Built, number: int, target: _Target, settings: AuditSettings, chance: random.Random) -> None:
    """Add the sample of one target sentence, and those of its probes."""
    said = paraphrased(target.sentence)
    wrong = _wrong(built, target, target.sentence, chance)
    otherwise = _wrong(built, target, TrueSentence(said, 0, target.sentence.language), chance)
    if wrong is None or otherwise is None:
        built.remarks.append(f"no error could be planted in a sentence: {target.sentence.text[:60]!r}")
        return
    name, language = f"target-{number}", target.sentence.language
    sample = _Sample(built, name, target, QUESTIONS[language])
    sample.add("true", target.sentence.text, "statement", form="verbatim")
    sample.add("said", said, "statement", form="paraphrased")
    sample.add("wrong", wrong[0], "statement", kind=wrong[1], form="verbatim", base="true")
    sample.add("wrong-said", otherwise[0], "statement", kind=otherwise[1], form="paraphrased", base="said")
    style = ("prose", "list")[number % 2]
    facts = _facts(target, chance)
    if len(facts) == FACTS:
        place = chance.randrange(FACTS)
        error = _wrong(built, target, facts[place], chance)
        texts = [fact.text for fact in facts]
        sample.add("answer", _written(texts, style, language), "answer", form=style)
        if error is not None:
            changed = [*texts[:place], error[0], *texts[place + 1 :]]
            text = _written(changed, style, language)
            sample.add("answer-wrong", text, "answer", kind=error[1], form=style, base="answer")
        for removed in (2, 4):
            text = _written(texts[: FACTS - removed], style, language)
            sample.add(f"answer-{removed}", text, "completeness", form=style, removed=removed, base="answer")
    if settings.probes:
        _probe(sample, target, wrong, said, chance)
    sample.finish()


def _facts(target: _Target, chance: random.Random) -> list[TrueSentence]:
    """True sentences that this context has, in document order."""
    text = target.text
    here = [s for s in target.sentences[target.place] if s.text in text]
    return sorted(chance.sample(here, FACTS), key=lambda s: s.start) if len(here) >= FACTS else []


def _written(sentences: Sequence[str], style: str, language: str) -> str:
    if style == "list":
        return "\n".join(f"- {sentence}" for sentence in sentences)
    return ("" if language == "zh" else " ").join(sentences)


def _probe(sample: _Sample, target: _Target, planted: tuple[str, str], said: str, chance: random.Random) -> None:
    """Add the probes: each is an answer that deserves no more than its base."""
    language = target.sentence.language
    wrong, error = planted
    sample.add("control", probe_texts.with_remark(wrong, language), "probe", kind="control", error=error, base="wrong")
    for name, text in probe_texts.changed_answers(wrong, language, chance):
        base = "control" if name == "order in the answer" else "wrong"
        sample.add(f"probe-{name}", text, "probe", kind=name, error=error, base=base)
    key = chance.choice(probe_texts.MASTER_KEYS)
    sample.add("probe-master key", key, "probe", kind="master key", error="master key", base="true")
    order = chance.choice(probe_texts.ORDERS[language])
    documents = probe_texts.into_documents(target.context.documents, order, chance)
    for kind, texts, query in (
        ("order in the document", documents, QUESTIONS[language]),
        ("order in the question", target.context.documents, f"{QUESTIONS[language]} {order}"),
    ):
        other = _Sample(sample.built, f"{sample.name}-{kind.replace(' ', '-')}", target, query, texts)
        other.add("wrong", wrong, "probe", kind=kind, error=error, base_sample=sample.name, base="wrong")
        other.finish()
    row = sample.row()
    row["id"] = f"{sample.name}-position"
    one, two = target.sentence.text, said
    row["candidates"] = [
        {"id": name, "text": a, "metadata": {"first": a, "second": b}}
        for name, a, b in (("given", one, two), ("swapped", two, one))
    ]
    sample.built.comparisons.append(row)


class _Sample:
    """A sample that is being put together."""

    def __init__(
        self, built: Built, name: str, target: _Target, query: str, documents: Sequence[str] | None = None
    ) -> None:
        self.built = built
        self.name = name
        self._target = target
        self._query = query
        self._documents = target.context.documents if documents is None else documents
        self._candidates: list[dict[str, JSON]] = []

    def add(
        self, id: str, text: str, part: Part, *, kind: str = "", form: str = "", removed: int = 0,
        base: str | None = None, base_sample: str | None = None, error: str | None = None,
    ) -> None:  # fmt: skip
        """Add an answer. It is true unless it has an error, which is its kind if it isn't given."""
        self._candidates.append({"id": id, "text": text})
        has = kind if error is None else error
        compared = None if base is None else (base_sample or self.name, base)
        self.built.asked.append(
            Asked(
                self.name, id, part, not has, kind, form, self._target.context.depth,
                self._target.length, len(text), has, removed, compared,
            )
        )  # fmt: skip

    def row(self) -> dict[str, JSON]:
        context = [{"id": f"{n}", "text": text} for n, text in enumerate(self._documents)]
        return {"id": self.name, "query": self._query, "context": context, "candidates": self._candidates}

    def finish(self) -> None:
        self.built.rows.append(self.row())
