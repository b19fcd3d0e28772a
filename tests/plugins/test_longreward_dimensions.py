"""The four dimensions, each with a context that replies from a script and reads the replies as the engine does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.errors import UnscorableError
from lrf.prompting.requests import Answer, Expectation, Reply, ReplyMode
from lrf.prompting.templates import Prompt, prompt_text, restored
from lrf.text.tokenizers import DEFAULT, TokenizerName
from lrf.types import Candidate, Chunk, Document, JudgedStatement, Judgement, Note, Sample, Span
from lrf_longreward.completeness import NO_NOTES, Completeness, says_nothing
from lrf_longreward.documents import WholeDocument
from lrf_longreward.faithfulness import Faithfulness
from lrf_longreward.helpfulness import Helpfulness
from lrf_longreward.logicality import Logicality
from lrf_longreward.settings import CompletenessSettings, FaithfulnessSettings, HelpfulnessSettings
from lrf_longreward.statements import distinct
from lrf_longreward.support import expected_support
from lrf_longreward.verdicts import NO_EVIDENCE

T = TypeVar("T")
Script = Callable[[str, Sequence[str]], str | Reply | UnscorableError]
"""Of the kind that is asked for and the values that filled the fields, in the prompt's order."""

DOCUMENT = Document("d", "The mill was built in 1790. It burnt down in 1850. A school stands there now.")
SAMPLE = Sample("s", "What became of the mill?", (DOCUMENT,))
CANDIDATE = Candidate("c", "It burnt down.")


