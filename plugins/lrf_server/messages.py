"""The bodies of requests and responses, as pydantic models: what is checked, and what OpenAPI says."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Detail = Literal["reward", "ratings", "reasons", "evidence"]
Text = str


class Body(BaseModel):
    """A request's body: an unknown field is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)


class DocumentRequest(Body):
    """A document to be named by its id from then on."""

    text: str = Field(min_length=1, description="The text.")


class DocumentResponse(BaseModel):
    id: str = Field(description="SHA-256 of the text's UTF-8 bytes, 64 hexadecimal digits.")


class Answer(Body):
    text: str = Field(description="The answer.")
    id: str | None = Field(default=None, description="Your own name for it; it isn't used.")


class ContextDocument(Body):
    text: str = Field(min_length=1, description="The document's text.")
    title: str | None = Field(default=None, description="Its title.")
    id: str | None = Field(default=None, description="Its name in evidence; by default its place, from 0.")


class RewardsRequest(Body):
    """Answers to one question on one context. Name the context by text, by id, or by the policy's prompt."""

    answers: list[str | Answer] = Field(min_length=1, max_length=1024, description="The answers, one or many.")
    query: str | None = Field(default=None, description="The question.")
    context: str | ContextDocument | list[ContextDocument] | None = Field(
        default=None, description="A text, a document, or documents."
    )
    document_ids: list[str] | None = Field(default=None, description="Ids of documents that were sent before.")
    prompt: str | list[dict[str, Any]] | None = Field(
        default=None,
        description="The policy's prompt, as text or turns: document and question are found in it by the pipeline's "
        "policy.prompt_template.",
    )
    messages: list[dict[str, Any]] | None = Field(
        default=None, description="Turns of a dialogue, each of which is a document."
    )
    reference: str | None = Field(default=None, description="A known good answer.")
    detail: Detail = Field(
        default="ratings",
        description="What comes with each reward: nothing, ratings by dimension, reasons, or reasons with evidence.",
    )
    deadline_s: float | None = Field(
        default=None, gt=0, le=3600, allow_inf_nan=False, description="Seconds to wait; then answers are pending."
    )


class RewardResponse(BaseModel):
    """The outcome of one answer. `reward` is a number for the status "scored" only: a failure is no zero."""

    id: str = Field(description="A hash of documents, question and answer.")
    status: Literal["scored", "unscored", "pending", "stopped"]
    reward: float | None = Field(description="0 to 10, or the aggregator's own range.")
    reason: str | None = Field(default=None, description="Why there is no reward: a word.")
    message: str | None = Field(default=None, description="Why there is no reward: a sentence.")
    ratings: dict[str, float | None] | None = Field(default=None, description="0 to 10 by dimension.")
    judgements: dict[str, Any] | None = Field(default=None, description="As in judgements.jsonl.")


class RewardsResponse(BaseModel):
    rewards: list[RewardResponse] = Field(description="One for each answer, in order.")
    document_ids: list[str] = Field(description="What the documents can be named by from now on.")


class ErrorResponse(BaseModel):
    error: str = Field(description="What was wrong, and what to do.")


class HealthResponse(BaseModel):
    status: Literal["ok"]
    pipeline: str
    open: int = Field(description="Answers that are being scored.")
