"""Calls to one embedder: each text once a run, gathered into batches across samples and candidates."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrf.engine.budget import BudgetLedger
from lrf.engine.checks import check_vectors
from lrf.engine.faults import fault_of_cancelled
from lrf.engine.paid_call import Caller, PaidCall, Rated, Replied
from lrf.engine.rate_limits import RateLimits
from lrf.engine.running import uncancel
from lrf.engine.server import Server
from lrf.engine.worst_case import WorstCase
from lrf.errors import BadReplyError, Reason, StageError, UnscorableError
from lrf.prompting.requests import Usage
from lrf.protocols import Embedder, EmbedKind
from lrf.store.journal import Journal, identity_text, vector_key
from lrf.text.chunking import count_tokens
from lrf.text.unicode import storable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lrf.protocols import Vectors

    Usable = tuple[Vectors, NDArray[np.bool_]]
    """Vectors, and which of them may be used."""

Outcome = bytes | UnscorableError
"""A text's vector as the journal keeps it, or why there is none."""

REASONS = {
    Reason.JUDGE_REJECTED: Reason.EMBEDDER_REFUSED,
    Reason.CONTEXT_TOO_SMALL: Reason.EMBEDDER_REFUSED,
    Reason.JUDGE_UNAVAILABLE: Reason.EMBEDDER_UNAVAILABLE,
    Reason.JUDGE_TIMED_OUT: Reason.EMBEDDER_UNAVAILABLE,
    Reason.JUDGE_BAD_REPLY: Reason.EMBEDDER_BAD_VECTORS,
}
"""The reasons of failed calls, as candidates are given them."""

LINGER_S = 0.02
TIMEOUT_S = 300.0
HOPELESS = 8
"""Texts that must all be refused, before any was embedded, for the run to stop."""
SAME = 3
"""Texts of different words that can't all have the same vector. Two can, if they differ in what a model passes over."""
_WORD = re.compile(r"\w+")


