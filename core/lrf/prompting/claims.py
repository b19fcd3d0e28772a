"""A statement and its evidence in a request for a verdict, for judges that read fields instead of prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lrf.errors import RejectedError
from lrf.prompting.expectations import Verdict
from lrf.prompting.requests import Request


@dataclass(frozen=True, slots=True)
class Claim:
    """A statement with its evidence. ``supports`` has each verdict that is asked for, with its support, 0 to 1."""

    evidence: str
    statement: str
    supports: Mapping[str, float]


def claim_of(request: Request, evidence_field: str = "context", statement_field: str = "statement") -> Claim:
    """The claim in the fields of a request's prompt, as they were given, before escaping.

    Raises :class:`lrf.errors.RejectedError` for a request for anything but a verdict, and for one without these
    fields.
    """
    expects = request.expects
    if not isinstance(expects, Verdict):
        raise RejectedError(f"a verifier gives verdicts, no {expects.kind}")
    fields = {segment.name: segment.original for segment in request.prompt}
    evidence, statement = fields.get(evidence_field), fields.get(statement_field)
    if evidence is None or statement is None:
        present = ", ".join(sorted(name for name in fields if name)) or "none"
        raise RejectedError(
            f"the prompt has no fields {evidence_field} and {statement_field} (its fields: {present}); set "
            "evidence_field and statement_field"
        )
    return Claim(evidence, statement, expects.labels)
