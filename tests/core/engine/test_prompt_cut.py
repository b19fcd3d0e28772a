"""Prompts of which a server dropped a part."""

from __future__ import annotations

import pytest

from lrf.engine.prompt_cut import PromptCutError, check_whole, may_be_cut
from lrf.prompting.expectations import Rating
from lrf.prompting.requests import Reply, Request, Usage
from lrf.prompting.templates import Segment
from lrf.text.chunking import count_tokens

ENGLISH = "The council closed the tram line by seven votes to two after a long debate. "
CHINESE = "市议会经过长时间辩论，以七票对两票关闭了电车线路。"
THAI = "สภาเทศบาลลงมติปิดเส้นทางรถรางด้วยคะแนนเจ็ดต่อสอง "
CODE = "        if value is None:\n            return default\n"


def looks_cut(text: str, told: float, calls: int = 1) -> bool:
    """Whether a reply is refused whose server counts ``told`` tokens in a call."""
    request = Request((Segment(text, trusted=False),), Rating(), 64, 0.0)
    reply = Reply("[[7]]", usage=Usage(int(told * calls), 5, calls=calls))
    if not may_be_cut(request, reply):
        return False
    try:
        check_whole("judges.main", reply, count_tokens(text))
    except PromptCutError:
        return True
    return False


@pytest.mark.parametrize("text", [ENGLISH * 400, CHINESE * 400, THAI * 400, CODE * 800, "1234567890 " * 2000])
@pytest.mark.parametrize("share", [0.55, 0.7, 1.0, 2.0])
@pytest.mark.parametrize("calls", [1, 3])
def test_no_honest_tokenizer_is_suspected(text: str, share: float, calls: int) -> None:
    assert not looks_cut(text, share * count_tokens(text), calls)


@pytest.mark.parametrize("text", [ENGLISH * 400, CHINESE * 400, THAI * 400, CODE * 800])
def test_a_prompt_of_which_less_than_half_was_counted_is_cut(text: str) -> None:
    assert looks_cut(text, 0.4 * count_tokens(text))


def test_short_prompts_and_unreported_usage_say_nothing() -> None:
    assert not looks_cut(ENGLISH * 20, 10)
    assert not looks_cut(ENGLISH * 400, 0)


def test_the_error_names_both_numbers_and_what_helps() -> None:
    with pytest.raises(PromptCutError, match=r"counted 2,050 tokens of a prompt of about 4,483.*num_ctx") as caught:
        check_whole("judges.main", Reply("", usage=Usage(2050, 20)), 4483)
    assert caught.value.reason == "prompt_cut"
    assert caught.value.sent