@dataclass(slots=True, eq=False)
class _Batch:
    """Texts that are sent together, by their keys. ``arrived`` brings each one's vector, or why it has none."""

    arrived: asyncio.Future[dict[bytes, Outcome]]
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
    _suspect: NDArray[np.float32] | None = None
    _flying: dict[bytes, _Batch] = field(default_factory=dict)
    _filling: dict[EmbedKind, _Batch] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _closed: bool = False

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

        Raises :class:`lrf.errors.UnscorableError` when the embedder gives one of these texts no usable vector,
        :class:`lrf.errors.StageError` when it gives vectors of another length than before: they could not be compared.
        """
        import numpy as np

        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        text_of = await asyncio.to_thread(self._keyed, texts, kind)
        keys = [key for key, _ in text_of]
        kept, pending = await self._look_up(dict(text_of), kind)
        for arrived in await asyncio.gather(*(asyncio.shield(b.arrived) for b in dict.fromkeys(pending.values()))):
            kept.update(arrived)  # shielded: other callers wait for them, too
        outcomes = [kept[key] for key in keys]
        vectors = [outcome for outcome in outcomes if isinstance(outcome, bytes)]
        if len(vectors) < len(outcomes):
            raise next(outcome for outcome in outcomes if isinstance(outcome, UnscorableError))
        return await asyncio.to_thread(self._stacked, vectors)

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
    ) -> tuple[dict[bytes, Outcome], dict[bytes, _Batch]]:
        """The vectors that are kept, and the batches that will bring the others, both by key."""
        # Taken before the look-up: what arrives meanwhile is no longer among those that are flying.
        flying = {key: self._flying[key] for key in text_of if key in self._flying}
        kept = await self.journal.vectors([key for key in text_of if key not in flying])
        pending = {
            key: flying.get(key) or self._flying.get(key) or self._enqueue(key, text, kind)
            for key, text in text_of.items()
            if key not in kept
        }
        return dict(kept), pending

    def _enqueue(self, key: bytes, text: str, kind: EmbedKind) -> _Batch:
        batch = self._filling.get(kind)
        if batch is None:
            batch = _Batch(asyncio.get_running_loop().create_future())
            if self._closed:  # while the text was looked up in the journal
                batch.arrived.cancel()
                return batch
            self._filling[kind] = batch
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
        try:
            outcomes = await self._outcomes(batch.texts, kind)
        except BaseException as error:
            if not batch.arrived.done():
                batch.arrived.set_exception(error)
                batch.arrived.exception()  # seen, also when every waiter has gone
            if not isinstance(error, Exception):
                raise
        else:
            if not batch.arrived.done():
                batch.arrived.set_result(outcomes)
        finally:
            for key in batch.texts:
                self._flying.pop(key, None)

    async def _outcomes(self, texts: Mapping[bytes, str], kind: EmbedKind) -> dict[bytes, Outcome]:
        """The outcome of each text. Raises :class:`lrf.errors.StageError` when the first ones are all refused."""
        outcomes = await self._narrowed(texts, await self._attempted(texts, kind), kind)
        refused = [o for o in outcomes.values() if isinstance(o, UnscorableError) and not o.transient]
        if self._dimensions is None and len(refused) == len(texts) >= HOPELESS:
            raise StageError(f"{self.server.title} refused each of the first {len(texts)} texts. {refused[0].detail}")
        return outcomes

    async def _narrowed(
        self, texts: Mapping[bytes, str], outcomes: dict[bytes, Outcome], kind: EmbedKind
    ) -> dict[bytes, Outcome]:
        """The outcomes, where texts that failed together were sent again in halves, until what fails is alone."""
        failed = {key: texts[key] for key, outcome in outcomes.items() if isinstance(outcome, UnscorableError)}
        if not failed or len(texts) == 1:
            return outcomes
        if len(failed) < len(texts):  # they got useless vectors in a reply that is usable otherwise
            alone = await asyncio.gather(*(self._attempted({key: text}, kind) for key, text in failed.items()))
            return outcomes | {key: outcome for one in alone for key, outcome in one.items()}
        items = list(texts.items())
        halves = [dict(items[: len(items) // 2]), dict(items[len(items) // 2 :])]
        attempts = await asyncio.gather(*(self._attempted(half, kind) for half in halves))
        both = attempts[0] | attempts[1]
        if all(isinstance(outcome, UnscorableError) and outcome.transient for outcome in both.values()):
            return both  # the server is in trouble, and no text is to blame
        for half, of_half in zip(halves, attempts, strict=True):
            both |= await self._narrowed(half, of_half, kind)
        return both

    async def _attempted(self, texts: Mapping[bytes, str], kind: EmbedKind) -> dict[bytes, Outcome]:
        """What a call for these texts, repeated after transient faults, brings for each."""
        try:
            vectors = await self.server.retries.run(lambda: self._call(texts, kind))
        except UnscorableError as error:
            return dict.fromkeys(texts, self._failure(error, list(texts.values())))
        except asyncio.CancelledError as cancelled:
            if self._closed or all(task.cancelling() for task in asyncio.all_tasks()):  # the loop ends
                raise
            uncancel()  # nobody but the embedder's own code wanted it
            fault = fault_of_cancelled(cancelled, self.server.title, self.embedder, Reason.EMBEDDER_ERROR)
            return dict.fromkeys(texts, fault)
        useless = UnscorableError(
            Reason.EMBEDDER_BAD_VECTORS, f"{self.server.title} gave a vector that says nothing", transient=True
        )
        return {key: useless if vector is None else vector for key, vector in zip(texts, vectors, strict=True)}

    def _failure(self, error: UnscorableError, texts: Sequence[str]) -> UnscorableError:
        """The error of a failed call, in words that speak of the embedder and of the text."""
        reason = next((of for judge, of in REASONS.items() if judge == error.reason), error.reason)
        words = error.detail if self.server.title in error.detail else f"{self.server.title}: {error.detail}"
        if len(texts) == 1:
            beginning = " ".join(texts[0].split())[:60]
            words += f" (for a text of {len(texts[0])} characters that begins with {beginning!r})"
        return UnscorableError(reason, words, transient=error.transient)

    async def _call(self, text_of: Mapping[bytes, str], kind: EmbedKind) -> list[bytes | None]:
        """A vector for each text as the journal keeps it, None for one that says nothing, which isn't kept."""
        keys, texts, tokens = list(text_of), list(text_of.values()), 0
        if self.rates and self.rates.limits_tokens:
            tokens = await asyncio.to_thread(lambda: sum(count_tokens(text) for text in texts))

        async def send(_deadline_s: float) -> tuple[Usable, Sequence[Usage]]:
            return self._checked(await self.embedder.embed(texts, kind), texts), ()

        async def commit(replied: Replied[Usable]) -> None:
            self.ledger.embedding_calls += 1
            self.ledger.embedded_texts += len(texts)
            vectors, usable = replied.value
            kept = [key for key, good in zip(keys, usable, strict=True) if good]
            await self.journal.commit_vectors(self.server.identity, kept, vectors[usable], seconds=replied.seconds)

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
        vectors, usable = await call.run()
        rows = vectors.astype("<f4", copy=False)
        return [row.tobytes() if good else None for row, good in zip(rows, usable, strict=True)]

    def _checked(self, given: Vectors, texts: Sequence[str]) -> Usable:
        """The vectors as an array of shape (texts, dimensions), and which of them say something.

        A vector whose numbers are all the same (zeros, as a rule) says nothing, nor does one that several texts of a
        call had alike, now or in an earlier call; that is right for a text without a word, such as an ellipsis. Raises
        :class:`lrf.errors.BadReplyError` when no vector of a text with words says anything, or when one is not finite.
        """
        import numpy as np

        count, title = len(texts), self.server.title
        vectors = check_vectors(title, self.embedder, given, count)
        if (vectors == vectors[0]).all() and len({frozenset(_WORD.findall(t.casefold())) for t in texts}) >= SAME:
            self._suspect = vectors[0]
        usable = (vectors != vectors[:, :1]).any(axis=1) if vectors.shape[1] > 1 else vectors[:, 0] != 0
        if self._suspect is not None and len(self._suspect) == vectors.shape[1]:
            usable &= (vectors != self._suspect).any(axis=1)
        wordless = np.array([not _WORD.search(text) for text in texts])
        if not (usable.any() or wordless.all()):
            raise BadReplyError(f"{title} gave {count} useless vectors (all zero, or all equal): is its model loaded?")
        self._check_length(vectors.shape[1])
        return vectors, usable | wordless

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
        self._closed = True
        for task in list(self._tasks):
            task.cancel()
        for batch in self._flying.values():  # of texts that no task has taken up yet, too
            batch.arrived.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.embedder.aclose()
