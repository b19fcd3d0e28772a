"""What each kind of component must be able to do. A component is an ordinary class that satisfies one of these.

Every class is constructed with its settings as the only argument (the model that its
:class:`lrf.ComponentSpec` names); a retriever that needs an embedder also gets the ``embed`` function that the engine
made of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, runtime_checkable

from lrf.prompting.requests import Answer, Expectation, Reply, Request
from lrf.prompting.templates import Prompt
from lrf.text.tokenizers import DEFAULT, TokenizerName
from lrf.types import (
    JSON,
    BadRow,
    Candidate,
    Chunk,
    Document,
    Judgement,
    LeftOut,
    Message,
    PreferencePair,
    Reward,
    Sample,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

__all__ = [
    "Aggregator",
    "Capabilities",
    "Context",
    "Dimension",
    "Embedder",
    "GenerationSettings",
    "Index",
    "Judge",
    "Pairing",
    "Retriever",
    "Sampler",
    "Source",
    "Trainer",
    "TrainingJob",
    "TrainingResult",
]

T = TypeVar("T")

EmbedKind = Literal["document", "query"]


@runtime_checkable
class Source(Protocol):
    """Where samples come from. Read in a thread, one row at a time."""

    def read(self) -> Iterator[Sample | BadRow]:
        """All rows in order: a :class:`Sample`, or a :class:`BadRow` for each that is none.

        Raises :class:`lrf.errors.DataError` when the data can't be read at all.
        """
        ...


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """Candidates wanted of one prompt: one for each of ``seeds``, each drawn on its own.

    ``messages`` are the prompt, ending with a turn of "user" or "tool"; ``tools`` the definitions given beside it.
    ``temperature`` 0 asks for the likeliest token at each step; ``top_p`` (above 0, to 1) leaves only the likeliest
    tokens of that share; ``max_tokens`` is each candidate's limit.
    """

    messages: tuple[Message, ...]
    seeds: tuple[int, ...]
    temperature: float
    top_p: float
    max_tokens: int
    tools: tuple[Mapping[str, JSON], ...] = ()


@runtime_checkable
class Sampler(Protocol):
    """The policy: writes candidates. Journal, retries, limits and budget are the engine's, as for a judge."""

    @property
    def identity(self) -> Mapping[str, JSON]:
        """What the candidates depend on besides the drawing: part of the key under which they are kept.

        Its "model" becomes the candidates' ``source``.
        """
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Those that count: ``seed`` (each candidate follows its own), ``context_window``, ``reasoning_tokens``."""
        ...

    @property
    def per_call(self) -> int:
        """How many candidates of one prompt a call takes at most, 1 or more."""
        ...

    @property
    def max_concurrency(self) -> int:
        """How many calls it wants in flight at most, 1 or more."""
        ...

    @property
    def request_timeout_s(self) -> float:
        """Seconds after which a call is given up."""
        ...

    async def sample(self, generation: GenerationSettings) -> Sequence[Reply]:
        """A reply for each of the drawing's seeds, in order; its text is the candidate's.

        The replies' ``usage`` adds up to the call's: a prompt that is computed once counts in the first. Raises a
        :class:`lrf.errors.JudgeError` of the right class; never retries by itself.
        """
        ...

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a judge can do beyond free text.

    ``probabilities``: the probability of each of a few strings (``reply_mode="logprobs"``). ``structured``: replies held
    to a JSON schema. ``seed``: a seed makes a draw repeatable. ``context_window``: tokens that prompt and reply may
    have together; a request that doesn't fit is refused before it is paid for. None: not known.
    ``reasoning_tokens``: tokens that a reply may have beyond the request's limit (thoughts); budgets count on it.
    ``steady``: how long a reply takes follows from its length and the load, so that deadlines and the limit of calls
    in flight are learned from it; False for what answers when it likes (a batch API). ``calls``: calls of its server
    that a request with ``reply_mode="logprobs"`` may take at most, each with the prompt; any other takes one. ``kinds``: the
    only kinds of expectations that it can answer, where it can't all (a verifier: verdicts).
    """

    probabilities: bool = False
    structured: bool = False
    seed: bool = False
    context_window: int | None = None
    reasoning_tokens: int = 0
    steady: bool = True
    calls: int = 1
    kinds: tuple[str, ...] | None = None


