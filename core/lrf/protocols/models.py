"""Protocols of components that run a model: judges, samplers (the policy) and embedders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from lrf.prompting.requests import Reply, Request
from lrf.types import JSON, Message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

EmbedKind = Literal["document", "query"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a judge or a sampler can do beyond free text. The engine never asks it for anything else.

    Parameters
    ----------
    probabilities: it gives the probability of each of a few strings (``reply_mode="logprobs"``).
    structured: its replies follow a JSON schema (``reply_mode="json"``).
    seed: with the same seed it gives the same reply.
    context_window: tokens that prompt and reply may have together; a request that doesn't fit is refused before it is
        sent. None: not known.
    reasoning_tokens: tokens of reasoning that a reply may have beyond the request's limit; budgets include them.
    steady: the time of a reply follows from its length and the load, so deadlines and the number of concurrent calls
        are learned from it. False for a server that answers at any time (a batch API).
    calls: the most calls of its server that a request with ``reply_mode="logprobs"`` takes, each with the prompt. Any
        other request takes one.
    kinds: the only kinds of expectations it can answer (a verifier: ``("verdict",)``). None: all.
    questions: the most questions on one material that a request takes; above 1 it is an :class:`AnswersSeveral`.
    """

    probabilities: bool = False
    structured: bool = False
    seed: bool = False
    context_window: int | None = None
    reasoning_tokens: int = 0
    steady: bool = True
    calls: int = 1
    kinds: tuple[str, ...] | None = None
    questions: int = 1


@runtime_checkable
class Judge(Protocol):
    """A language model that answers requests. The engine does the rest: journal, retries, limits and parsing.

    >>> class Echo:
    ...     identity, capabilities = {"type": "echo"}, Capabilities()
    ...     max_concurrency, request_timeout_s = 4, 60.0
    ...     async def complete(self, request):
    ...         return Reply(f"It is fine. {request.options[-1] if request.options else ''}")
    ...     async def aclose(self):
    ...         return None
    """

    @property
    def identity(self) -> Mapping[str, JSON]:
        """Whatever changes its replies (type, model, sampling settings) and nothing else: no address and no key.

        Replies are kept in the journal under it. The same at each call.
        """
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do. The same at each call."""
        ...

    @property
    def max_concurrency(self) -> int:
        """The most requests that may be in flight at once, 1 or more."""
        ...

    @property
    def request_timeout_s(self) -> float:
        """Seconds after which a request is given up, above 0."""
        ...

    async def complete(self, request: Request) -> Reply:
        """The reply to one request.

        Send :func:`lrf.prompting.templates.prompt_text` of the prompt as it is: its untrusted text is escaped already.
        Raises a :class:`lrf.errors.JudgeError`, whose class says what happens next: RateLimitedError waits,
        UnavailableError, TimedOutError and BadReplyError are tried again, RejectedError leaves the candidate unscored,
        JudgeMisconfiguredError stops the run. Must not retry by itself.
        """
        ...

    async def aclose(self) -> None:
        """Release connections and models. May be called more than once."""
        ...


@runtime_checkable
class AnswersSeveral(Protocol):
    """Optional for a judge: it answers many questions on one material in one request, each by probabilities.

    Its ``capabilities.questions`` is the most in a request. The engine packs the questions of a sample that share
    material, so that the material is sent (and paid for) once.
    """

    async def complete_several(self, requests: Sequence[Request]) -> Sequence[Reply]:
        """One reply for each request, in order; ``reply_mode`` of all is "logprobs".

        The first ``request.material`` segments of their prompts are the same; what follows is the question. With 0,
        there is one request, and its whole prompt is material and question at once. ``request.repeat`` above 0 asks for
        the options in another order. The first one's ``deadline_s`` holds for all. The replies' usages add up to that
        of the call (:meth:`lrf.Usage.shared`). A question without an answer gets a reply whose ``finish`` says why:
        "missing", "filter" or "cut". Raises as :meth:`Judge.complete` does for what concerns all of them.
        """
        ...


@runtime_checkable
class Detachable(Protocol):
    """Optional for a judge whose server works on when nobody waits: a batch API, so its ``steady`` is False."""

    def detach(self) -> str | None:
        """Called when the run is stopped: end all waiting calls with :class:`lrf.errors.RunInterruptedError`.

        Returns in words for the user what a later run will find at the server, or None for nothing.
        """
        ...


@runtime_checkable
class ReportsMetrics(Protocol):
    """Optional for a judge: figures of its server for the run's log and summary."""

    async def metrics(self) -> Mapping[str, JSON]:
        """Figures since the judge's first request; empty if none are known. Raises :class:`lrf.errors.JudgeError`."""
        ...


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """What a sampler is asked for: candidates of one prompt, one for each seed.

    Parameters
    ----------
    messages: the prompt; its last turn is of "user" or "tool".
    seeds: one for each candidate wanted, 0 to 2**31 - 1.
    temperature: 0 or more; 0 takes the likeliest token at each step.
    top_p: above 0, to 1: only the likeliest tokens with this share of the probability are drawn from.
    max_tokens: limit of each candidate, 1 or more.
    tools: definitions of tools, as JSON schemas of functions.
    """

    messages: tuple[Message, ...]
    seeds: tuple[int, ...]
    temperature: float
    top_p: float
    max_tokens: int
    tools: tuple[Mapping[str, JSON], ...] = ()


