"""Calls to one embedder: each text once a run, gathered into batches across samples and candidates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrf.chunking import count_tokens
from lrf.engine.ledger import Ledger
from lrf.engine.limits import Limiter
from lrf.engine.rates import Rates
from lrf.engine.retries import Retries
from lrf.errors import BadReply, StageError, TimedOut
from lrf.protocols import Embedder, EmbedKind
from lrf.store.filesystem import storable
from lrf.store.journal import Journal, digest, identity_text

if TYPE_CHECKING:
    from lrf.protocols import Vectors

LINGER_S = 0.02
TIMEOUT_S = 300.0
AT_ONCE = 1_024
"""Texts that are looked up and waited for together, at least."""

Waiting = tuple[bytes, str, "asyncio.Future[bytes]"]


@dataclass(slots=True)
class EmbedCalls:
    """The engine's side of one embedder. :meth:`embed` is what a retriever gets as ``embed``."""

    name: str
    embedder: Embedder
    journal: Journal
    ledger: Ledger
    rates: Rates | None = None
    limiter: Limiter = field(init=False)
    retries: Retries = field(init=False)
    _identity: str = field(init=False)
    _dimensions: int | None = None
    _flying: dict[bytes, asyncio.Future[bytes]] = field(default_factory=dict)
    _waiting: dict[EmbedKind, list[Waiting]] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.embedder.max_concurrency, self.rates)
        self.retries = Retries(f"embedders.{self.name}", self.limiter)
        self._identity = identity_text(self.embedder.identity)

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        """Vectors of shape (len(texts), dimensions), float32: kept ones from the journal, the rest embedded.

        Raises :class:`lrf.errors.Unscorable` when the embedder fails for good, :class:`lrf.errors.StageError` when it
        gives vectors of another length than before: they could not be compared.
        """
        import numpy as np

        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        texts = [storable(text) for text in texts]  # no embedder takes half a surrogate pair
        place = {text: number for number, text in enumerate(dict.fromkeys(texts))}
        distinct, most = list(place), max(AT_ONCE, self.embedder.batch_size * self.embedder.max_concurrency)
        # a part at a time: thousands of chunks at once would keep the event loop busy for long
        parts = [await self._part(distinct[i : i + most], kind) for i in range(0, len(distinct), most)]
        vectors = np.concatenate(parts)
        return vectors if len(distinct) == len(texts) else vectors[[place[text] for text in texts]]

    async def _part(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        """As :meth:`embed` of texts that are all different."""
        import numpy as np

        text_of = {digest(self._identity, kind, text): text for text in texts}
        # Taken before the look-up: what arrives meanwhile is no longer among those that are flying.
        pending = {k: self._flying[k] for k in text_of if k in self._flying}
        kept = await self.journal.vectors([k for k in text_of if k not in pending])
        self.ledger.reused_texts += len(kept)
        for k, text in text_of.items():
            if k not in kept and k not in pending:
                pending[k] = self._flying.get(k) or self._enqueue(k, text, kind)
        if pending:
            arrived = await asyncio.gather(*map(asyncio.shield, pending.values()))  # others wait for them too
            kept.update(zip(pending, arrived, strict=True))
        rows = [np.frombuffer(kept[k], dtype="<f4") for k in text_of]
        for row in rows:
            self._check_length(row.size)
        return np.stack(rows)

    def _enqueue(self, key: bytes, text: str, kind: EmbedKind) -> asyncio.Future[bytes]:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._flying[key] = future
        waiting = self._waiting.setdefault(kind, [])
        waiting.append((key, text, future))
        if len(waiting) == 1:
            self._start(self._flush(kind))
        return future

    def _start(self, coroutine: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush(self, kind: EmbedKind) -> None:
        """Wait a moment for others' texts, then send everything in full batches."""
        await asyncio.sleep(LINGER_S)
        waiting, self._waiting[kind] = self._waiting[kind], []
        size = self.embedder.batch_size
        for i in range(0, len(waiting), size):
            self._start(self._batch(waiting[i : i + size], kind))

    async def _batch(self, batch: Sequence[Waiting], kind: EmbedKind) -> None:
        keys = [key for key, _, _ in batch]
        try:
            vectors = await self.retries.run(lambda: self._call([text for _, text, _ in batch], keys, kind))
        except BaseException as e:
            for _, _, future in batch:
                if not future.done():
                    future.set_exception(e)
                    future.exception()  # seen, also when every waiter has gone
            if not isinstance(e, Exception):
                raise
        else:
            for (_, _, future), vector in zip(batch, vectors, strict=True):
                if not future.done():
                    future.set_result(vector.astype("<f4", copy=False).tobytes())
        finally:
            for key in keys:
                self._flying.pop(key, None)

    async def _call(self, texts: Sequence[str], keys: Sequence[bytes], kind: EmbedKind) -> Vectors:
        import numpy as np

        tokens = 0
        if self.rates and self.rates.limits_tokens:
            tokens = await asyncio.to_thread(lambda: sum(count_tokens(text) for text in texts))
        async with self.limiter.slot((0, 0), 1, tokens):
            began = time.monotonic()
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    vectors = await self.embedder.embed(texts, kind)
            except TimeoutError:
                raise TimedOut(f"no reply from embedders.{self.name} within {TIMEOUT_S:g} s") from None
        with np.errstate(over="ignore"):  # what is too large for single precision is infinite
            vectors = np.asarray(vectors, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.shape[1]:
            raise BadReply(f"embedders.{self.name} gave an array of shape {vectors.shape} for {len(texts)} texts")
        if not np.isfinite(vectors).all():
            raise BadReply(f"embedders.{self.name} gave a vector that is not finite")
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
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.embedder.aclose()
