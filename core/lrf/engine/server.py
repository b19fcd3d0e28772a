"""The server behind a judge, an embedder or a sampler: what all calls to it go through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from lrf.engine.budget import BudgetLedger
from lrf.engine.faults import FaultListener, ignore
from lrf.engine.lease import KeptCalls, Lease
from lrf.engine.limiter import Limiter
from lrf.engine.queue import CallQueue
from lrf.engine.rate_limits import RateLimits
from lrf.engine.retries import Retries
from lrf.engine.stop import Stop
from lrf.prices import Price
from lrf.prompting.requests import Usage
from lrf.store.journal import Journal
from lrf.text.redaction import redact
from lrf.types import JSON

if TYPE_CHECKING:
    from lrf.engine.paid_call import PaidCall


class FinishedCall(NamedTuple):
    """A call that has ended: the arguments of the hook ``lrf_call_finished``, which says what they are."""

    judge: str
    kind: str
    sample_id: str
    attempt: int
    seconds: float
    error: str | None
    message: str | None
    dimension: str
    candidate_id: str
    model: str | None
    usage: Usage
    cost: float | None
    currency: str | None
    waited_s: float


CallListener = Callable[[FinishedCall], None]


@dataclass(slots=True, kw_only=True)
class Server:
    """A server that calls are made to.

    Parameters
    ----------
    name: its name in the pipeline; ``title`` is what errors call it: "judges.main".
    component: the judge, embedder or sampler that makes the calls.
    fault_reason: why a candidate is unscored when the component's own code fails; ``on_fault`` is called then.
    identity: what its replies depend on, as the journal keeps it.
    max_concurrency: the most calls in flight.
    adapts: whether the limit of calls in flight follows how the server copes.
    rates: what may be sent a minute, or None where that isn't limited.
    price: what its tokens cost, or None where that isn't known.
    model: what the model is called, where there is one.
    keeps_calls: whether it continues with a call that nobody waits for, and a later run gets the reply (a batch API).

    Attributes
    ----------
    limiter: how many calls may be in flight; ``queue`` is which goes next.
    retries: further attempts after a fault.
    lease: notes what is in flight, where there is a budget; ``kept`` does so for a server that keeps calls.
    sent: the calls that were sent and aren't answered yet, the oldest first.
    """

    name: str
    title: str
    component: object
    fault_reason: str
    identity: str
    journal: Journal
    ledger: BudgetLedger
    max_concurrency: int
    adapts: bool = True
    rates: RateLimits | None = None
    price: Price | None = None
    model: str | None = None
    listener: CallListener | None = None
    keeps_calls: bool = False
    on_fault: FaultListener = ignore
    limiter: Limiter = field(init=False)
    queue: CallQueue = field(init=False)
    retries: Retries = field(init=False)
    lease: Lease = field(init=False)
    kept: KeptCalls = field(init=False)
    sent: dict[int, PaidCall[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.max_concurrency, adapts=self.adapts)
        self.queue = CallQueue(self.limiter, self.rates)
        self.lease = Lease(self.journal, self.identity)
        self.kept = KeptCalls(self.journal, self.identity)
        self.retries = Retries(self.title, self.limiter, self.queue.stop, self._oldest_sent)

    def obey(self, stop: Stop) -> None:
        """Let this object stop the calls to the server from now on."""
        self.queue.obey(stop)
        self.retries.stop = stop

    def _oldest_sent(self) -> float | None:
        return self.oldest.began if self.oldest else None

    @property
    def oldest(self) -> PaidCall[Any] | None:
        """The call that has been in flight for longest."""
        return next(iter(self.sent.values()), None)


def model_of(identity: Mapping[str, JSON]) -> str | None:
    """What a component's identity calls its model."""
    model = identity.get("model")
    return redact(model) if isinstance(model, str) else None
