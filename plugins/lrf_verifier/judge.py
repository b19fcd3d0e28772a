"""The judge ``verifier``: a sequence classifier in this process, owned by one thread."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from functools import cached_property

from lrf.errors import JudgeMisconfiguredError
from lrf.local_models import Compute, LocalModel, weights_identity
from lrf.prompting.claims import Claim, claim_of
from lrf.prompting.requests import Reply, Request, Usage
from lrf.protocols import Capabilities
from lrf.types import JSON

# Threads of torch that spin while they wait starve every other process that wants a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from lrf_verifier.model import PairClassifier, VerdictShares
from lrf_verifier.settings import VerifierSettings


class Verifier(LocalModel[VerifierSettings, Claim, VerdictShares]):
    """Gives the probability of each verdict on a statement, by its evidence; it answers no other request.

    Evidence longer than the model reads is split into overlapping windows, and the window that supports the statement
    most counts (MiniCheck, arXiv 2404.10774, section 3). Requests that arrive during a batch form the next one.
    """

    capabilities = Capabilities(probabilities=True, kinds=("verdict",))

    @cached_property
    def identity(self) -> Mapping[str, JSON]:
        s = self._settings
        return {
            "type": "verifier",
            **s.identity_fields(),
            **weights_identity(s.model, s.revision),
            "transformers": importlib.metadata.version("transformers"),
        }

    async def complete(self, request: Request) -> Reply:
        shares = await self._ask(self._claim(request))
        probabilities = {option: shares.probabilities.get(option[2:-2], 0.0) for option in request.options}
        return Reply("", usage=Usage(prompt_tokens=shares.tokens), probabilities=probabilities)

    def _claim(self, request: Request) -> Claim:
        claim = claim_of(request, self._settings.evidence_field, self._settings.statement_field)
        unknown = sorted(set(self._settings.labels.values()) - set(claim.supports))
        if unknown:
            raise JudgeMisconfiguredError(
                f"judge verifier: `labels` names the verdict {unknown[0]!r}; allowed: {', '.join(claim.supports)}"
            )
        return claim

    def _load(self) -> Compute[Claim, VerdictShares]:
        classifier = PairClassifier(self._settings)
        return lambda pairs, wanted: classifier.verify(pairs)
