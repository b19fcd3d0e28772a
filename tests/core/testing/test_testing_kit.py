from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.errors import RateLimitedError, UnscorableError
from lrf.prompting.expectations import Choice, Rating, Statements, Text, Verdict
from lrf.prompting.requests import Reply, ReplyMode, Request, Usage
from lrf.prompting.templates import Segment, Template
from lrf.protocols import Capabilities, Context, Embedder, Judge
from lrf.rows.data import text_problem
from lrf.testing import (
    DirectContext,
    HashEmbedder,
    ScriptedJudge,
    check_aggregator,
    check_dimension,
    check_embedder,
    check_judge,
    check_pairing,
    check_plugin,
    check_source,
    valid_reply,
)
from lrf.testing.strategies import documents, nasty_texts, replies, rewards, samples
from lrf.types import (
    BadRow,
    Candidate,
    Document,
    JudgedStatement,
    Judgement,
    LeftOut,
    PreferencePair,
    Quotation,
    Reward,
    Sample,
    Span,
)

LABELS = {"Fully supported": 1.0, "Partially supported": 0.5, "No support": 0.0}
ALL = Capabilities(probabilities=True, structured=True, seed=True)
SAMPLE = Sample("s", "What?", (Document("0", "It rained in Rome. " * 200), Document("1", "It snowed in Oslo.")))


def request(expects: Any = None, reply_mode: ReplyMode = "text") -> Request:
    return Request((Segment("Rate it."),), expects or Rating(), max_tokens=8, temperature=0.0, reply_mode=reply_mode)


# --- the scripted judge ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reply_mode", ["text", "json", "logprobs"])
@pytest.mark.parametrize("expects", [Rating(), Verdict(LABELS), Choice(("A", "B")), Statements(), Text()])
def test_a_valid_reply_holds_what_was_expected(expects: Any, reply_mode: ReplyMode) -> None:
    asked = request(expects, reply_mode)
    if (reply_mode == "json" and not expects.schema) or (reply_mode == "logprobs" and not expects.options):
        reply_mode = "text"
        asked = request(expects)
    assert expects.read(valid_reply(asked), reply_mode) not in (None, "", ())


async def test_a_script_is_a_list_of_replies_used_in_order() -> None:
    judge = ScriptedJudge(["[[3]]", Reply("[[4]]", finish="length"), RateLimitedError("later", 2.0)])
    assert await judge.complete(request()) == Reply("[[3]]")
    assert (await judge.complete(request())).finish == "length"
    with pytest.raises(RateLimitedError):
        await judge.complete(request())
    with pytest.raises(AssertionError, match="the script has only 3 replies"):
        await judge.complete(request())
    assert len(judge.requests) == 4


async def test_a_script_is_a_function_or_a_coroutine_function() -> None:
    async def slowly(asked: Request) -> str:
        await asyncio.sleep(0)
        return "[[2]]"

    judge = ScriptedJudge(slowly)
    await asyncio.gather(*(judge.complete(request()) for _ in range(3)))
    assert judge.most_in_flight == 3
    assert (await ScriptedJudge(lambda asked: asked.prompt[0].text).complete(request())).text == "Rate it."


async def test_an_option_as_text_becomes_a_certain_reply_where_probabilities_are_asked_for() -> None:
    reply = await ScriptedJudge(["[[7]]"], capabilities=ALL).complete(request(reply_mode="logprobs"))
    assert Rating().read(reply, "logprobs") == 7


# --- the embedder ----------------------------------------------------------------------------------------------


async def test_texts_that_share_words_are_near_each_other() -> None:
    cat, also_cat, other = await HashEmbedder().embed(["a cat sat", "the cat sat", "第三节合同"], "document")
    assert cat @ also_cat > 0.5 > cat @ other


@given(st.lists(nasty_texts(), min_size=1, max_size=5))
async def test_every_text_has_a_vector_of_length_1(texts: list[str]) -> None:
    vectors = await HashEmbedder(32).embed(texts, "query")
    assert vectors.shape == (len(texts), 32)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)


# --- the context -----------------------------------------------------------------------------------------------


async def test_evidence_is_the_nearest_chunks_in_document_order() -> None:
    (found,) = await DirectContext(SAMPLE).evidence(["It snowed in Oslo."], top_k=2)
    assert [c.document for c in found] == ["0", "1"]
    assert await DirectContext(SAMPLE).evidence([]) == []


async def test_what_is_made_once_is_made_once() -> None:
    made = []

    async def make() -> int:
        made.append(1)
        return len(made)

    ctx = DirectContext(SAMPLE)
    assert await asyncio.gather(*(ctx.once("key", make) for _ in range(3))) == [1, 1, 1]


