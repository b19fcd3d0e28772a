"""Anthropic's error types by their remedy."""

from __future__ import annotations

from lrf.http.error_classes import ErrorCodes

ANTHROPIC_CODES = ErrorCodes(
    wait=frozenset({"rate_limit_error", "overloaded_error"}),
    stop=frozenset({"authentication_error", "billing_error"}),
    setup=frozenset({"not_found_error"}),
    reject=frozenset({"invalid_request_error", "permission_error", "request_too_large"}),
    busy=frozenset({"api_error", "timeout_error"}),
    hints={
        "billing_error": "check the account's billing, then run again",
        "not_found_error": "check `model` and `base_url`",
        "request_too_large": "the prompt is longer than the API takes",
    },
)