@runtime_checkable
class Judge(Protocol):
    """An LLM that answers requests. It does nothing else: journal, retries, limits and parsing are the engine's."""

    @property
    def identity(self) -> Mapping[str, JSON]:
        """What its replies depend on (type, model, sampling settings): part of the key under which they are kept."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def max_concurrency(self) -> int:
        """How many requests it wants in flight at most, 1 or more."""
        ...

    @property
    def request_timeout_s(self) -> float:
        """Seconds after which a request is given up."""
        ...

    async def complete(self, request: Request) -> Reply:
        """One reply. Raises a :class:`lrf.errors.JudgeError` of the right class; never retries by itself."""
        ...

    async def aclose(self) -> None: ...


@runtime_checkable
class Detachable(Protocol):
    """What a judge may have besides: its server goes on with what was asked when nobody waits (a batch API)."""

    def detach(self) -> str | None:
        """The run is being stopped: end all waiting calls with :class:`lrf.errors.RunInterruptedError`.

        What a later run finds at the server, in words for the user; None for nothing.
        """
        ...


@runtime_checkable
class ReportsMetrics(Protocol):
    """What a judge may offer besides: figures of its server, shown in the run's log and summary."""

    async def metrics(self) -> Mapping[str, JSON]:
        """Since the judge's first request; empty where nothing is known. Raises a :class:`lrf.errors.JudgeError`."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Texts to vectors."""

    @property
    def identity(self) -> Mapping[str, JSON]: ...

    @property
    def batch_size(self) -> int:
        """How many texts one call takes at most, 1 or more."""
        ...

    @property
    def max_concurrency(self) -> int: ...

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        """Vectors of shape (len(texts), dimensions), float32, in order. Raises a :class:`lrf.errors.JudgeError`."""
        ...

    async def aclose(self) -> None: ...


Embed = Callable[[Sequence[str], EmbedKind], Awaitable["Vectors"]]
"""An embedder as the engine hands it on: journaled, batched, limited."""


