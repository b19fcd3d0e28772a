"""Hypothesis strategies for samples, candidates, replies and rewards, full of what real data surprises with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from hypothesis import strategies as st

from lrf.errors import Reason
from lrf.prompting.requests import FinishReason, Reply, Usage
from lrf.types import Candidate, Document, Reward, Sample, Unscored

DIMENSIONS = ("helpfulness", "logicality", "faithfulness", "completeness")

NASTY_PIECES = (
    "<<question>>",
    "<<answer>>",
    "<<context>>",
    "[[10]]",
    "[[0]]",
    "[[100]]",
    "[[ 7.5 ]]",
    "[[Fully supported]]",
    "[[no SUPPORT]]",
    "[[No factual statements]]",
    "[[",
    "]]",
    "<statement>The moon is made of cheese.</statement>",
    "<statement>",
    "</statement>",
    "No relevant information",
    '```json\n{"rating": 10}\n```',
    '{"rating": 10, "analysis": ""}',
    "```",
    "<|im_end|><|im_start|>system",
    "</s>[INST]",
    "{answer}",
    "{{ query }}",
    "${HOME}",
    "$$",
    "%s",
    "\\",
    "\r\n",
    "\u2028",
    "\ufeff",
    "\u202e",
    "\x1b[31m",
    "e\u0301",
    "👩\u200d🔬",
    "法院在第三节中认定，该合同无效。",
    "第十二条",
    "文档没有说明。",
    "The contract was signed in 1997 (see section 2.3).",
    "Dr. Larrivee writes: “reflect”.",
)
"""Marks of prompts and replies, control characters, joined characters, Chinese: what texts may contain."""


def nasty_texts(*, min_size: int = 0, max_size: int = 12) -> st.SearchStrategy[str]:
    """Texts put together from words, any characters and :data:`NASTY_PIECES`.

    Sizes are in pieces. With a ``min_size`` above 0 the text is not only white space. Never NUL or a surrogate,
    which no sample may hold.
    """
    characters = st.characters(codec="utf-8", exclude_characters="\0")
    words = st.sampled_from(("the", "answer", "is", "1997", "because", "not", "，", "答案", " ", "\n", "."))
    piece = st.one_of(words, st.sampled_from(NASTY_PIECES), st.text(characters, max_size=8))
    texts = st.lists(piece, min_size=min_size, max_size=max_size).map(" ".join)
    return texts.filter(lambda text: bool(text.strip())) if min_size else texts


def ids() -> st.SearchStrategy[str]:
    """Ids of samples, documents and candidates."""
    return st.one_of(st.integers(0, 999).map(str), nasty_texts(min_size=1, max_size=2))


def documents(*, min_count: int = 1, max_count: int = 3) -> st.SearchStrategy[tuple[Document, ...]]:
    """The documents of one sample: none empty, ids unique."""
    document = st.builds(Document, ids(), nasty_texts(min_size=1, max_size=40), st.none() | nasty_texts(max_size=3))
    return st.lists(document, min_size=min_count, max_size=max_count, unique_by=lambda d: d.id).map(tuple)


def candidates(*, min_count: int = 0, max_count: int = 8) -> st.SearchStrategy[tuple[Candidate, ...]]:
    """The candidates of one sample: ids unique, texts maybe empty, often the same text twice."""
    texts = st.one_of(nasty_texts(), st.sampled_from(("", "Yes.", "在第三节。")))
    sources = st.none() | st.sampled_from(("strong", "weak", "human"))
    candidate = st.builds(Candidate, ids(), texts, sources)
    return st.lists(candidate, min_size=min_count, max_size=max_count, unique_by=lambda c: c.id).map(tuple)


@st.composite
def samples(draw: st.DrawFn, *, min_candidates: int = 0, max_candidates: int = 8) -> Sample:
    """A sample with documents and candidates."""
    return Sample(
        id=draw(ids()),
        query=draw(nasty_texts(min_size=1)),
        documents=draw(documents()),
        candidates=draw(candidates(min_count=min_candidates, max_count=max_candidates)),
        reference=draw(st.none() | nasty_texts()),
    )


def ratings() -> st.SearchStrategy[float]:
    """Ratings from 0 to 10: whole ones, which tie, and any between."""
    return st.one_of(st.integers(0, 10).map(float), st.floats(0, 10))


@st.composite
def ratings_maps(
    draw: st.DrawFn, *, dimensions: Sequence[str] = DIMENSIONS, missing: bool = True
) -> dict[str, float | None]:
    """A rating, or None if ``missing``, for each dimension: what an aggregator gets."""
    rating = st.none() | ratings() if missing else ratings()
    return {dimension: draw(rating) for dimension in dimensions}


@st.composite
def rewards(draw: st.DrawFn, sample: Sample, *, unscored: bool = True) -> tuple[Reward, ...]:
    """A reward for each candidate of a sample, in order; with ``unscored``, some have none and say why."""
    return tuple(_reward(draw, sample, candidate, unscored) for candidate in sample.candidates)


def _reward(draw: st.DrawFn, sample: Sample, candidate: Candidate, unscored: bool) -> Reward:
    value = draw(st.none() | ratings() if unscored else ratings())
    reason = Unscored("helpfulness", Reason.NO_RATING) if value is None else None
    return Reward(sample.id, candidate.id, value, {"helpfulness": value}, reason)


def replies() -> st.SearchStrategy[Reply]:
    """Whatever a judge may say, fit or not: prose with marks in it, nothing at all, a text cut short."""
    finish: st.SearchStrategy[FinishReason] = st.sampled_from(get_args(FinishReason))
    usage = st.builds(Usage, st.integers(0, 100_000), st.integers(0, 4096))
    return st.builds(Reply, nasty_texts(), finish, usage)
