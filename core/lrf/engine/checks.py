"""What components return, checked: one function for each kind.

A component that returns what its protocol doesn't allow is named, with its class and distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args

from lrf.engine.faults import owned
from lrf.errors import BadReplyError, Reason, UnscorableError
from lrf.http.finish import NO_WORD
from lrf.prompting.requests import FinishReason, Reply, Usage
from lrf.protocols import Aggregator, ListsChunks, Retriever
from lrf.store.files import dump
from lrf.types import Chunk, Document, Judgement, Sample

if TYPE_CHECKING:
    from lrf.protocols import Vectors

LARGEST_COUNT = 1 << 40
"""Of tokens or calls that one reply can have taken; no journal could keep much larger numbers."""

MOST_CHARACTERS = 2_000_000
"""Of a reply with its reasoning: several times what any model writes, and read in a few tenths of a second."""
MOST_OF_JUDGEMENT = 16_000_000
"""Characters of a judgement's texts, as JSON."""

RATINGS = (0.0, 10.0)

_INTEGERS, _FLOATS = {int}, {float}
_ENDS = frozenset(get_args(FinishReason))
counts_of = attrgetter(*(part.name for part in fields(Usage)))
"""The numbers of a usage, in its order."""


# --- judges and samplers ---------------------------------------------------------------------------------------


def check_reply(reply: Reply) -> Reply:
    """The reply.

    Raises TypeError for what is no reply or has no text, and :class:`lrf.errors.BadReplyError` for a longer one.
    """
    if not isinstance(reply, Reply) or not isinstance(reply.text, str):
        given = f"a {type(reply).__name__}" if not isinstance(reply, Reply) else f"the text {reply.text!r:.80}"
        raise TypeError(f"a Reply with a text was expected, not {given}")
    if (characters := len(reply.text) + len(reply.reasoning or "")) > MOST_CHARACTERS:
        raise BadReplyError(f"the reply has {characters:,} characters; {MOST_CHARACTERS:,} are the most that are read")
    return _plain(reply)


def _plain(reply: Reply) -> Reply:
    """The reply as it can be stored: with Python's own numbers (NumPy's and 12.0 become 12), and an end that is known.

    A judge's own word in place of a :data:`lrf.prompting.requests.FinishReason` becomes the reply's ``finish_word``.
    """
    if reply.finish not in _ENDS:
        word = NO_WORD if reply.finish is None else str(reply.finish)
        reply = replace(reply, finish="other", finish_word=reply.finish_word or word)
    elif reply.finish == "other" and not reply.finish_word:
        reply = replace(reply, finish_word=NO_WORD)
    usage, probabilities = reply.usage, reply.probabilities
    if {*map(type, counts_of(usage))} != _INTEGERS:
        usage = Usage(*(int(number) if _is_count(number) else number for number in counts_of(usage)))
    if probabilities and {*map(type, probabilities.values())} != _FLOATS:
        probabilities = {option: float(p) for option, p in probabilities.items()}
    if usage is reply.usage and probabilities is reply.probabilities:
        return reply
    return replace(reply, usage=usage, probabilities=probabilities)


def check_answers(title: str, judge: object, replies: Sequence[Reply], count: int) -> list[Reply]:
    """One reply for each question. Raises :class:`lrf.errors.BadReplyError` for another number, else TypeError."""
    checked = [check_reply(reply) for reply in replies]
    if len(checked) != count:
        raise BadReplyError(f"{owned(title, judge)} gave {len(checked)} replies to {count} questions")
    return checked


def check_replies(title: str, sampler: object, replies: Sequence[Reply], count: int) -> list[Reply]:
    """One reply for each candidate. Raises :class:`lrf.errors.BadReplyError` for another number, else TypeError."""
    checked = [check_reply(reply) for reply in replies]
    if len(checked) != count:
        raise BadReplyError(
            f"{owned(title, sampler)}: the sampler gave {len(checked)} candidates where {count} were asked for"
        )
    return checked


