from __future__ import annotations

import numpy as np
import pytest

from lrf.protocols import Embedder
from lrf_usem3.embedder import Usem3Embedder
from lrf_usem3.settings import Usem3Settings

TEXTS = [
    "The ferry leaves the island every morning at eight.",
    "Each day at 8 a.m. the boat departs from the island.",
    "渡轮每天早上八点离开岛屿。",
    "Prices of copper fell for the third week in a row.",
]


@pytest.fixture(scope="module")
def embedder() -> Usem3Embedder:
    return Usem3Embedder(Usem3Settings())


def test_it_is_an_embedder_whose_identity_names_the_version_of_its_weights(embedder: Usem3Embedder) -> None:
    assert isinstance(embedder, Embedder)
    assert embedder.identity["type"] == "usem3"
    assert embedder.identity["version"]


async def test_a_vector_a_text_of_512_numbers_and_of_length_one(embedder: Usem3Embedder) -> None:
    vectors = await embedder.embed(TEXTS, "document")
    assert vectors.shape == (4, 512)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


async def test_no_texts_make_no_vectors(embedder: Usem3Embedder) -> None:
    assert len(await embedder.embed([], "query")) == 0


async def test_a_paraphrase_is_nearer_than_another_subject_in_both_languages(embedder: Usem3Embedder) -> None:
    ferry, same, chinese, other = await embedder.embed(TEXTS, "query")
    assert ferry @ same > ferry @ other + 0.2
    assert ferry @ chinese > ferry @ other + 0.2


async def test_a_text_has_the_same_vector_alone_and_among_others(embedder: Usem3Embedder) -> None:
    together = await embedder.embed(TEXTS * 3, "document")
    alone = await embedder.embed([TEXTS[2]], "document")
    np.testing.assert_allclose(together[6], alone[0], atol=1e-5)
