"""Calls to one embedder: each text once a run, gathered into batches across samples and candidates."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrf.engine.budget import BudgetLedger
from lrf.engine.checks import check_vectors
from lrf.engine.paid_call import Caller, PaidCall, Rated, Replied
from lrf.engine.rate_limits import RateLimits
from lrf.engine.server import Server
from lrf.engine.worst_case import WorstCase
from lrf.errors import Reason, StageError
from lrf.prompting.requests import Usage
from lrf.protocols import Embedder, EmbedKind
from lrf.store.journal import Journal, identity_text, vector_key
from lrf.text.chunking import count_tokens
from lrf.text.unicode import storable

if TYPE_CHECKING:
    from lrf.protocols import Vectors

LINGER_S = 0.02
TIMEOUT_S = 300.0


@dataclass(slots=True, eq=False)
class _Batch:
    """Texts that are sent together, by their keys; each waits for all."""

    arrived: asyncio.Future[dict[bytes, bytes]]
    texts: dict[bytes, str] = field(default_factory=dict)


@dataclass(slots=True)
class EmbedderCalls:
    """The engine's side of one embedder. :meth:`embed` is what a retriever gets as ``embed``.

    Parameters
    ----------
    name: the embedder's name in the pipeline.
    rates: what may be sent a minute, or None where that isn't limited.

    Attributes
    ----------
    server: what the embedder's calls go through.
    """

    name: str
    embedder: Embedder
    journal: Journal
    ledger: BudgetLedger
    rates: RateLimits | None = None
    server: Server = field(init=False)
    _dimensions: int | None = None
    _flying: dict[bytes, _Batch] = field(default_factory=dict)
    _filling: dict[EmbedKind, _Batch] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.server = Server(
            name=self.name,
            title=f"embedders.{self.name}",
            component=self.embedder,
            fault_reason=Reason.EMBEDDER_ERROR,
            identity=identity_text(self.embedder.identity),
            journal=self.journal,
            ledger=self.ledger,
            max_concurrency=self.embedder.max_concurrency,
            rates=self.rates,
        )

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        """Vectors of shape (len(texts), dimensions), float32: kept ones from the journal, the rest embedded.

        Raises :class:`lrf.errors.UnscorableError` when the embedder fails for good, :class:`lrf.errors.StageError` when
        it gives vectors of another length than before: they could not be compared.
        """
        import numpy as np

        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        text_of = await asyncio.to_thread(self._keyed, texts, kind)
        keys = [key for key, _ in text_of]
        kept, pending = await self._look_up(dict(text_of), kind)
        for arrived in await asyncio.gather(*(asyncio.shield(b.arrived) for b in dict.fromkeys(pending.values()))):
            kept.update(arrived)  # shielded: other callers wait for them, too
        return await asyncio.to_thread(self._stacked, [kept[key] for key in keys])

    def _keyed(self, texts: Sequence[str], kind: EmbedKind) -> list[tuple[bytes, str]]:
        """Each text as an embedder can take it (no half surrogate pairs), after the key of its vector."""
        storables = map(storable, texts)
        return [(vector_key(self.server.identity, kind, text), text) for text in storables]

    def _stacked(self, rows: Sequence[bytes]) -> Vectors:
        """The kept vectors as one array."""
        import numpy as np

        vectors = np.empty((len(rows), len(rows[0]) // 4), dtype=np.float32)
        for place, row in enumerate(rows):
            vector = np.frombuffer(row, dtype="<f4")
            self._check_length(vector.size)
            vectors[place] = vector
        return vectors

    async def _look_up(
        self, text_of: Mapping[bytes, str], kind: EmbedKind
    ) -> tuple[dict[bytes, bytes], dict[bytes, _Batch]]:
        """The vectors that are kept, and the batches that will bring the others, both by key."""
        # Taken before the look-up: what arrives meanwhile is no longer among those that are flying.
        flying = {key: self._flying[key] for key in text_of if key in self._flying}
        kept = await self.journal.vectors([key for key in text_of if key not in flying])
        pending = {
            key: flying.get(key) or self._flying.get(key) or self._enqueue(key, text, kind)
            for key, text in text_of.items()
            if key not in kept
        }
        return kept, pending

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
            vectors = await self.server.retries.run(lambda: self._call(texts, keys, kind))
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
        tokens = 0
        if self.rates and self.rates.limits_tokens:
            tokens = await asyncio.to_thread(lambda: sum(count_tokens(text) for text in texts))

        async def send(_deadline_s: float) -> tuple[Vectors, Sequence[Usage]]:
            return self._checked(await self.embedder.embed(texts, kind), len(texts)), ()

        async def commit(replied: Replied[Vectors]) -> None:
            self.ledger.embedding_calls += 1
            self.ledger.embedded_texts += len(texts)
            await self.journal.commit_vectors(self.server.identity, keys, replied.value, seconds=replied.seconds)

        call = PaidCall(
            server=self.server,
            # Queries first: a sample that has some is under way, and a long document's chunks are many calls.
            caller=Caller("", self.name, position=int(kind == "document")),
            kind=kind,
            send=send,
            commit=commit,
            worst=lambda: WorstCase(0, 0, 0),
            deadline_s=lambda: TIMEOUT_S,
            rated=Rated(1, tokens),
            counted=False,
        )
        return await call.run()

    def _checked(self, given: Vectors, count: int) -> Vectors:
        """The vectors as an array of shape (count, dimensions). Raises :class:`lrf.errors.BadReplyError`."""
        vectors = check_vectors(self.server.title, self.embedder, given, count)
        self._check_length(vectors.shape[1])
        return vectors

    def _check_length(self, dimensions: int) -> None:
        if self._dimensions is None:
            self._dimensions = dimensions
        elif dimensions != self._dimensions:
            raise StageError(
                f"embedders.{self.name} gave vectors of {self._dimensions} and of {dimensions} dimensions, which can't "
                "be compared: its name must belong to another model now. Set the old one back, or begin a new run "
                "(with another `cache`, if there is one)"
            )

    async def aclose(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        for batch in self._flying.values():  # of texts that no task has taken up yet, too
            batch.arrived.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.embedder.aclose()