@runtime_checkable
class Sampler(Protocol):
    """The policy: writes candidates. The engine does the rest, as for a judge.

    >>> class Constant:
    ...     identity, capabilities = {"type": "constant", "model": "none"}, Capabilities(seed=True)
    ...     per_call, max_concurrency, request_timeout_s = 8, 4, 60.0
    ...     async def sample(self, generation):
    ...         return [Reply("I don't know.") for _ in generation.seeds]
    ...     async def aclose(self):
    ...         return None
    """

    @property
    def identity(self) -> Mapping[str, JSON]:
        """Whatever changes its candidates besides :class:`GenerationSettings`; candidates are kept under it.

        Its "model" becomes the candidates' ``source``.
        """
        ...

    @property
    def capabilities(self) -> Capabilities:
        """Only ``seed`` (each candidate follows its own), ``context_window`` and ``reasoning_tokens`` count."""
        ...

    @property
    def per_call(self) -> int:
        """The most candidates of one prompt in a call, 1 or more."""
        ...

    @property
    def max_concurrency(self) -> int:
        """The most calls that may be in flight at once, 1 or more."""
        ...

    @property
    def request_timeout_s(self) -> float:
        """Seconds after which a call is given up, above 0."""
        ...

    async def sample(self, generation: GenerationSettings) -> Sequence[Reply]:
        """One reply for each seed, in order; its text is the candidate's.

        The ``usage`` of all replies adds up to that of the call: a prompt that is computed once counts in the first.
        Raises a :class:`lrf.errors.JudgeError`, as a judge does. Must not retry by itself.
        """
        ...

    async def aclose(self) -> None:
        """Release connections and models. May be called more than once."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors. The engine keeps vectors in the journal, and makes batches."""

    @property
    def identity(self) -> Mapping[str, JSON]:
        """Whatever changes its vectors, and nothing else: vectors are kept under it."""
        ...

    @property
    def batch_size(self) -> int:
        """The most texts in a call, 1 or more."""
        ...

    @property
    def max_concurrency(self) -> int:
        """The most calls that may be in flight at once, 1 or more."""
        ...

    async def embed(self, texts: Sequence[str], kind: EmbedKind) -> Vectors:
        """Vectors of shape (len(texts), dimensions), float32 and finite, in the order of the texts.

        ``kind`` is for models that embed queries otherwise than documents. Raises a :class:`lrf.errors.JudgeError`.
        """
        ...

    async def aclose(self) -> None:
        """Release connections and models. May be called more than once."""
        ...


Embed = Callable[[Sequence[str], EmbedKind], Awaitable["Vectors"]]
"""An embedder as the engine passes it on: with journal, batches and limits. Raises UnscorableError."""
