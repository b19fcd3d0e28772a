"""Anthropic's error types by their remedy."""

from __future__ import annotations

from lrf.http.failures import ErrorCodes

ANTHROPIC_CODES = ErrorCodes(
    wait=frozenset({"rate_limit_error", "overloaded_error"}),
    stop=frozenset({"authentication_error", "billing_error", "not_found_error", "permission_error"}),
    reject=frozenset({"invalid_request_error", "request_too_large"}),
    busy=frozenset({"api_error", "timeout_error"}),
    hints={
        "billing_error": "check the account's billing, then run again",
        "not_found_error": "check `model` and `base_url`",
        "request_too_large": "the prompt is longer than the API takes",
    },
)

NO_CREDIT = "credit balance is too low"
"""In the message of an ``invalid_request_error``: the account has no credit. It has no error type."""