class Index(Protocol):
    """The documents of one sample, ready to be searched."""

    async def search(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        """For each query its best chunks (``top_k`` at most, else the retriever's own number), in document order."""
        ...

    async def aclose(self) -> None:
        """Forget the documents."""
        ...


@runtime_checkable
class Retriever(Protocol):
    """Finds the pieces of a sample's documents that bear on a text."""

    async def index(self, documents: Sequence[Document]) -> Index: ...

    async def aclose(self) -> None: ...


@runtime_checkable
class ListsChunks(Protocol):
    """Optional for a retriever: says what evidence it can give, without searching, so that ``lrf plan`` can count it.

    A plan of a retriever without it takes every query to get all documents whole, and says so.
    """

    @property
    def chunks_per_query(self) -> int:
        """The most chunks that ``search`` gives a query without ``top_k``, 1 or more."""
        ...

    def chunks(self, documents: Sequence[Document]) -> Sequence[Chunk]:
        """All chunks of these documents that ``search`` may give. Blocking and pure: nothing is embedded or kept."""
        ...


@runtime_checkable
class SearchesInMemory(Protocol):
    """Optional for a retriever: can be had in a form that gives the same evidence and leaves no trace.

    ``lrf plan`` uses it, with vectors from a run's journal, to tell which questions about evidence were paid already. Of
    other retrievers it takes these to be unpaid.
    """

    def in_memory(self, embed: Embed | None) -> Retriever:
        """A retriever of the same results that keeps nothing on disk and asks no server.

        ``embed`` raises LookupError for a text without a vector; let it pass.
        """
        ...


class Context(Protocol):
    """What a dimension works with: the engine's side of one candidate of one sample.

    Everything it asks for is journaled, limited, retried, deduplicated and accounted for. Its methods raise
    :class:`lrf.errors.UnscorableError`; a dimension lets it pass.
    """

    @property
    def language(self) -> str:
        """Of the sample's documents: "zh" for Chinese, else "en"."""
        ...

    @property
    def context_window(self) -> int | None:
        """Tokens that prompt and reply may have together at every judge that is asked; None where none is known."""
        ...

    async def ask(self, prompt: Prompt, expects: Expectation[T], *, max_tokens: int = 512) -> Answer[T]:
        """Ask the dimension's judge.

        Build prompts with the part that many share first: instructions and examples, then document or notes, then
        candidate. First at temperature 0.01; again at 0.95, up to four times, while the reply doesn't hold what was
        expected (the paper's public code).
        """
        ...

    async def evidence(self, queries: Sequence[str], top_k: int | None = None) -> list[list[Chunk]]:
        """For each query the chunks of the sample's documents that bear on it, in document order."""
        ...

    def around(self, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Chunks (in document order) with as much of their documents again on both sides; what touches becomes one."""
        ...

    async def chunks(self, tokens: int, tokenizer: TokenizerName = DEFAULT) -> tuple[Chunk, ...]:
        """The sample's documents cut into chunks of at most that many tokens, counted by this tokenizer."""
        ...

    async def once(self, key: str, make: Callable[[], Awaitable[T]]) -> T:
        """Made once for the sample, whatever the number of candidates; ``key`` is the dimension's own."""
        ...


@runtime_checkable
class Dimension(Protocol):
    """One aspect of an answer's quality, rated 0 to 10. Holds no judge; keeps nothing between candidates."""

    async def score(self, sample: Sample, candidate: Candidate, ctx: Context) -> Judgement:
        """The candidate's judgement. Raises :class:`lrf.errors.UnscorableError` with a reason when there can be none."""
        ...


@runtime_checkable
class LimitsStatements(Protocol):
    """Optional for a dimension that asks for an answer's statements: how many it judges.

    The bound in a plan of a dimension without it assumes a hundred statements an answer, and the plan says so.
    """

    @property
    def max_statements(self) -> int:
        """The most statements of one answer that are asked about, 1 or more; an answer with more is unscored."""
        ...


@runtime_checkable
class Aggregator(Protocol):
    """Makes one reward of the dimensions' ratings. Synchronous and pure."""

    def aggregate(self, ratings: Mapping[str, float | None]) -> float | None:
        """The reward, or None if it can't be made of what there is."""
        ...


@runtime_checkable
class Pairing(Protocol):
    """Chooses a preference pair of a sample's candidates. Synchronous and pure."""

    def pair(self, sample: Sample, rewards: Sequence[Reward]) -> PreferencePair | LeftOut:
        """``rewards`` are in the order of ``sample.candidates``, one each."""
        ...


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What each process of a training is given.

    ``pairs`` and ``scored`` are JSONL files of the run, preference pairs and answers with their ratings; those that the
    trainer's settings name in ``reads`` are there. ``output`` is a folder that is the trainer's own: what lies there
    from before is of an interrupted training with the same data, policy and settings, and may be resumed. ``rank``
    counts the processes from 0, ``local_rank`` those of this machine, and ``world`` is their number; what rank 0
    reports is shown.
    """

    pairs: Path
    output: Path
    model: str | None
    seed: int
    prompt_template_sha256: str
    trust_remote_code: bool = False
    report: Callable[[Mapping[str, JSON]], None] = lambda _: None
    scored: Path | None = None
    rank: int = 0
    local_rank: int = 0
    world: int = 1


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What came of it: the checkpoint that transformers loads, and figures for the summary."""

    checkpoint: Path
    metrics: Mapping[str, JSON] = field(default_factory=dict)


@runtime_checkable
class Trainer(Protocol):
    """Makes a policy better. Runs once, in a process of its own or in several (its settings say how they share it)."""

    def train(self, job: TrainingJob) -> TrainingResult:
        """Called in every process; rank 0's result counts, once all have ended.

        Raises :class:`lrf.errors.StageError` with what to change.
        """
        ...


@dataclass(frozen=True, slots=True)
class LaunchJob:
    """What a launcher is to start: ``python -m module args`` in every process.

    ``name`` is the run's; ``folder`` is where the plan's files will lie, on a disk that all machines see.
    """

    name: str
    python: str
    module: str
    args: tuple[str, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """How processes are started, as data: nothing has been started or written yet.

    ``world`` processes, ``per_node`` of them on each machine. ``argv`` is the one command that starts them all and ends
    with them, with ``env`` added to its environment; it gets SIGTERM when they are to stop, and a standard input that
    ends when the run has died. Without ``argv`` the stage's own process is the one. ``files`` are texts by name for the
    job's folder; ``note`` is for the user.
    """

    world: int = 1
    per_node: int = 1
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@runtime_checkable
class Launcher(Protocol):
    """Starts the processes of a training. Each gets RANK, LOCAL_RANK and WORLD_SIZE in its environment."""

    def plan(self, job: LaunchJob) -> LaunchPlan:
        """Imports nothing heavy, starts and writes nothing. Raises :class:`lrf.errors.ConfigError`."""
        ...