def check_usages(title: str, component: object, usages: Sequence[Usage]) -> Sequence[Usage]:
    """The usages, if they can be true.

    Raises :class:`lrf.errors.BadReplyError` for fewer calls than one together, and for numbers that are negative or no
    whole numbers.
    """
    called, good = 0, None
    for usage in usages:
        if usage is not good and not _are_counts(usage):  # the questions of one request share a usage
            raise BadReplyError(f"{owned(title, component)} reported a usage that can't be: {usage}")
        called, good = called + usage.calls, usage
    if usages and not called:
        raise BadReplyError(f"{owned(title, component)} reported a usage that can't be: {usages[0]}")
    return usages


def can_be(usage: Usage) -> bool:
    """Whether all numbers are whole and not negative, and the calls at least one."""
    return _are_counts(usage) and usage.calls >= 1


def _are_counts(usage: Usage) -> bool:
    return all(map(_is_count, counts_of(usage)))


def _is_count(number: Any) -> bool:
    if type(number) is int:  # nearly always
        return 0 <= number < LARGEST_COUNT
    try:
        return bool(0 <= number == int(number) < LARGEST_COUNT)
    except (TypeError, ValueError, OverflowError):  # no number, NaN, infinite
        return False


# --- embedders -------------------------------------------------------------------------------------------------


