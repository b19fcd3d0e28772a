"""Chunks: exact offsets, no gaps, a bound on tokens, ends of sentences."""

from __future__ import annotations

import asyncio
import random
import unicodedata
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.errors import ConfigError
from lrf.text import tokenizers as tokens_module
from lrf.text.chunking import MIN_TOKENS, chunk_document, count_tokens
from lrf.text.tokenizers import TokenizerName, tokenizer_of
from lrf.types import Chunk, Document

ENGLISH = (
    "The harbour was rebuilt in 1904. Its two moles are of granite, and the lamp on the northern one is still "
    'lit by hand. Who pays for the oil? "The town does," the keeper says. '
)
CHINESE = "海港在一九〇四年重建。两条防波堤都是花岗岩的，北边的灯至今由人工点燃！谁付油钱？“镇上付，”守灯人说。"

TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=400),
    st.text(st.sampled_from("ab .!?\n\r。；…\u0301\u200d\u0000👩🏽‍👧שלوم中文字é１٣"), max_size=400),
    st.lists(st.sampled_from([ENGLISH, CHINESE, "\n\n", "   ", "👩‍👩‍👧‍👦", "e\u0301"]), max_size=12).map("".join),
)


def chunks_of(text: str, tokens: int, **options: object) -> tuple[Chunk, ...]:
    return chunk_document(Document("doc", text), tokens, **options)  # type: ignore[arg-type]


@given(TEXTS, st.integers(MIN_TOKENS, 60), st.booleans())
def test_chunks_put_together_give_the_document_but_for_white_space(text: str, tokens: int, sentences: bool) -> None:
    at = 0
    for chunk in chunks_of(text, tokens, whole_sentences=sentences):
        assert not text[at : chunk.start].strip()
        assert chunk.start >= at
        at = chunk.end
    assert not text[at:].strip()