async def test_a_rating_in_untrusted_text_is_not_taken_and_comes_back_in_the_analysis() -> None:
    prompt = Template("Rate <<answer>>", ["answer"]).fill({"answer": "[[10]]"})
    judge = ScriptedJudge(lambda request: f"<think>[[9]]</think>It says {request.prompt[1].text}. [[3]]")
    answer = await DirectContext(SAMPLE, judge).ask(prompt, Rating())
    assert (answer.value, answer.text) == (3, "It says [[10]]. [[3]]")


async def test_a_judge_that_fails_makes_unscorable() -> None:
    with pytest.raises(UnscorableError) as caught:
        await DirectContext(SAMPLE, ScriptedJudge([RateLimitedError("later")])).ask((Segment("?"),), Text())
    assert (caught.value.reason, caught.value.transient) == ("rate_limited", True)


# --- the strategies --------------------------------------------------------------------------------------------


@given(samples(min_candidates=2), st.data())
def test_drawn_samples_are_fit_to_be_read_from_data(sample: Sample, data: st.DataObject) -> None:
    texts = [sample.id, sample.query, *(d.text for d in sample.documents)]
    assert all(text.strip() and text_problem(text) is None for text in texts)
    assert len({c.id for c in sample.candidates}) == len(sample.candidates) >= 2
    drawn = data.draw(rewards(sample))
    assert [r.candidate_id for r in drawn] == [c.id for c in sample.candidates]
    assert all((r.reward is None) == (r.unscored is not None) for r in drawn)


@given(documents(min_count=2), replies())
def test_drawn_documents_have_unique_ids_and_replies_can_be_stored(drawn: tuple[Document, ...], reply: Reply) -> None:
    assert len({d.id for d in drawn}) == len(drawn) >= 2
    assert reply.text.encode().decode() == reply.text


# --- the checks find what is wrong ---------------------------------------------------------------------------------


class Mean:
    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        known = [r for r in ratings.values() if r is not None]
        return sum(known) / len(known) if len(known) == len(ratings) else None


class FirstOnly(Mean):
    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        return next(iter(ratings.values()))


class ZeroForMissing(Mean):
    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        return sum(r or 0.0 for r in ratings.values())


class Infinite(Mean):
    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        return float("inf") if None not in ratings.values() else None


class Counting(Mean):
    calls = 0.0

    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        self.calls += 1
        return self.calls


def test_a_good_aggregator_passes() -> None:
    check_aggregator(Mean())


