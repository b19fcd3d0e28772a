"""The classes of servers' words for a reply's end."""

from __future__ import annotations

import pytest

from lrf.http.finish import finish_of, unknown_word


@pytest.mark.parametrize(
    ("finish", "words"),
    [
        ("stop", ["stop", "STOP", "FinishReason.STOP", "end_turn", "EOS", "eos_token", "stop_sequence", "complete"]),
        ("length", ["length", "LENGTH", "MAX_TOKENS", "max-tokens", "Max Tokens", "max_output_tokens", "maxTokens"]),
        ("length", ["FINISH_REASON_MAX_TOKENS", "model_context_window_exceeded", "token_limit_reached", "truncated"]),
        ("filter", ["content_filter", "ContentFilter", "SAFETY", "PROHIBITED_CONTENT", "refusal", "sensitive"]),
        ("filter", ["guardrail_intervened", "IMAGE_SAFETY", "content_filtered"]),
        ("tool_call", ["tool_calls", "TOOL_USE", "function_call"]),
        ("error", ["error", "ERROR", "network_error", "insufficient_system_resource", "abort", "upstream_failure"]),
    ],
)
def test_a_word_has_the_same_class_in_any_case_and_spelling(finish: str, words: list[str]) -> None:
    assert {word: finish_of(word) for word in words} == dict.fromkeys(words, finish)
    assert not any(map(unknown_word, words))


@pytest.mark.parametrize("word", ["OTHER", "pause_turn", "fnord", "x" * 10_000])
def test_an_unknown_word_is_kept_and_not_taken_for_the_end(word: str) -> None:
    assert finish_of(word) == "other"
    assert unknown_word(word) == word[:60]


@pytest.mark.parametrize("nothing", [None, ""])
def test_that_there_is_no_word_is_kept_too(nothing: str | None) -> None:
    assert finish_of(nothing) == "other"
    assert unknown_word(nothing) == "(none)"


@pytest.mark.parametrize("odd", [0, 7, True, ["stop"], {"type": "stop"}])
def test_what_is_no_word_is_unknown(odd: object) -> None:
    assert finish_of(odd) == "other"
    assert unknown_word(odd) == str(odd)