@given(TEXTS, st.integers(MIN_TOKENS, 60), st.data())
def test_every_chunk_is_the_slice_it_says_and_not_blank(text: str, tokens: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tokens // 2))
    for chunk in chunks_of(text, tokens, overlap=overlap):
        assert chunk.document == "doc"
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text.strip()


@given(TEXTS, st.integers(MIN_TOKENS, 60), st.data())
def test_no_chunk_has_more_tokens_than_asked_for(text: str, tokens: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tokens // 2))
    sentences = data.draw(st.booleans())
    for chunk in chunks_of(text, tokens, overlap=overlap, whole_sentences=sentences):
        assert count_tokens(chunk.text) <= tokens


@given(TEXTS, st.integers(MIN_TOKENS, 60))
def test_chunking_twice_gives_the_same_chunks(text: str, tokens: int) -> None:
    assert chunks_of(text, tokens) == chunks_of(text, tokens)


@given(TEXTS, st.integers(MIN_TOKENS, 40), st.data())
def test_overlapping_chunks_advance_and_leave_no_gap(text: str, tokens: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tokens // 2))
    chunks = chunks_of(text, tokens, overlap=overlap)
    for one, two in pairwise(chunks):
        assert one.start < two.start
        assert one.end < two.end
        assert not text[one.end : two.start].strip()


def test_an_overlap_repeats_about_that_many_tokens() -> None:
    chunks = chunks_of(ENGLISH * 20, 64, overlap=16)
    for one, two in pairwise(chunks):
        assert 12 <= count_tokens(one.text[two.start - one.start :]) <= 20


@pytest.mark.parametrize("text", [ENGLISH * 40, CHINESE * 40], ids=["english", "chinese"])
@pytest.mark.parametrize("tokens", [64, 128, 500])
def test_there_are_as_few_chunks_as_the_tokens_allow(text: str, tokens: int) -> None:
    assert len(chunks_of(text, tokens)) == -(-count_tokens(text) // tokens)


@pytest.mark.parametrize("text", [ENGLISH * 40, CHINESE * 40], ids=["english", "chinese"])
def test_with_whole_sentences_every_chunk_ends_at_the_end_of_one(text: str) -> None:
    chunks = chunks_of(text, 128, whole_sentences=True)
    assert all(chunk.text.rstrip()[-1] in '.?!”"。？！' for chunk in chunks)
    assert len(chunks) <= 1.34 * -(-count_tokens(text) // 128)


def test_room_left_by_the_chunk_count_is_spent_on_ends_of_sentences() -> None:
    text = ENGLISH * 3
    tokens = count_tokens(text) * 2 // 3
    first, second = chunks_of(text, tokens)
    assert first.text.endswith((".", "?", '"'))
    assert first.text + second.text == text


def test_a_decimal_point_ends_no_sentence() -> None:
    text = "The value was measured as 3.1415926535 in 2.718281828 of the cases " * 12
    for chunk in chunks_of(text, 40, whole_sentences=True)[:-1]:
        assert not (chunk.text[-1] == "." and text[chunk.end].isdigit())


@given(
    st.lists(st.sampled_from(["e\u0301", "o\u0308\u0304", "👩‍👧", "क्षि", "x"]), min_size=1, max_size=200).map("".join)
)
def test_a_base_and_its_marks_stay_together(text: str) -> None:
    for chunk in chunks_of(text, 24)[:-1]:
        assert unicodedata.category(text[chunk.end])[0] != "M"
        assert text[chunk.end] != "\u200d"


@pytest.mark.parametrize("text", ["", " \n\t ", "\u3000" * 500])
def test_blank_text_has_no_chunks(text: str) -> None:
    assert chunks_of(text, 16) == ()


def test_a_lone_surrogate_is_counted_and_kept() -> None:
    text = "a\ud800b " * 50
    assert count_tokens(text) > 50
    chunks = chunks_of(text, 32)
    assert "".join(c.text for c in chunks) == text


@pytest.mark.parametrize("unit", ["x", "word ", "字", "\0", "e\u0301", "👩‍👩‍👧‍👦", "ا", "\u0301"])
def test_one_long_line_of_anything_is_cut(unit: str) -> None:
    text = unit * (300_000 // len(unit))
    chunks = chunks_of(text, 512)
    assert "".join(c.text for c in chunks) == text
    assert len(chunks) <= 1.1 * count_tokens(text) / 512 + 1


@pytest.mark.parametrize(("tokens", "overlap"), [(MIN_TOKENS - 1, 0), (0, 0), (16, 9), (16, -1)])
def test_impossible_sizes_are_refused_by_value(tokens: int, overlap: int) -> None:
    with pytest.raises(ValueError, match=r"must (have at least|be within)"):
        chunks_of("text", tokens, overlap=overlap)


def test_a_special_token_in_a_document_is_ordinary_text() -> None:
    text = "before <|endoftext|> after"
    assert count_tokens(text) > 3
    assert [c.text for c in chunks_of(text, 64)] == [text]


PARAGRAPHS = st.lists(st.sampled_from([ENGLISH, CHINESE, "A word. ", "שלום עולם. ", "e\u0301\0 "]), max_size=12).map(
    lambda sentences: "".join(sentences).strip() + "\n"
)


@given(PARAGRAPHS, PARAGRAPHS, st.integers(16, 60))
def test_what_follows_a_text_changes_only_its_last_chunks(one: str, two: str, tokens: int) -> None:
    alone, together = (chunks_of(text, tokens, whole_sentences=True) for text in (one, one + two))
    assert together[: max(0, len(alone) - 1)] == alone[: max(0, len(alone) - 1)]


@pytest.fixture(scope="module")
def own_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small byte-level BPE of the kind that models have."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([ENGLISH, CHINESE], trainer)
    folder = tmp_path_factory.mktemp("model")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@given(TEXTS, st.integers(16, 60), st.data())
def test_chunks_by_another_tokenizer_are_exact(
    own_tokenizer: Path, text: str, tokens: int, data: st.DataObject
) -> None:
    name: TokenizerName = data.draw(st.sampled_from(["cl100k_base", "llama3", own_tokenizer]))
    chunks = chunks_of(text, tokens, tokenizer=name)
    at = 0
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
        assert not text[at : chunk.start].strip()
        assert count_tokens(chunk.text, name) <= tokens
        at = chunk.end
    assert not text[at:].strip()


def test_a_tokenizer_counts_its_own_tokens(own_tokenizer: Path) -> None:
    text = ENGLISH + CHINESE
    counts = {name: count_tokens(text, name) for name in ("o200k_base", "llama3", own_tokenizer)}
    assert len(set(counts.values())) == 3
    assert len(chunks_of(text * 20, 64, tokenizer=own_tokenizer)) > len(chunks_of(text * 20, 64))
    assert count_tokens(text, own_tokenizer / "tokenizer.json") == counts[own_tokenizer]


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_a_tokenizer_that_can_not_be_read_is_an_error_that_names_the_file(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match=r"tokenizer: .*tokenizer\.json"):
        count_tokens("text", tmp_path)


def test_tokens_are_the_same_whether_a_text_is_read_in_pieces_or_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ENGLISH + "It rose by 3.5%, they're told;  twice over.\n\n") * 40
    whole = tokenizer_of("o200k_base").places(text)
    monkeypatch.setattr(tokens_module, "PIECE", 500)
    pieced = tokenizer_of("o200k_base").places(text)
    assert [list(a) for a in pieced] == [list(a) for a in whole]


@pytest.mark.parametrize("kind", ["one letter", "words", "letters", "own tokenizer"])
async def test_one_very_long_line_is_cut_without_blocking_the_event_loop(kind: str, own_tokenizer: Path) -> None:
    letters = "".join(random.Random(3).choices("abcdefghijklmnopqrstuvwxyz海港", k=150_000))
    line = {"one letter": "x" * 2_000_000, "words": ENGLISH * 12_000}.get(kind, letters)
    name: TokenizerName = own_tokenizer if kind == "own tokenizer" else "o200k_base"
    count_tokens("the tables are read with the first use", name)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.create_task(tick())
    chunks = await asyncio.to_thread(chunks_of, line, 512, whole_sentences=True, tokenizer=name)
    ticking.cancel()
    assert "".join(chunk.text for chunk in chunks) == line
    assert ticks >= 3