def check_vectors(title: str, embedder: object, given: Any, count: int) -> Vectors:
    """The vectors as an array of shape (count, dimensions), float32. Raises :class:`lrf.errors.BadReplyError`."""
    import numpy as np

    with np.errstate(over="ignore"):  # what is too large for single precision is infinite
        vectors: Vectors = np.asarray(given, dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != count or not vectors.shape[1]:
        raise BadReplyError(f"{owned(title, embedder)} gave an array of shape {vectors.shape} for {count} texts")
    if not np.isfinite(vectors).all():
        raise BadReplyError(f"{owned(title, embedder)} gave a vector that is not finite")
    return vectors


# --- retrievers ------------------------------------------------------------------------------------------------


def check_evidence(
    title: str,
    retriever: Retriever,
    documents: Sequence[Document],
    queries: Sequence[str],
    evidence: Sequence[Sequence[Chunk]],
    top_k: int | None,
) -> list[list[Chunk]]:
    """The evidence: a list of chunks for each query, in document order, each chunk once and at most ``top_k``.

    Raises :class:`lrf.errors.UnscorableError` with the reason ``wrong_evidence``.
    """
    places = {document.id: place for place, document in enumerate(documents)}
    texts = {document.id: document.text for document in documents}
    most = retriever.chunks_per_query if top_k is None and isinstance(retriever, ListsChunks) else top_k

    def problem() -> str | None:
        if not isinstance(evidence, Sequence) or len(evidence) != len(queries):
            number = len(evidence) if isinstance(evidence, Sequence) else f"a {type(evidence).__name__}"
            return f"the retriever gave {number} lists of chunks for {len(queries)} queries"
        return next((wrong for chunks in evidence if (wrong := _wrong_chunks(chunks, places, texts, most))), None)

    if (wrong := problem()) is not None:
        raise UnscorableError(Reason.WRONG_EVIDENCE, f"{owned(title, retriever)}: {wrong}")
    return [list(chunks) for chunks in evidence]


def _wrong_chunks(chunks: Any, places: dict[str, int], texts: dict[str, str], most: int | None) -> str | None:
    """What is wrong with the chunks of one query, or None."""
    if not isinstance(chunks, Sequence) or not all(isinstance(chunk, Chunk) for chunk in chunks):
        return "the retriever gave something other than a list of chunks for a query"
    if most is not None and len(chunks) > most:
        return f"the retriever gave {len(chunks)} chunks for a query, where {most} is the most"
    before = (-1, -1, -1)
    for chunk in chunks:
        where = f"{chunk.document!r} from {chunk.start} to {chunk.end}"
        if not 0 <= chunk.start <= chunk.end or texts.get(chunk.document, "")[chunk.start : chunk.end] != chunk.text:
            return f"the retriever gave a chunk that isn't the text of document {where}"
        place = (places.get(chunk.document, 0), chunk.start, chunk.end)
        if place == before:
            return f"the retriever gave a chunk twice: document {where}"
        if place < before:
            return f"the retriever gave chunks out of document order: document {where} comes too late"
        before = place
    return None


# --- dimensions and aggregators --------------------------------------------------------------------------------


def check_judgement(judgement: Judgement, sample: Sample) -> Judgement:
    """The judgement. Raises an error for a rating that is not 0 to 10, parts that can't be stored, or wrong spans."""
    if not isinstance(judgement, Judgement):
        raise TypeError(f"score() gave a {type(judgement).__name__}, not a Judgement")
    if not RATINGS[0] <= judgement.rating <= RATINGS[1]:  # NaN included
        raise UnscorableError(Reason.RATING_OUT_OF_RANGE, f"the dimension gave {judgement.rating!r}, not 0 to 10")
    if not _is_plain(judgement):  # to write a long analysis once more takes longer than all other checks
        _check_length(
            dump(
                (
                    judgement.analysis,
                    judgement.reply_mode,
                    dict(judgement.extra),
                    judgement.spread,
                    dict(judgement.seen),
                )
            )
        )
    elif judgement.analysis is not None:
        _check_length(judgement.analysis)
    if judgement.statements or judgement.notes or judgement.votes:
        _check_parts(judgement, sample)
    return judgement if type(judgement.rating) is float else replace(judgement, rating=float(judgement.rating))


def _is_plain(judgement: Judgement) -> bool:
    """Whether all but statements, notes and votes can be stored for certain."""
    numbers = (0.0 if judgement.spread is None else judgement.spread, *judgement.seen.values())
    return (
        not judgement.extra
        and type(judgement.analysis) in (str, NoneType)
        and type(judgement.reply_mode) is str
        and all(type(name) is str for name in judgement.seen)
        and all(type(number) is float and math.isfinite(number) for number in numbers)
    )


def _check_parts(judgement: Judgement, sample: Sample) -> None:
    """Raises an error for statements, notes and votes that can't be stored, and for spans outside the documents."""
    statements = [s for s in (*judgement.statements, *(s.first for s in judgement.statements)) if s is not None]
    spans = [s for statement in statements for s in statement.evidence] + [n.span for n in judgement.notes]
    quotations = [q for statement in statements for q in statement.quotations]
    spans += [q.span for q in quotations if q.span is not None]
    ends = {document.id: len(document.text) for document in sample.documents}
    for span in spans:
        if not 0 <= span.start <= span.end <= ends.get(span.document, -1):
            raise ValueError(f"score() gave {span}, which is not in the sample's documents")
    votes = [*judgement.votes, *(o for statement in statements for o in statement.votes)]
    _check_length(
        dump(
            [
                [n.text for n in judgement.notes],
                [(s.text, s.verdict, s.support, s.analysis, dict(s.probabilities or {})) for s in statements],
                [(q.text, q.score) for q in quotations],
                [(s.document, s.start, s.end) for s in spans],
                [(o.judge, o.repeat, o.value, o.reply_mode, dict(o.probabilities or {})) for o in votes],
            ]
        )
    )


def _check_length(text: str) -> None:
    if len(text) > MOST_OF_JUDGEMENT:
        raise ValueError(f"score() gave {len(text):,} characters of texts; {MOST_OF_JUDGEMENT:,} are the most")


def check_reward(aggregator: Aggregator, reward: float | None) -> float | None:
    """The reward as a float, or None where the aggregator made none.

    Raises :class:`lrf.errors.UnscorableError` for one that is not finite, or outside 0 to 10 or the range that the
    aggregator states (:class:`lrf.protocols.GivesRewardsFrom`).
    """
    if reward is None:
        return None
    if isinstance(reward, str | bytes | bool):
        raise TypeError(f"aggregate() gave {reward!r}, not a number")
    number = float(reward)  # of numpy, perhaps
    if not math.isfinite(number):
        raise UnscorableError(Reason.NO_REWARD, f"the aggregator gave {number}")
    low, high = getattr(aggregator, "reward_range", RATINGS)  # isinstance of a protocol is slow
    if not low <= number <= high:
        raise UnscorableError(
            Reason.REWARD_OUT_OF_RANGE,
            f"{owned('aggregator', aggregator)} gave {number:g}, which is not {low:g} to {high:g}; an aggregator with "
            "another range states it as `reward_range`",
        )
    return number