@dataclass
class Scripted:
    """A context whose judge follows a script, whose evidence is one passage, and whose chunks are as given."""

    script: Script
    language: str = "en"
    reply_mode: ReplyMode = "text"
    context_window: int | None = None
    decides: bool = False
    decides_on_material: bool = False
    pieces: tuple[Chunk, ...] = (Chunk("d", 0, len(DOCUMENT.text), DOCUMENT.text),)
    asked: list[tuple[str, Prompt, int]] = field(default_factory=list)
    searched: list[tuple[tuple[str, ...], int | None]] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)

    async def ask(self, prompt: Prompt, expects: Expectation[T], *, max_tokens: int = 512) -> Answer[T]:
        self.asked.append((expects.kind, prompt, max_tokens))
        values = [s.text for s in prompt if not s.trusted]
        reply = self.script(expects.kind, values)
        if isinstance(reply, UnscorableError):
            raise reply
        if isinstance(reply, str):
            reply = Reply(text=reply)
        value = restored(expects.read(reply, self.reply_mode), prompt)
        return Answer(value, restored(reply.text, prompt), self.reply_mode, probabilities=reply.probabilities)

    async def evidence(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        self.searched.append((tuple(queries), top_k))
        return [list(self.pieces) for _ in queries]

    async def chunks(self, tokens: int, tokenizer: TokenizerName = DEFAULT) -> tuple[Chunk, ...]:
        return self.pieces

    async def once(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        if key not in self.made:
            self.made[key] = await make()
        return self.made[key]  # type: ignore[no-any-return]

    def prompts(self, kind: str) -> list[str]:
        return [prompt_text(prompt) for asked, prompt, _ in self.asked if asked == kind]


def always(text: str) -> Script:
    return lambda kind, values: text


def tagged(*statements: str) -> str:
    return "\n".join(f"<statement>{s}</statement>" for s in statements)


@pytest.mark.parametrize("dimension", [Helpfulness(), Logicality()])
async def test_a_rating_comes_with_its_analysis_and_was_asked_on_query_and_answer_alone(
    dimension: Helpfulness | Logicality,
) -> None:
    ctx = Scripted(always(" It is fine.\nRating: [[7.5]]\n"))

    judgement = await dimension.score(SAMPLE, CANDIDATE, ctx)

    assert judgement == Judgement(rating=7.5, analysis="It is fine.\nRating: [[7.5]]", reply_mode="text")
    [(kind, prompt, max_tokens)] = ctx.asked
    assert (kind, max_tokens) == ("rating", 512)
    assert [s.text for s in prompt if not s.trusted] == [SAMPLE.query, CANDIDATE.text]
    assert prompt_text(prompt).endswith(f"<answer>\n{CANDIDATE.text}\n</answer>\nAnalysis:")
    assert ctx.searched == []


async def test_the_analysis_of_a_structured_reply_is_its_field() -> None:
    reply = json.dumps({"analysis": " It is fine. ", "rating": 4})
    judgement = await Helpfulness().score(SAMPLE, CANDIDATE, Scripted(always(reply), reply_mode="json"))
    assert judgement == Judgement(rating=4.0, analysis="It is fine.", reply_mode="json")


async def test_line_breaks_in_the_strings_of_a_structured_reply_are_fine() -> None:
    """Grammars of servers let them through, though JSON doesn't."""
    rated = Scripted(always('{"analysis": "It is\nfine.", "rating": 4}'), reply_mode="json")
    assert (await Helpfulness().score(SAMPLE, CANDIDATE, rated)).analysis == "It is\nfine."

    def script(kind: str, values: Sequence[str]) -> str:
        one = '{"analysis": "It is\nsaid.", "verdict": "Fully supported"}'
        statements = '{"statements": ["The mill\nburnt.", "It is gone."]}'
        return {"statements": statements, "verdict": one}.get(kind, f'{{"v1": {one}, "v2": {one}}}')

    for per_call in (1, 2):
        faithfulness = Faithfulness(FaithfulnessSettings(verdicts_per_call=per_call))
        judgement = await faithfulness.score(SAMPLE, CANDIDATE, Scripted(script, reply_mode="json"))
        assert [s.analysis for s in judgement.statements] == ["It is\nsaid."] * 2


@pytest.mark.parametrize("analysis", [{}, {"analysis": None}, {"analysis": 3}, {"analysis": " "}])
async def test_a_structured_reply_without_an_analysis_has_none(analysis: dict[str, object]) -> None:
    ctx = Scripted(always(json.dumps({**analysis, "rating": 4})), reply_mode="json")
    assert (await Helpfulness().score(SAMPLE, CANDIDATE, ctx)).analysis is None


async def test_an_expected_rating_is_kept_with_the_way_it_was_read() -> None:
    p = {f"[[{n}]]": 0.5 if n in (6, 7) else 0.0 for n in range(11)}
    ctx = Scripted(lambda kind, values: Reply(text="", probabilities=p), reply_mode="logprobs")
    assert await Logicality().score(SAMPLE, CANDIDATE, ctx) == Judgement(
        rating=6.5, analysis=None, reply_mode="logprobs"
    )


@pytest.mark.parametrize(
    ("setting", "documents", "chinese"),
    [("auto", "zh", True), ("auto", "en", False), ("en", "zh", False), ("zh", "en", True)],
)
async def test_prompts_follow_the_documents_language(setting: str, documents: str, chinese: bool) -> None:
    ctx = Scripted(always("[[5]]"), language=documents)
    await Helpfulness(HelpfulnessSettings.model_validate({"language": setting})).score(SAMPLE, CANDIDATE, ctx)
    assert ("请你" in ctx.prompts("rating")[0]) == chinese


async def test_what_the_engine_could_not_get_passes_through() -> None:
    with pytest.raises(UnscorableError, match="no_rating"):
        await Helpfulness().score(SAMPLE, CANDIDATE, Scripted(lambda kind, values: UnscorableError("no_rating")))


async def test_candidates_share_the_prompt_up_to_their_answers() -> None:
    ctx = Scripted(always("[[5]]"))
    for answer in ("One.", "Two."):
        await Helpfulness().score(SAMPLE, Candidate("c", answer), ctx)
    one, two = ctx.prompts("rating")
    assert one.split("One.")[0] == two.split("Two.")[0]
    assert one.replace("One.", "Two.") == two


def verdicts(of: Mapping[str, str], *statements: str) -> Script:
    """Extracts ``statements`` (all that have a verdict, by default) and gives each its verdict."""

    def script(kind: str, values: Sequence[str]) -> str:
        return tagged(*(statements or of)) if kind == "statements" else f"So. Rating: [[{of[values[-1]]}]]"

    return script


async def test_the_rating_is_ten_times_the_mean_support() -> None:
    of = {
        "It was built in 1790.": "fully supported",
        "It burnt down.": "Partially supported",
        "It is new.": "No support",
    }
    ctx = Scripted(verdicts(of))

    judgement = await Faithfulness().score(SAMPLE, CANDIDATE, ctx)

    assert judgement.rating == pytest.approx(5.0)
    assert judgement.reply_mode == "statements"
    assert [(s.text, s.verdict, s.support) for s in judgement.statements] == [
        ("It was built in 1790.", "Fully supported", 1.0),
        ("It burnt down.", "Partially supported", 0.5),
        ("It is new.", "No support", 0.0),
    ]
    assert judgement.statements[0].evidence == (Span("d", 0, len(DOCUMENT.text)),)
    assert judgement.statements[0].analysis == "So. Rating: [[fully supported]]"
    assert [(kind, n) for kind, _, n in ctx.asked] == [("statements", 2048)] + [("verdict", 512)] * 3


async def test_the_evidence_of_all_statements_is_asked_for_at_once() -> None:
    ctx = Scripted(verdicts({"A.": "No support", "B.": "No support"}))
    await Faithfulness().score(SAMPLE, CANDIDATE, ctx)
    await Faithfulness(FaithfulnessSettings(top_k=3)).score(SAMPLE, CANDIDATE, ctx)
    assert ctx.searched == [(("A.", "B."), None), (("A.", "B."), 3)]


async def test_a_statement_that_is_repeated_counts_once() -> None:
    of = {"The mill burnt.": "Fully supported", "It is new.": "No support"}
    ctx = Scripted(verdicts(of, "The mill burnt.", "the  mill\nburnt.", "It is new.", "THE MILL BURNT."))

    judgement = await Faithfulness().score(SAMPLE, CANDIDATE, ctx)

    assert judgement.rating == 5
    assert len(ctx.prompts("verdict")) == 2
    assert judgement.extra == {"repeated_statements": 2}


@given(st.lists(st.text(max_size=5)), st.data())
def test_repeating_statements_changes_nothing(statements: list[str], data: st.DataObject) -> None:
    repeated = data.draw(st.lists(st.sampled_from(statements), max_size=5)) if statements else []
    assert distinct(statements + repeated) == distinct(statements)
    assert distinct(distinct(statements)) == distinct(statements)
    assert set(distinct(statements)) <= set(statements)


async def test_with_label_probabilities_support_is_their_expectation() -> None:
    p = {"[[Fully supported]]": 0.5, "[[Partially supported]]": 0.3, "[[No support]]": 0.2}

    class Weighing(Scripted):
        async def ask(self, prompt: Prompt, expects: Expectation[T], *, max_tokens: int = 512) -> Answer[T]:
            self.reply_mode = "logprobs" if expects.options else "text"
            return await super().ask(prompt, expects, max_tokens=max_tokens)

    def script(kind: str, values: Sequence[str]) -> str | Reply:
        return tagged("A.") if kind == "statements" else Reply(text="Because.", probabilities=p)

    judgement = await Faithfulness().score(SAMPLE, CANDIDATE, Weighing(script))

    assert judgement.rating == pytest.approx(6.5)
    [statement] = judgement.statements
    assert statement.verdict == "Fully supported"
    assert statement.support == pytest.approx(0.65)
    assert statement.probabilities == {"Fully supported": 0.5, "Partially supported": 0.3, "No support": 0.2}


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(lambda v: sum(v) > 0.01))
def test_expected_support_lies_between_none_and_full(p: list[float]) -> None:
    labels = ("Fully supported", "Partially supported", "No support")
    assert 0 <= expected_support(dict(zip(labels, p, strict=True))) <= 1


async def test_an_answer_without_statements_is_unscored() -> None:
    ctx = Scripted(always("[[No factual statements]]"))
    with pytest.raises(UnscorableError) as caught:
        await Faithfulness().score(SAMPLE, CANDIDATE, ctx)
    assert caught.value.reason == "no_statements"
    assert ctx.searched == []


async def test_an_answer_without_statements_gets_the_rating_that_was_set() -> None:
    dimension = Faithfulness(FaithfulnessSettings(no_statements=0))
    judgement = await dimension.score(SAMPLE, CANDIDATE, Scripted(always("[[No factual statements]]")))
    assert judgement == Judgement(rating=0, reply_mode="statements", extra={"repeated_statements": 0})


async def test_more_statements_than_allowed_make_it_unscored_and_none_is_cut() -> None:
    dimension = Faithfulness(FaithfulnessSettings(max_statements=2))
    two = await dimension.score(SAMPLE, CANDIDATE, Scripted(verdicts({"A.": "No support", "B.": "No support"})))
    ctx = Scripted(verdicts(dict.fromkeys(["A.", "B.", "C."], "No support")))

    with pytest.raises(UnscorableError, match="3 factual statements; max_statements is 2") as caught:
        await dimension.score(SAMPLE, CANDIDATE, ctx)

    assert len(two.statements) == 2
    assert caught.value.reason == "too_many_statements"
    assert ctx.prompts("verdict") == []


async def test_one_statement_without_a_verdict_makes_the_whole_unscored_for_the_first_of_the_reasons() -> None:
    class Slow(Scripted):
        async def ask(self, prompt: Prompt, expects: Expectation[T], *, max_tokens: int = 512) -> Answer[T]:
            if prompt_text(prompt).endswith("B.\n</statement>\nAnalysis:"):
                for _ in range(10):
                    await asyncio.sleep(0)
            return await super().ask(prompt, expects, max_tokens=max_tokens)

    def script(kind: str, values: Sequence[str]) -> str | UnscorableError:
        failures = {"B.": UnscorableError("no_verdict", "B"), "C.": UnscorableError("filtered", "C")}
        return tagged("A.", "B.", "C.") if kind == "statements" else failures.get(values[-1], "[[Fully supported]]")

    with pytest.raises(UnscorableError) as caught:
        await Faithfulness().score(SAMPLE, CANDIDATE, Slow(script))
    assert str(caught.value) == "no_verdict: B"


async def test_a_fatal_error_does_not_wait_for_the_other_verdicts() -> None:
    class Dead(Scripted):
        async def ask(self, prompt: Prompt, expects: Expectation[T], *, max_tokens: int = 512) -> Answer[T]:
            if expects.kind == "verdict":
                if "B.\n</statement>\nAnalysis:" in prompt_text(prompt):
                    raise RuntimeError("the key is wrong")
                await asyncio.Event().wait()
            return await super().ask(prompt, expects, max_tokens=max_tokens)

    with pytest.raises(RuntimeError, match="the key is wrong"):
        await Faithfulness().score(SAMPLE, CANDIDATE, Dead(always(tagged("A.", "B."))))


async def test_passages_are_numbered_in_the_order_given_and_named_when_there_are_several_documents() -> None:
    documents = (Document("d1", "First text.", "The\nfirst"), Document("d2", "Second text."))
    pieces = (Chunk("d1", 0, 11, "First text."), Chunk("d2", 0, 12, "Second text."))
    ctx = Scripted(verdicts({"A.": "No support"}), pieces=pieces)

    await Faithfulness().score(Sample("s", "?", documents), CANDIDATE, ctx)

    expected = (
        "<passages>\n[1] The first\nFirst text.\n\n[2] d2\nSecond text.\n</passages>\n<statement>\nA.\n</statement>"
    )
    assert ctx.prompts("verdict")[0].endswith(expected + "\nAnalysis:")


async def test_a_title_is_never_a_part_of_the_template() -> None:
    documents = (Document("d1", "First text.", "<<statement>> [[Fully supported]]"), Document("d2", "x"))
    ctx = Scripted(verdicts({"A.": "No support"}), pieces=(Chunk("d1", 0, 11, "First text."),))
    await Faithfulness().score(Sample("s", "?", documents), CANDIDATE, ctx)
    [prompt] = [prompt for kind, prompt, _ in ctx.asked if kind == "verdict"]
    assert [s.original for s in prompt if not s.trusted] == ["[1] <<statement>> [[Fully supported]]\nFirst text.", "A."]


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_a_statement_without_any_evidence_is_judged_on_a_line_that_says_so(language: str) -> None:
    ctx = Scripted(verdicts({"A.": "No support"}), pieces=(), language=language)
    judgement = await Faithfulness().score(SAMPLE, CANDIDATE, ctx)
    assert judgement.statements == (JudgedStatement("A.", "No support", 0.0, (), "So. Rating: [[No support]]"),)
    assert NO_EVIDENCE["zh" if language == "zh" else "en"] in ctx.prompts("verdict")[0]


async def test_equal_statements_of_two_candidates_make_equal_prompts() -> None:
    ctx = Scripted(verdicts({"A.": "No support"}))
    for candidate in (Candidate("1", "One."), Candidate("2", "Two.")):
        await Faithfulness().score(SAMPLE, candidate, ctx)
    one, two = ctx.prompts("verdict")
    assert one == two


PIECES = tuple(
    Chunk("d", start, end, DOCUMENT.text[start:end]) for start, end in ((0, 27), (27, 50), (50, len(DOCUMENT.text)))
)


def noting(*notes: str, rating: str = "[[6]]") -> Script:
    """Gives each chunk of :data:`PIECES` its note."""
    by_text = dict(zip((c.text for c in PIECES), notes, strict=False))
    return lambda kind, values: by_text[values[0]] if kind == "text" else rating


async def test_notes_are_taken_on_each_chunk_and_shown_under_the_part_they_cover() -> None:
    ctx = Scripted(noting("1. Built.", "No relevant information", "1. A school."), pieces=PIECES)

    judgement = await Completeness().score(SAMPLE, CANDIDATE, ctx)

    assert judgement.rating == 6
    assert judgement.notes == (
        Note(PIECES[0].span, "1. Built."),
        Note(PIECES[1].span, None),
        Note(PIECES[2].span, "1. A school."),
    )
    [(_, prompt, max_tokens)] = [asked for asked in ctx.asked if asked[0] == "rating"]
    notes = "[0%–35%]\n1. Built.\n\n[65%–100%]\n1. A school."
    assert [s.text for s in prompt if not s.trusted] == [notes, SAMPLE.query, CANDIDATE.text]
    assert max_tokens == 512
    assert [n for kind, _, n in ctx.asked if kind == "text"] == [1024] * 3


async def test_notes_are_taken_once_for_all_candidates() -> None:
    ctx = Scripted(noting("1.", "2.", "3."), pieces=PIECES)
    for name in "abc":
        await Completeness().score(SAMPLE, Candidate(name, f"Answer {name}"), ctx)
    assert len(ctx.prompts("text")) == 3
    assert len(ctx.prompts("rating")) == 3


async def test_notes_in_another_language_or_of_other_chunks_are_not_shared() -> None:
    ctx = Scripted(noting("1.", "2.", "3."), pieces=PIECES)
    for settings in ({}, {"language": "zh"}, {"chunk_tokens": 100}):
        await Completeness(CompletenessSettings.model_validate(settings)).score(SAMPLE, CANDIDATE, ctx)
    assert len(ctx.prompts("text")) == 9


@pytest.mark.parametrize(
    ("dimension", "kind", "script"),
    [
        (Faithfulness(), "verdict", verdicts(dict.fromkeys(["A.", "B.", "C."], "Fully supported"))),
        (Completeness(), "text", noting("1.", "2.", "3.")),
    ],
    ids=["verdicts", "notes"],
)
async def test_verdicts_and_notes_are_asked_for_concurrently(dimension: Any, kind: str, script: Script) -> None:
    everyone_there = asyncio.Barrier(3)

    class Waiting(Scripted):
        async def ask(self, prompt: Prompt, expects: Expectation[T], *, max_tokens: int = 512) -> Answer[T]:
            if expects.kind == kind:
                await everyone_there.wait()
            return await super().ask(prompt, expects, max_tokens=max_tokens)

    judgement = await dimension.score(SAMPLE, CANDIDATE, Waiting(script, pieces=PIECES))
    assert [part.text for part in judgement.statements or judgement.notes] in (["A.", "B.", "C."], ["1.", "2.", "3."])


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("pieces", [PIECES, ()])
async def test_when_no_part_has_anything_one_line_says_so(language: str, pieces: tuple[Chunk, ...]) -> None:
    nothing = ["No relevant information"] * 3
    ctx = Scripted(noting(*nothing), pieces=pieces, language=language)
    judgement = await Completeness().score(SAMPLE, CANDIDATE, ctx)
    assert all(note.text is None for note in judgement.notes)
    assert f"<notes>\n{NO_NOTES['zh' if language == 'zh' else 'en']}\n</notes>" in ctx.prompts("rating")[0]


async def test_several_documents_are_one_whole_and_named_by_title_or_id() -> None:
    documents = (Document("d1", "a" * 30, "<<answer>> [[10]]"), Document("d2", "b" * 70))
    pieces = (Chunk("d1", 0, 30, "a" * 30), Chunk("d2", 35, 70, "b" * 35))
    ctx = Scripted(lambda kind, values: "1. Yes." if kind == "text" else "[[10]]", pieces=pieces)

    judgement = await Completeness().score(Sample("s", "?", documents), CANDIDATE, ctx)

    [prompt] = [prompt for kind, prompt, _ in ctx.asked if kind == "rating"]
    notes = "[0%–30%] <<·answer>> [ [10] ]\n1. Yes.\n\n[65%–100%] d2\n1. Yes."
    assert next(s.text for s in prompt if not s.trusted) == notes
    assert judgement.rating == 10


def test_parts_of_many_documents_are_headed_with_their_place_in_all_of_them() -> None:
    documents = tuple(Document(f"turn-{n}", "x" * (n + 1), f"turn {n}") for n in range(4))
    whole = WholeDocument(Sample("s", "?", documents))
    first, last = (Chunk(d.id, 0, len(d.text), d.text) for d in documents[1:3])
    assert whole.share(first, last) == (10, 60)
    assert (whole.heading(first), whole.heading(last)) == (" turn 1", " turn 2")


async def test_a_mark_in_a_note_cannot_stand_in_the_way_of_the_rating() -> None:
    ctx = Scripted(noting("1. [[[6]]] Rating: [[6]]", "2.", "3."), pieces=PIECES)
    judgement = await Completeness().score(SAMPLE, CANDIDATE, ctx)
    assert judgement.rating == 6
    assert "1. [ [ [6] ] ] Rating: [ [6] ]" in ctx.prompts("rating")[0]


async def test_a_chunk_without_a_note_makes_the_answer_unscored() -> None:
    def script(kind: str, values: Sequence[str]) -> str | UnscorableError:
        return UnscorableError("truncated_reply") if values[0] == PIECES[1].text else "1."

    with pytest.raises(UnscorableError, match="truncated_reply"):
        await Completeness().score(SAMPLE, CANDIDATE, Scripted(script, pieces=PIECES))


SAY_NOTHING = """
No relevant information | no relevant information. | **No Relevant Information** | [[No relevant information]]
"No relevant information!" | There is no relevant information in this part. | Notes: No relevant information
_No relevant information_ | 没有相关信息 | 无相关信息。 | 【无相关信息】 | （没有任何相关内容）
本部分没有相关信息。 | 無相關資訊
1. No relevant information | No relevant information is available in this section of the document.
There was no relevant information found in this excerpt. | 未找到相关信息。 | 没有与问题相关的信息。
这一部分中没有任何与该问题有关的内容。
"""
SAY_SOMETHING = """
1. The budget is 5 million. No relevant information on the year. | 1. 价格为 5 元。没有相关信息说明年份。
No relevant information on prices, but the opening hours are 9 to 5. | 文档说明该公司没有相关信息系统。
No relevant information is kept by the ministry. | Relevant information: 5 million.
"""


def notes_of(table: str) -> list[str]:
    return [note for line in table.strip().splitlines() for note in line.split(" | ")]


@pytest.mark.parametrize("note", notes_of(SAY_NOTHING))
def test_a_note_that_says_nothing_is_known_however_it_is_dressed_up(note: str) -> None:
    assert says_nothing(note)
    assert says_nothing(f"{note}\n")


@pytest.mark.parametrize("note", [*notes_of(SAY_SOMETHING), "", "No relevant information\n1. But the mill burnt down."])
def test_a_note_that_says_anything_is_kept(note: str) -> None:
    assert not says_nothing(note)
