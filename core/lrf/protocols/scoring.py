"""Protocols of what scoring is made of: sources of samples, dimensions with their context, aggregators, pairing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from lrf.errors import UnscorableError
from lrf.prompting.questions import Question
from lrf.prompting.requests import Answer, Expectation
from lrf.prompting.templates import Prompt
from lrf.text.tokenizers import DEFAULT, TokenizerName
from lrf.types import BadRow, Candidate, Chunk, Judgement, LeftOut, PreferencePair, Preferences, Reward, Sample

T = TypeVar("T")


@runtime_checkable
class Source(Protocol):
    """Where samples come from. It is read in a thread, one row at a time.

    >>> class One:
    ...     def read(self):
    ...         yield Sample("0", "Did it rain?", (Document("0", "It rained."),), (Candidate("a", "Yes."),))
    """

    def read(self) -> Iterator[Sample | BadRow]:
        """All rows in order: a :class:`Sample`, or a :class:`BadRow` that says what is wrong with the row.

        The same rows each time; ids of samples are unique. Raises :class:`lrf.errors.DataError` when the data can't be
        read at all.
        """
        ...


@runtime_checkable
class HashesContent(Protocol):
    """A source that can tell quickly whether its rows are those of another time: the data isn't checked again then."""

    def content_hash(self) -> str | None:
        """A hash of all that ``read`` gives rows from, quicker than reading; None where it can't be told. Blocks.

        Raises :class:`lrf.errors.DataError` as ``read`` does.
        """
        ...


@runtime_checkable
class SpreadsSamples(Protocol):
    """A source that can give a few samples from all over the data without reading what lies between them."""

    def spread(self, count: int) -> Iterator[Sample] | None:
        """Up to ``count`` samples, in order and evenly spread; None where only ``read`` can give samples. Blocks.

        Raises :class:`lrf.errors.DataError` as ``read`` does.
        """
        ...


