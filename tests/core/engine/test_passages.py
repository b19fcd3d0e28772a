"""Chunks with what stands around them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.engine.passages import TIMES, around
from lrf.planning.evidence import longest_around
from lrf.testing.strategies import documents, nasty_texts
from lrf.text.chunking import chunk_document, joined
from lrf.types import Chunk, Document, Sample

TEXT = " ".join(f"Village {n} keeps its archive in building number {n}." for n in range(20))
SAMPLE = Sample("s", "?", (Document("d", TEXT),))


def test_surroundings_are_as_much_again_on_both_sides_and_end_between_words() -> None:
    chunk = chunk_document(SAMPLE.documents[0], 20, whole_sentences=True)[5]
    [wide] = around(SAMPLE.documents, [chunk])
    assert TEXT[wide.start : wide.end] == wide.text
    length = chunk.end - chunk.start
    assert chunk.start - length <= wide.start < chunk.start - length // 2
    assert chunk.end + length // 2 < wide.end <= chunk.end + length
    assert not TEXT[wide.start - 1].isalnum()
    assert not wide.text[-1].isalnum()


@pytest.mark.parametrize("unit", ["क्षि", "e\u0301\u0302", "👩\u200d👧", "a\r\n"])
def test_surroundings_part_no_character_from_its_marks(unit: str) -> None:
    text = unit * 200
    for chunk in chunk_document(Document("d", text), 32)[1:-1]:
        [wide] = around([Document("d", text)], [chunk])
        for at in (wide.start, wide.end):
            assert at in (0, len(text)) or not joined(text, at)


def test_surroundings_that_touch_become_one_passage() -> None:
    chunks = chunk_document(SAMPLE.documents[0], 20, whole_sentences=True)
    assert len(around(SAMPLE.documents, [chunks[3], chunks[5]])) == 1
    assert len(around(SAMPLE.documents, [chunks[2], chunks[10]])) == 2


@settings(max_examples=30)
@given(documents(), st.data())
def test_surroundings_are_exact_pieces_that_hold_the_chunks_and_come_in_order(
    found: tuple[Document, ...], data: st.DataObject
) -> None:
    cut = [c for d in found for c in chunk_document(d, data.draw(st.sampled_from([4, 8, 30])))]
    chunks = [c for c in cut if data.draw(st.booleans())]
    texts = {d.id: d.text for d in found}

    wide = around(found, chunks)

    assert all(texts[c.document][c.start : c.end] == c.text for c in wide)
    for chunk in chunks:
        assert any(w.document == chunk.document and w.start <= chunk.start and chunk.end <= w.end for w in wide)
    for one, other in itertools.pairwise(wide):
        assert one.document != other.document or one.end < other.start


@settings(max_examples=30)
@given(nasty_texts(min_size=1))
def test_surroundings_of_a_whole_document_are_the_document(text: str) -> None:
    chunk = Chunk("d", 0, len(text), text)
    assert around((Document("d", text),), [chunk]) == [chunk]


@settings(max_examples=30)
@given(documents(), st.sampled_from([4, 8, 30]), st.integers(1, 4))
def test_no_chunks_with_their_surroundings_are_longer_than_the_bound_says(
    found: tuple[Document, ...], tokens: int, most: int
) -> None:
    chunks = [c for d in found for c in chunk_document(d, tokens)]
    by_bytes = sorted(chunks, key=lambda c: -len(c.text.encode("utf-8", "replace")))
    bound = sum(len(c.text.encode()) for c in longest_around(found, by_bytes[:most]))
    for drawn in itertools.islice(itertools.combinations(chunks, min(most, len(chunks))), 20):
        assert sum(len(c.text.encode()) for c in around(found, drawn)) <= bound
        assert sum(len(c.text) for c in around(found, drawn)) <= TIMES * sum(len(c.text) for c in drawn)
