"""Calls to one embedder: each text once a run, gathered into batches across samples and candidates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrf.engine.budget import BudgetLedger
from lrf.engine.limiter import Limiter
from lrf.engine.rate_limits import RateLimits
from lrf.engine.retries import Retries
from lrf.errors import BadReplyError, StageError, TimedOutError
from lrf.protocols import Embedder, EmbedKind
from lrf.store.journal import Journal, identity_text, vector_key
from lrf.text.chunking import count_tokens
from lrf.text.unicode import storable

if TYPE_CHECKING:
    from lrf.protocols import Vectors

LINGER_S = 0.02
TIMEOUT_S = 300.0
AT_ONCE, ROWS = 256, 64
"""Texts looked up, and vectors put together, in one turn of the event loop."""


@dataclass(slots=True, eq=False)
class _Batch:
    """Texts that are sent together, by their keys; each waits for all."""

    arrived: asyncio.Future[dict[bytes, bytes]]
    texts: dict[bytes, str] = field(default_factory=dict)


@dataclass(slots=True)
class EmbedderCalls:
    """The engine's side of one embedder. :meth:`embed` is what a retriever gets as ``embed``."""

    name: str
    embedder: Embedder
    journal: Journal
    ledger: BudgetLedger
    rates: RateLimits | None = None
    limiter: Limiter = field(init=False)
    retries: Retries = field(init=False)
    _identity: str = field(init=False)
    _dimensions: int | None = None
    _flying: dict[bytes, _Batch] = field(default_factory=dict)
    _filling: dict[EmbedKind, _Batch] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.embedder.max_concurrency, self.rates)
        self.retries = Retries(f"embedders.{self.name}", self.limiter)
        self._identity = identity_text(self.embedder.identity)

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        """Vectors of shape (len(texts), dimensions), float32: kept ones from the journal, the rest embedded.

        Raises :class:`lrf.errors.UnscorableError` when the embedder fails for good, :class:`lrf.errors.StageError` when it
        gives vectors of another length than before: they could not be compared.
        """
        import numpy as np

        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        keys: list[bytes] = []
        found: dict[bytes, bytes] = {}
        pending: dict[bytes, _Batch] = {}
        for i in range(0, len(texts), AT_ONCE):
            text_of = {}
            for text in map(storable, texts[i : i + AT_ONCE]):  # no embedder takes half a surrogate pair
                keys.append(vector_key(self._identity, kind, text))
                if keys[-1] not in found and keys[-1] not in pending:
                    text_of[keys[-1]] = text
            await self._look_up(text_of, kind, found, pending)
        for arrived in await asyncio.gather(*(asyncio.shield(b.arrived) for b in dict.fromkeys(pending.values()))):
            found.update(arrived)  # shielded: others wait for them, too
        vectors = np.empty((len(keys), len(found[keys[0]]) // 4), dtype=np.float32)
        for row, key in enumerate(keys):
            vector = np.frombuffer(found[key], dtype="<f4")
            self._check_length(vector.size)
            vectors[row] = vector
            if row % ROWS == ROWS - 1:
                await asyncio.sleep(0)
        return vectors

    async def _look_up(
        self, text_of: Mapping[bytes, str], kind: EmbedKind, found: dict[bytes, bytes], pending: dict[bytes, _Batch]
    ) -> None:
        """Add those of the texts that are kept to ``found``, and the others' batches to ``pending``."""
        # Taken before the look-up: what arrives meanwhile is no longer among those that are flying.
        flying = {key: self._flying[key] for key in text_of if key in self._flying}
        kept = await self.journal.vectors([key for key in text_of if key not in flying])
        self.ledger.reused_texts += len(kept)
        found.update(kept)
        for key, text in text_of.items():
            if key not in kept:
                pending[key] = flying.get(key) or self._flying.get(key) or self._enqueue(key, text, kind)

    def _enqueue(self, key: bytes, text: str, kind: EmbedKind) -> _Batch:
        batch = self._filling.get(kind)
        if batch is None:
            batch = self._filling[kind] = _Batch(asyncio.get_running_loop().create_future())
            self._start(self._linger(batch, kind))
        batch.texts[key] = text
        self._flying[key] = batch
        if len(batch.texts) >= self.embedder.batch_size:
            self._send(batch, kind)
        return batch

    def _start(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _linger(self, batch: _Batch, kind: EmbedKind) -> None:
        """Wait a moment for others' texts, then send what there is."""
        await asyncio.sleep(LINGER_S)
        if self._filling.get(kind) is batch:
            self._send(batch, kind)

    def _send(self, batch: _Batch, kind: EmbedKind) -> None:
        del self._filling[kind]
        self._start(self._fly(batch, kind))

    async def _fly(self, batch: _Batch, kind: EmbedKind) -> None:
        keys, texts = list(batch.texts), list(batch.texts.values())
        try:
            vectors = await self.retries.run(lambda: self._call(texts, keys, kind))
        except BaseException as error:
            if not batch.arrived.done():
                batch.arrived.set_exception(error)
                batch.arrived.exception()  # seen, also when every waiter has gone
            if not isinstance(error, Exception):
                raise
        else:
            if not batch.arrived.done():
                batch.arrived.set_result(
                    {k: v.astype("<f4", copy=False).tobytes() for k, v in zip(keys, vectors, strict=True)}
                )
        finally:
            for key in keys:
                self._flying.pop(key, None)

    async def _call(self, texts: Sequence[str], keys: Sequence[bytes], kind: EmbedKind) -> Vectors:
        import numpy as np

        tokens = 0
        if self.rates and self.rates.limits_tokens:
            tokens = await asyncio.to_thread(lambda: sum(count_tokens(text) for text in texts))
        # Queries first: who asks one has a sample under way, and a long document's chunks are many calls.
        async with self.limiter.slot((int(kind == "document"), 0), 1, tokens):
            began = time.monotonic()
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    vectors = await self.embedder.embed(texts, kind)
            except TimeoutError:
                raise TimedOutError(f"no reply from embedders.{self.name} within {TIMEOUT_S:g} s") from None
        with np.errstate(over="ignore"):  # what is too large for single precision is infinite
            vectors = np.asarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.shape[1]:
            raise BadReplyError(f"embedders.{self.name} gave an array of shape {vectors.shape} for {len(texts)} texts")
        if not np.isfinite(vectors).all():
            raise BadReplyError(f"embedders.{self.name} gave a vector that is not finite")
        self._check_length(vectors.shape[1])
        self.ledger.embedding_calls += 1
        self.ledger.embedded_texts += len(texts)
        await self.journal.commit_vectors(self._identity, keys, vectors, seconds=time.monotonic() - began)
        return vectors

    def _check_length(self, dimensions: int) -> None:
        if self._dimensions is None:
            self._dimensions = dimensions
        elif dimensions != self._dimensions:
            raise StageError(
                f"embedders.{self.name} gave vectors of {self._dimensions} and of {dimensions} dimensions, which can't "
                "be compared: another model must stand behind its name. Set the old one back, or begin a new run "
                "(with another `cache`, if there is one)"
            )

    async def aclose(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for batch in self._flying.values():  # of texts that no task has taken up yet, too
            batch.arrived.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.embedder.aclose()
