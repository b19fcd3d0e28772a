"""The embedder ``sentence-transformers``, with a real, tiny model of random weights."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrf.errors import JudgeMisconfiguredError
from lrf.protocols import Embedder
from lrf_sentence_transformers.embedder import SentenceTransformersEmbedder
from lrf_sentence_transformers.settings import SentenceTransformersSettings

TEXTS = ["the harbour was rebuilt", "who pays for the oil", "a lamp"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as sentence-transformers saves it, whose own prompt for queries is ``query: ``."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    words = "[PAD] [UNK] [CLS] [SEP] [MASK] query : the harbour was rebuilt who pays for oil a lamp".split()  # noqa: SIM905
    bert = tmp_path_factory.mktemp("bert")
    (bert / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(bert / "vocab.txt")).save_pretrained(bert)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(bert)
    body = Transformer(str(bert), max_seq_length=16)
    model = SentenceTransformer(modules=[body, Pooling(16)], prompts={"query": "query: "}, device="cpu")
    saved = tmp_path_factory.mktemp("model")
    model.save(str(saved))
    return saved


def embedder(folder: Path, **settings: Any) -> SentenceTransformersEmbedder:
    return SentenceTransformersEmbedder(SentenceTransformersSettings(model=str(folder), device="cpu", **settings))


async def test_a_vector_a_text_of_the_models_dimensions_and_of_length_one(folder: Path) -> None:
    made = embedder(folder)
    assert isinstance(made, Embedder)
    vectors = await made.embed(TEXTS, "document")
    assert (vectors.shape, vectors.dtype) == ((3, 16), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert len(await made.embed([], "query")) == 0


async def test_vectors_are_those_of_the_library(folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(folder), device="cpu").encode(TEXTS, normalize_embeddings=False)
    vectors = await embedder(folder, normalise=False).embed(TEXTS, "document")
    np.testing.assert_allclose(vectors, reference, atol=1e-5)


async def test_prompts_are_the_models_own_unless_others_are_given(folder: Path) -> None:
    plain = embedder(folder, query_prompt="", document_prompt="query: ")
    as_query, as_document = await embedder(folder).embed(TEXTS, "query"), await plain.embed(TEXTS, "document")
    without = await plain.embed(TEXTS, "query")
    np.testing.assert_allclose(as_query, as_document, atol=1e-5)
    assert not np.allclose(as_query, without, atol=1e-3)
    np.testing.assert_allclose(without, await embedder(folder).embed(TEXTS, "document"), atol=1e-5)


async def test_a_text_is_cut_off_where_the_settings_say(folder: Path) -> None:
    long = "the harbour was rebuilt who pays for oil a lamp"
    short = embedder(folder, max_tokens=8)
    one, two = await short.embed([long, long + " a lamp a lamp"], "document")
    np.testing.assert_allclose(one, two, atol=1e-5)
    full, _ = await embedder(folder).embed([long, long], "document")
    assert not np.allclose(one, full, atol=1e-3)


async def test_the_leading_numbers_of_a_vector_can_be_kept_alone(folder: Path) -> None:
    assert (await embedder(folder, dimensions=4).embed(TEXTS, "document")).shape == (3, 4)


def test_the_identity_holds_what_vectors_depend_on_and_nothing_else(folder: Path) -> None:
    identity = embedder(folder).identity
    assert identity["files"]
    assert embedder(folder, query_prompt="q: ").identity != identity
    assert embedder(folder, batch_size=3, threads=1).identity == identity


async def test_the_model_is_loaded_and_asked_in_a_thread(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, threads = embedder(folder), []
    load = made._load

    def watched() -> Any:
        threads.append(threading.get_ident())
        return load()

    monkeypatch.setattr(made, "_load", watched)
    await made.embed(TEXTS, "query")
    await made.embed(TEXTS, "query")
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


async def test_a_model_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(JudgeMisconfiguredError, match=r"can't load model .*empty"):
        await embedder(tmp_path / "empty").embed(TEXTS, "query")


def test_settings_and_plugin_import_nothing_heavy() -> None:
    script = (
        "import lrf_sentence_transformers.plugin, lrf_sentence_transformers.settings, sys\n"
        "assert not {'sentence_transformers', 'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