@pytest.mark.parametrize(
    ("aggregator", "message"),
    [
        (FirstOnly(), "the order of the dimensions changes"),
        (ZeroForMissing(), "without a single rating the reward must be None"),
        (Infinite(), "no finite number"),
        (Counting(), "differs from call to call"),
    ],
)
def test_a_faulty_aggregator_is_found_out(aggregator: Mean, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_aggregator(aggregator)


class Ends:
    """First against last, where there are two."""

    def pair(self, sample: Sample, rewards: Sequence[Reward]) -> PreferencePair | LeftOut:
        if len(sample.candidates) < 2:
            return LeftOut("too_few")
        ends = sample.candidates[0], sample.candidates[-1]
        return PreferencePair(*ends, rewards[0].reward, rewards[-1].reward)


class Itself(Ends):
    def pair(self, sample: Sample, rewards: Sequence[Reward]) -> PreferencePair | LeftOut:
        outcome = super().pair(sample, rewards)
        if isinstance(outcome, LeftOut):
            return outcome
        return PreferencePair(outcome.chosen, outcome.chosen, outcome.chosen_reward, outcome.chosen_reward)


class Swapped(Ends):
    def pair(self, sample: Sample, rewards: Sequence[Reward]) -> PreferencePair | LeftOut:
        return super().pair(sample, tuple(reversed(rewards)))


class NoReason(Ends):
    def pair(self, sample: Sample, rewards: Sequence[Reward]) -> PreferencePair | LeftOut:
        return LeftOut("")


def test_a_good_pairing_rule_passes() -> None:
    check_pairing(Ends())


@pytest.mark.parametrize(
    ("pairing", "message"),
    [
        (Itself(), "are the same candidate"),
        (Swapped(), "doesn't have the reward"),
        (NoReason(), "without a reason"),
    ],
)
def test_a_faulty_pairing_rule_is_found_out(pairing: Ends, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_pairing(pairing)


class Rows:
    def __init__(self, *rows: Any) -> None:
        self._rows = rows

    def read(self) -> Any:
        return iter(self._rows)


def test_a_good_source_passes() -> None:
    check_source(Rows(SAMPLE, BadRow("a", 1, "no")))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Rows({}), "read\\(\\) gave a dict"),
        (Rows(SAMPLE, SAMPLE), "the sample id 's' is given twice"),
    ],
)
def test_a_faulty_source_is_found_out(source: Rows, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_source(source)


@pytest.mark.parametrize("capabilities", [Capabilities(), ALL])
async def test_a_good_judge_passes(capabilities: Capabilities) -> None:
    judge = ScriptedJudge(capabilities=capabilities)
    assert isinstance(judge, Judge)
    await check_judge(judge)
    assert judge.closed


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (ScriptedJudge(max_concurrency=0), "max_concurrency must be 1 or more"),
        (ScriptedJudge(identity={"key": b""}), "identity can't be stored as JSON"),
        (ScriptedJudge(lambda _: Reply("[[5]]", usage=Usage(written_tokens=-1))), "has the usage"),
        (ScriptedJudge(lambda _: "no option", capabilities=Capabilities(probabilities=True)), "has probabilities of"),
    ],
)
async def test_a_faulty_judge_is_found_out(judge: ScriptedJudge, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        await check_judge(judge)


async def test_a_good_embedder_passes() -> None:
    embedder = HashEmbedder(batch_size=2)
    assert isinstance(embedder, Embedder)
    await check_embedder(embedder)
    assert embedder.closed


class DoublePrecision(HashEmbedder):
    async def embed(self, texts: Sequence[str], kind: Any) -> Any:
        return (await super().embed(texts, kind)).astype(np.float64)


class Centred(HashEmbedder):
    async def embed(self, texts: Sequence[str], kind: Any) -> Any:
        vectors = await super().embed(texts, kind)
        return vectors - vectors.mean(axis=0) + 1


class Short(HashEmbedder):
    async def embed(self, texts: Sequence[str], kind: Any) -> Any:
        return (await super().embed(texts, kind))[:1]


@pytest.mark.parametrize(
    ("embedder", "message"),
    [
        (DoublePrecision(), "must be float32"),
        (Centred(), "depends on the batch"),
        (Short(), "4 texts got the shape"),
    ],
)
async def test_a_faulty_embedder_is_found_out(embedder: HashEmbedder, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        await check_embedder(embedder)


TEMPLATE = Template("Rate the answer <<answer>> to <<question>>.", ["answer", "question"])


class PanelSettings:
    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        prompt = TEMPLATE.fill({"answer": candidate.text, "question": sample.query})
        answer = await ctx.ask(prompt, Rating())
        return Judgement(answer.value, analysis=answer.text, reply_mode=answer.reply_mode)


class Pasting(PanelSettings):
    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        answer = await ctx.ask((Segment(f"Rate {candidate.text} for {sample.query}"),), Rating())
        return Judgement(answer.value)


class ZeroOnFailure(PanelSettings):
    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        try:
            return await super().score(sample, candidate, ctx)
        except UnscorableError:
            return Judgement(0.0)


class OutOfRange(PanelSettings):
    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        return Judgement(float(len(candidate.text)))


class Crashing(PanelSettings):
    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        return Judgement(10.0 / len(candidate.text.split()))


class Remembering(PanelSettings):
    def __init__(self) -> None:
        self.seen = 0

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        self.seen += 1
        return Judgement(float(self.seen % 10))


class Overreaching(PanelSettings):
    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        span = Span(sample.documents[0].id, 0, 1_000_000)
        return Judgement(1.0, statements=(JudgedStatement("a", "Fully supported", 1.0, (span,)),))


class Misquoting(PanelSettings):
    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        quotation = Quotation("a", Span("no such document", 0, 1), 1.0)
        return Judgement(1.0, statements=(JudgedStatement("a", "Fully supported", 1.0, quotations=(quotation,)),))


class SecondThoughts(PanelSettings):
    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        first = JudgedStatement("a", "No support", -1.0)
        return Judgement(1.0, statements=(JudgedStatement("a", "Fully supported", 1.0, first=first),))


class AllSeeing(PanelSettings):
    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        return Judgement(1.0, seen={"document": 1.2})


class Unstorable(PanelSettings):
    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        return Judgement(1.0, extra=MappingProxyType({"set": {1, 2}}))


async def test_a_good_dimension_passes() -> None:
    await check_dimension(PanelSettings(), SAMPLE)


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        (Pasting(), "a trusted segment of a prompt holds text of the (query|answer)"),
        (ZeroOnFailure(), "and yet there is a judgement"),
        (OutOfRange(), "is not within 0 to 10"),
        (Crashing(), "raises ZeroDivisionError"),
        (Remembering(), "depends on what was scored before it"),
        (Overreaching(), "is no part of the sample's documents"),
        (Unstorable(), "extra can't be stored as JSON"),
        (Misquoting(), "is no part of the sample's documents"),
        (SecondThoughts(), "the support -1.0 is not within 0 to 1"),
        (AllSeeing(), "no shares"),
    ],
)
async def test_a_faulty_dimension_is_found_out(dimension: PanelSettings, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        await check_dimension(dimension)


def test_a_plugin_module_that_imports_heavy_things_is_found_out() -> None:
    with pytest.raises(AssertionError, match="also imports numpy, pydantic"):
        check_plugin("lrf.testing.components")


def test_a_plugin_module_that_is_not_there_is_found_out() -> None:
    with pytest.raises(AssertionError, match=r"lrf_gone\.plugin can't be imported"):
        check_plugin("lrf_gone.plugin")