class Context(Protocol):
    """What a dimension works with: the engine's side of one candidate of one sample.

    All calls made through it have a journal, limits, retries and a budget, and equal ones are made once. Its methods
    raise :class:`lrf.errors.UnscorableError`, which a dimension must let pass.
    """

    @property
    def language(self) -> str:
        """The language of the sample's documents: "zh" for Chinese, else "en"."""
        ...

    @property
    def context_window(self) -> int | None:
        """Tokens that prompt and reply may have together, of all judges that are asked; None if no judge says."""
        ...

    @property
    def decides(self) -> bool:
        """Whether a judge that rates here decides questions on material (:meth:`ask_many`) and writes nothing."""
        ...

    @property
    def decides_on_material(self) -> bool:
        """Whether a judge that rates here decides questions on material, whatever it does with others."""
        ...

    async def ask(self, prompt: Prompt, expects: Expectation[T], *, max_tokens: int = 512) -> Answer[T]:
        """The answer of the dimension's judge, or of its panel.

        The judge is asked at temperature 0.01, and while its reply can't be read up to four times more at 0.95 (the
        paper's public code). ``prompt`` is made by :meth:`lrf.Template.fill`. Put first what many prompts share:
        instructions and examples, then document or notes, then the candidate.

        >>> answer = await ctx.ask(TEMPLATE.fill({"answer": candidate.text}), Rating())  # doctest: +SKIP
        >>> answer.value  # doctest: +SKIP
        7.0
        """
        ...

    async def ask_many(
        self, material: Prompt, questions: Sequence[Question[T]], *, max_tokens: int = 512
    ) -> list[Answer[T] | UnscorableError]:
        """The answers to several questions on the same material, in their order.

        In the place of a question that has no answer is the error that says why; the others are not concerned.

        A judge that takes many questions in a request gets them so, packed with the questions on equal material that
        other dimensions and candidates of the sample ask; any other judge gets them one by one, each after the
        material. So put into ``material`` what the questions share (document, query, answer), the document first, and
        nothing of another candidate.

        >>> material = MATERIAL.fill({"document": sample.context, "answer": candidate.text})  # doctest: +SKIP
        >>> answers = await ctx.ask_many(material, [Question(POLITE.fill({}), Rating())])  # doctest: +SKIP
        """
        ...

    async def evidence(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        """For each query the chunks of the sample's documents that bear on it, in document order.

        ``top_k`` is the most chunks of a query; None: the retriever's own number.
        """
        ...

    def around(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """The chunks, each extended by its own length on both sides; those that then touch are joined into one.

        ``chunks`` are in document order, and so is the result.
        """
        ...

    async def chunks(self, tokens: int, tokenizer: TokenizerName = DEFAULT) -> tuple[Chunk, ...]:
        """The sample's documents in chunks of at most ``tokens`` tokens of this tokenizer, in order."""
        ...

    async def once(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        """The result of ``make``, called once for the sample whatever the number of candidates.

        ``key`` names it among the dimension's own results. It must not depend on the candidate, nor may ``make``.
        """
        ...


@runtime_checkable
class Dimension(Protocol):
    """One aspect of an answer's quality, rated 0 to 10. It has no judge and keeps nothing between candidates.

    :func:`lrf.testing.check_dimension` and :func:`lrf.testing.check_attacks` check one.

    >>> class Politeness:
    ...     async def score(self, sample, candidate, ctx):
    ...         answer = await ctx.ask(TEMPLATE.fill({"answer": candidate.text}), Rating())
    ...         return Judgement(answer.value, analysis=answer.text, reply_mode=answer.reply_mode)
    """

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        """The candidate's judgement, which depends on the candidate, the documents and the query only.

        Raises :class:`lrf.errors.UnscorableError` with a reason when the candidate can't be rated.
        """
        ...


@runtime_checkable
class LimitsStatements(Protocol):
    """Optional for a dimension that asks for an answer's statements: how many it judges.

    The bound in a plan of a dimension without it assumes a hundred statements an answer, and the plan says so.
    """

    @property
    def max_statements(self) -> int:
        """The most statements of one answer that are asked about, 1 or more; an answer with more is unscored."""
        ...


@runtime_checkable
class ExplainsLosers(Protocol):
    """Optional for a dimension: has a judge explain why an answer lost, once the sample's answers have a reward.

    It is for judges that give probabilities alone; what is written is asked of the dimension's `writer`.
    """

    @property
    def explains(self) -> bool:
        """Whether its settings ask for that."""
        ...

    async def explain(self, sample: Sample, candidate: Candidate, judgement: Judgement, ctx: Context) -> Judgement:
        """The judgement with analyses added, of an answer that isn't the sample's best. Its rating must stay.

        Raises :class:`lrf.errors.UnscorableError` when none can be had; the judgement then stays as it is.
        """
        ...


@runtime_checkable
class AsksKinds(Protocol):
    """Optional for a dimension: what it asks its judges for.

    A judge that can't answer everything (it decides, and writes no text) is refused beforehand for a dimension without
    it.
    """

    @property
    def kinds(self) -> tuple[str, ...]:
        """The ``kind`` of each expectation that it asks for: "rating", "verdict", "statements", "text", …"""
        ...


@runtime_checkable
class Aggregator(Protocol):
    """Makes one reward of the ratings of all dimensions. Synchronous and pure.

    >>> class Lowest:
    ...     def aggregate(self, ratings):
    ...         return None if None in ratings.values() else min(ratings.values())
    """

    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        """The reward, 0 to 10 unless :class:`GivesRewardsFrom` says so, or None if it can't be made of these ratings.

        ``ratings`` has for each dimension its rating, 0 to 10, or None where the candidate could not be rated.
        """
        ...


@runtime_checkable
class Observer(Protocol):
    """Follows a run: a class with any of the hooks of a run's life as methods (:mod:`lrf.plugin.hookspecs`).

    They are called one after another in a thread of the observer's own. One that raises, or falls too far behind, is
    detached for the rest of the run and reported; the run continues. It needn't hear of a run's beginning: a stage may
    have a process of its own, and ``lrf score`` is no run.

    >>> class CountsCalls:
    ...     def __init__(self, settings):
    ...         self.calls = 0
    ...
    ...     @lrf.hookimpl
    ...     def lrf_call_finished(self, judge, usage):
    ...         self.calls += usage.calls
    ...
    ...     def close(self):
    ...         print(self.calls)
    """

    def close(self) -> None:
        """Called in the same thread when nothing more comes: send what is still held back. A few seconds at most."""
        ...


@runtime_checkable
class GivesRewardsFrom(Protocol):
    """Optional for an aggregator whose rewards aren't 0 to 10: the range that they are within."""

    @property
    def reward_range(self) -> tuple[float, float]:
        """The lowest and the highest reward; ``-inf`` and ``inf`` where there is no bound."""
        ...


@runtime_checkable
class Pairing(Protocol):
    """Chooses preference pairs among a sample's candidates. Synchronous and pure.

    For example, a rule that pairs each candidate with the next best, in ``rewards`` that are all there::

        def pair(self, sample, rewards):
            ranked = sorted(zip(sample.candidates, rewards), key=lambda each: -each[1].reward)
            return Preferences(tuple(
                PreferencePair(better, worse, high.reward, low.reward)
                for (better, high), (worse, low) in pairwise(ranked)
                if high.reward > low.reward
            ))
    """

    def pair(self, sample: Sample, rewards: Sequence[Reward]) -> PreferencePair | Preferences | LeftOut:
        """A pair of two different candidates of the sample, several such pairs, or why there is none.

        ``rewards`` has one entry for each of ``sample.candidates``, in their order. With a pair or several, the
        sample also becomes a ranked list (``lists.jsonl``) of all candidates with a reward, or of
        ``Preferences.listed``.
        """
        ...
