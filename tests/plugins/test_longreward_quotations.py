"""What a judge quotes is located in the document: exactly, by likeness, or not at all."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from judge_server import JudgeServer
from lrf.cli.main import invoke
from lrf.prompting.requests import Reply, Request
from lrf.protocols import Capabilities
from lrf.stages.score.rows import judgement_json
from lrf.testing import DirectContext, ScriptedJudge
from lrf.testing.strategies import nasty_texts
from lrf.text.chunking import chunk_document
from lrf.types import Candidate, Chunk, Document, Judgement, Quotation, Sample, Span
from lrf_longreward.faithfulness import Faithfulness
from lrf_longreward.quotations import ALIKE, LONGEST, MOST, alike, exactly, located, passages, plain, quotations_in
from lrf_longreward.settings import FaithfulnessSettings
from scoring import judgement_of, statements_in, tagged

TEXT = (
    "The mill was  built\nin 1790 by “the old miller”. It burnt down in 1850 – nobody knew why. A school stands there."
)
DOCUMENT = Document("d", TEXT)
CHUNKS = chunk_document(DOCUMENT, 16)


def whole(document: Document) -> list[Chunk]:
    return [Chunk(document.id, 0, len(document.text), document.text)]


async def quotations(
    analysis: str, evidence: list[Chunk], *documents: Document, statement: str = "It was new."
) -> list[Quotation]:
    sample = Sample("s", "?", documents or (DOCUMENT,))
    return list(await located(analysis, statement, evidence, sample, DirectContext(sample)))


@pytest.mark.parametrize(
    ("analysis", "found"),
    [
        ('It says "built in 1790" and “by the miller”.', ["built in 1790", "by the miller"]),
        ("第一段写明“建于光绪年间”，也说「由盐商出资」。", ["建于光绪年间", "由盐商出资"]),
        ("Elle dit « en 1790 », „im Jahr 1790“ and ‘so it is’.", ["en 1790", "im Jahr 1790", "so it is"]),
        ('"The mill was built ... by the miller […] in spring"', ["The mill was built", "by the miller", "in spring"]),
        ('It ends with "in 1790." or "in 1790,"', ["in 1790"]),
        ("It isn't the miller's, and it's not new.", []),
        ('It says "5" and "" and "built in 1790".', ["built in 1790"]),
        (f'"{"x" * (LONGEST + 1)}" and "built in 1790"', ["built in 1790"]),
        ('An inch is 1" long', []),
        ('""', []),
        ("", []),
        (f'"{"x" * (LONGEST + 1)}"', []),
        (" ".join(f'"words {n}"' for n in range(40)), [f"words {n}" for n in range(MOST)]),
    ],
)
def test_text_between_quotation_marks_is_a_quotation(analysis: str, found: list[str]) -> None:
    assert quotations_in(analysis) == found


async def test_a_quotation_is_found_whatever_its_white_space_dashes_and_quotation_marks() -> None:
    analysis = 'It was 「built in 1790 by "the old miller"」 and “1850 - nobody knew why”.'
    found = await quotations(analysis, whole(DOCUMENT))
    assert [(q.text, q.score) for q in found if q.score == 1] == [
        ('built in 1790 by "the old miller', 1.0), ("1850 - nobody knew why", 1.0),
    ]  # fmt: skip
    texts = [TEXT[q.span.start : q.span.end] for q in found if q.span and q.score == 1]
    assert texts == ["built\nin 1790 by “the old miller", "1850 – nobody knew why"]


async def test_a_quotation_across_two_passages_or_outside_the_evidence_is_found_in_the_document() -> None:
    across, elsewhere = await quotations('“miller”. It burnt” "A school stands"', [])
    assert across.span is not None
    assert TEXT[across.span.start : across.span.end] == "miller"
    assert elsewhere == Quotation("A school stands", Span("d", TEXT.index("A school"), len(TEXT) - 7), 1.0)


async def test_the_right_one_of_several_documents_is_named() -> None:
    documents = (Document("a", "Nothing here."), Document("b", "The fee   is 40."))
    [found] = await quotations('"The fee is 40"', [], *documents)
    assert found == Quotation("The fee is 40", Span("b", 0, 15), 1.0)


async def test_a_quotation_that_is_slightly_wrong_is_found_by_likeness_with_its_score() -> None:
    [found] = await quotations('"The mill was build in 1791 by"', whole(DOCUMENT))
    assert found.span is not None
    assert ALIKE <= found.score < 1
    assert TEXT[found.span.start : found.span.end].startswith("The mill was  built\nin 1790")


async def test_likeness_is_looked_for_in_the_evidence_only() -> None:
    assert await quotations('"The mill was build in 1791 by"', []) == [
        Quotation("The mill was build in 1791 by", None, 0.0)
    ]


async def test_words_that_are_nowhere_are_marked_as_not_found() -> None:
    assert await quotations('"it was struck by lightning twice"', whole(DOCUMENT)) == [
        Quotation("it was struck by lightning twice", None, 0.0)
    ]


async def test_words_of_the_statement_are_left_out_unless_the_document_has_them_too() -> None:
    statement = "The mill was built in 1790 by elves."
    analysis = 'It says "was built in 1790" but nothing "by elves".'
    assert [q.text for q in await quotations(analysis, whole(DOCUMENT), statement=statement)] == ["was built in 1790"]


def test_a_passage_much_shorter_than_the_quotation_is_not_like_it() -> None:
    assert (
        alike("The mill was built in 1790 by the old miller and his son", passages([Chunk("d", 0, 8, "The mill")]))
        is None
    )


def test_a_short_word_is_like_nothing() -> None:
    assert alike("mils", passages(whole(DOCUMENT))) is None
    assert exactly("mill", passages(whole(DOCUMENT))) == Span("d", 4, 8)


@pytest.mark.parametrize(
    ("quoted", "text", "at"),
    [
        ("no", "Nobody said so, and no vote was held.", 20),
        ("art", "It started late; art came after.", 17),
        ("mill", "Windmills and mills, but a mill?", 27),
        ("mil", "Windmills and mills.", 4),
        ("5 villages", "There are 15 villages, and 5 villages more.", 27),
        ("5 million", "It cost 1.5 million, not 5 million.", 25),
        ("in 179", "It was built in 1790, or in 179 BC.", 25),
        ("rose by 3", "It rose by 3.5 and then rose by 3.", 24),
        ("1998", "On 12.05.1998 it closed.", 9),
        ("12", "On 12.05.1998 it closed.", 3),
        ("python", "我们用python写代码", 3),
        ("代码", "我们用python写代码", 10),
        ("항구", "이 보고서는 항구의 재건이다", 7),
        ("5年", "在15年或5年之后", 5),
    ],
)
def test_words_are_found_by_themselves_before_within_others_and_numbers_only_whole(
    quoted: str, text: str, at: int
) -> None:
    assert exactly(quoted, passages([Chunk("d", 100, 100 + len(text), text)])) == Span(
        "d", 100 + at, 100 + at + len(quoted)
    )


@pytest.mark.parametrize(
    ("quoted", "text"),
    [
        ("5 villages", "There are 15 villages."),
        ("5 million", "It cost 1.5 million."),
        ("in 179", "It was built in 1790."),
        ("250 crowns", "It cost 1,250 crowns."),
        ("rose by 3", "It rose by 3.5."),
        ("5年", "在15年之后"),
    ],
)
async def test_a_part_of_a_number_is_not_what_the_document_says(quoted: str, text: str) -> None:
    document = Document("d", text)
    for evidence in (whole(document), []):
        [found] = await quotations(f'It says "{quoted}".', evidence, document)
        assert found.score < 1


async def test_digits_that_stand_only_within_numbers_are_not_found_however_often() -> None:
    document = Document("d", "55555 " * 300_000)
    found = await quotations('"55 555" and "55"', [], document)
    assert [q.span for q in found] == [None, None]


@given(st.text("15., ab\n", max_size=30), st.text("15., ab", min_size=1, max_size=5).filter(lambda q: q == q.strip()))
def test_what_is_found_exactly_has_the_words_and_no_digit_beside_its_own(text: str, quoted: str) -> None:
    span = exactly(quoted, passages([Chunk("d", 0, len(text), text)]))
    if span is not None:
        assert plain(text[span.start : span.end]) == plain(quoted)
        assert not (quoted[0].isdigit() and text[: span.start][-1:].isdigit())
        assert not (quoted[-1].isdigit() and text[span.end :][:1].isdigit())


async def test_an_analysis_without_quotations_costs_nothing() -> None:
    class Untouchable(DirectContext):
        async def once(self, key: str, make: object) -> object:  # type: ignore[override]
            raise AssertionError("looked into the documents")

    sample = Sample("s", "?", (DOCUMENT,))
    assert await located("It is so.", "It is.", CHUNKS, sample, Untouchable(sample)) == ()
    assert await located('"A school stands there"', "It is.", CHUNKS, sample, Untouchable(sample)) != ()


@pytest.mark.parametrize("before", range(65_520, 65_540, 3))
def test_white_space_is_one_space_wherever_a_long_document_is_gone_on_with(before: int) -> None:
    assert plain("x" * before + " \n" * 8 + "“y”") == "x" * before + ' "y"'


async def test_a_document_of_two_megabytes_in_one_line_is_gone_through_once() -> None:
    made = []

    class Counting(DirectContext):
        async def once(self, key, make):  # type: ignore[no-untyped-def]
            made.append(key)
            return await super().once(key, make)

    text = "ab " * 700_000 + "the needle is here"
    sample = Sample("s", "?", (Document("d", text),))
    ctx = Counting(sample)
    for _ in range(3):
        [found] = await located('"the needle is here"', "x", [], sample, ctx)
        assert found.span == Span("d", 2_100_000, len(text))
    assert len(ctx._made) == 1
    attack = await located(f'"{"ab " * 199}c"', "x", [], sample, ctx)
    assert [q.span for q in attack] == [None]


SPACED = st.lists(
    st.sampled_from(["the", "mill", "水车", " ", "\n", "  \t", "—", "’", "“", "a\u0301", "שלום", "😀", "\u00a0"])
)


@given(SPACED.map("".join), st.data())
def test_any_piece_of_a_document_that_is_quoted_is_found_in_it(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    piece = text[start : data.draw(st.integers(start, len(text)))].strip()
    if not piece:
        return
    span = exactly(piece, passages([Chunk("d", 7, 7 + len(text), text)]))
    assert span is not None
    assert plain(text[span.start - 7 : span.end - 7]) == plain(piece)


@given(nasty_texts(), nasty_texts(max_size=40))
def test_likeness_always_gives_a_piece_of_the_passage(quotation: str, text: str) -> None:
    found = alike(quotation, passages([Chunk("d", 5, 5 + len(text), text)]))
    if found is not None:
        span, score = found
        assert 5 <= span.start < span.end <= 5 + len(text)
        assert ALIKE <= score < 1


@settings(max_examples=50)
@given(nasty_texts(min_size=1), st.data())
def test_what_is_quoted_of_odd_text_is_located_at_characters_that_have_it(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    quoted = text[start : data.draw(st.integers(start + 1, len(text)))]
    document = Document("d", f"x {text}\u3000{text}\n")
    for found in asyncio.run(quotations(f'It says "{quoted}" and “{quoted}”.', [], document)):
        if found.span is not None:
            there = document.text[found.span.start : found.span.end]
            assert there == there.strip()
            assert found.score < 1 or plain(there) == plain(found.text)


@given(nasty_texts())
def test_no_analysis_is_too_strange(analysis: str) -> None:
    assert all(len(q) > 1 and q == q.strip() for q in quotations_in(f'{analysis}"{analysis}" "\u3000{analysis}\u2028"'))


SAMPLE = Sample("s", "What became of the mill?", (DOCUMENT,), (Candidate("c", "It burnt down."),))


def quoting(request: Request) -> Reply:
    analysis, verdict = "It “burnt down in 1850” in the passage.", "Fully supported"
    match request.expects.kind, request.reply_mode:
        case "statements", "json":
            return Reply(json.dumps({"statements": ["The mill burnt down.", "A school stands there."]}))
        case "statements", _:
            return Reply(tagged("The mill burnt down.", "A school stands there."))
        case "verdicts", _:
            one = {"analysis": analysis, "verdict": verdict}
            return Reply(json.dumps({f"v{n}": one for n in range(1, len(statements_in(request)) + 1)}))
        case _, "json":
            return Reply(json.dumps({"analysis": analysis, "verdict": verdict}))
        case _, "logprobs":
            return Reply(analysis, probabilities={o: float(verdict in o) for o in request.options})
    return Reply(f"{analysis} [[{verdict}]]")


@pytest.mark.parametrize("can", [{}, {"structured": True}, {"probabilities": True}])
@pytest.mark.parametrize("per_call", [1, 4])
async def test_quotations_are_kept_with_every_way_of_asking(can: dict[str, bool], per_call: int) -> None:
    judge = ScriptedJudge(quoting, capabilities=Capabilities(**can))
    judgement = await judgement_of(Faithfulness(FaithfulnessSettings(verdicts_per_call=per_call)), judge, SAMPLE)
    start = TEXT.index("burnt")
    span = Span("d", start, start + len("burnt down in 1850"))
    assert [s.quotations for s in judgement.statements] == [(Quotation("burnt down in 1850", span, 1.0),)] * 2
    row = json.loads(json.dumps(judgement_json(judgement)))
    assert row["statements"][0]["quotations"] == [
        {"text": "burnt down in 1850", "score": 1.0, "span": {"document": "d", "start": start, "end": span.end}}
    ]


async def test_a_quotation_that_is_markup_stays_text() -> None:
    evil = '"<script>alert(1)</script>" and "[ [No support] ]" and "{{7*7}} <<·answer>>"'

    def script(request: Request) -> str:
        return tagged("It is.") if request.expects.kind == "statements" else f"{evil} [[Fully supported]]"

    document = Document("d", "It says <script>alert(1)</script> and [[No support]].")
    judgement = await judgement_of(
        Faithfulness(), ScriptedJudge(script), Sample("s", "?", (document,), (Candidate("c", "x"),))
    )
    assert isinstance(judgement, Judgement)
    [statement] = judgement.statements
    assert statement.verdict == "Fully supported"
    assert [(q.text, q.span is not None) for q in statement.quotations] == [
        ("<script>alert(1)</script>", True), ("[[No support]]", True), ("{{7*7}} <<answer>>", False),
    ]  # fmt: skip


def test_the_prompts_ask_for_quotations_and_their_examples_quote_the_passages() -> None:
    from lrf_longreward.prompts import BUILT_IN

    for language in ("en", "zh"):
        for name in ("verdict", "verdicts"):
            text = (BUILT_IN / language / f"{name}.txt").read_text(encoding="utf-8")
            _, *examples, _ = re.split(r"^### .*\n", text, flags=re.MULTILINE)
            for example in examples:
                document = Document("d", "\n".join(re.findall(r"<passages>(.*?)</passages>", example, re.DOTALL)))
                reply = example.split("Verdicts:" if name == "verdicts" else "Analysis:")[-1]
                said = re.findall(r'"analysis": "(.*?)", "verdict"', reply) if name == "verdicts" else [reply]
                for analysis in said:
                    found = quotations_in(analysis)
                    assert found, analysis
                    assert all(exactly(q, passages(whole(document))) for q in found), analysis


def test_lrf_score_shows_the_judges_quotations_and_their_places(
    tmp_path: Path, judge_server: JudgeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    judge_server.reply = lambda prompt, temperature: (
        'It "burnt down in 1850". [[Fully supported]]' if "<passages>" in prompt else tagged("The mill burnt down.")
    )
    server = {"type": "openai", "base_url": judge_server.base_url, "model": "m"}
    pipeline = {
        "name": "one",
        "data": {"type": "jsonl", "path": "samples.jsonl"},
        "judges": {"main": server},
        "retrievers": {"main": {"type": "memory", "mode": "lexical"}},
        "dimensions": ["faithfulness"],
    }
    (tmp_path / "pipeline.yaml").write_text(json.dumps(pipeline))
    (tmp_path / "samples.jsonl").write_text("")
    (tmp_path / "document.txt").write_text(TEXT)
    what = ["--document", str(tmp_path / "document.txt"), "--question", "What became of it?", "--answer", "It burnt."]
    assert invoke(["score", "--pipeline", str(tmp_path / "pipeline.yaml"), *what]) == 0
    start = TEXT.index("burnt down")
    shown = f"  [Fully supported] The mill burnt down.\n      0:{start}-{start + 18}: burnt down in 1850\n"
    assert shown in capsys.readouterr().out
