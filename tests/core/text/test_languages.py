"""Which prompts a text gets."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrf.text.languages import language_of

CHINESE = "这份报告总结了港口重建的经过，并说明了费用由谁承担。"
ENGLISH = "This report sums up how the harbour was rebuilt and who paid for it. "
JAPANESE = "この報告書は港の再建の経緯をまとめ、費用を誰が負担したかを説明している。"
KOREAN = "이 보고서는 항구 재건의 경위를 요약하고 비용을 누가 부담했는지 설명한다."


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (CHINESE, "zh"),
        ("繁體中文的報告也應該算作中文。", "zh"),
        ("我们用 Python 和 PyTorch 训练了一个 7B 的模型，然后在 LongBench 上评测。", "zh"),
        ("《海港》（The Harbour）是一部关于重建的小说。", "zh"),
        (ENGLISH, "en"),
        ("The word 龙 means dragon, and 海 means sea, the teacher said.", "en"),
        (JAPANESE, "en"),
        (KOREAN, "en"),
        ("Отчёт о восстановлении гавани.", "en"),
        ("", "en"),
        ("1234 5678 !!", "en"),
    ],
)
def test_a_text_is_chinese_only_when_han_dominates_without_kana_or_hangul(text: str, language: str) -> None:
    assert language_of(text) == language


def test_a_japanese_name_in_a_chinese_text_leaves_it_chinese() -> None:
    assert language_of(CHINESE * 5 + "作者是さくら。") == "zh"


def test_an_english_abstract_before_a_long_chinese_text_leaves_it_chinese() -> None:
    assert language_of(ENGLISH * 30 + CHINESE * 1_000) == "zh"


def test_a_chinese_title_page_before_a_long_english_text_leaves_it_english() -> None:
    assert language_of(CHINESE * 20 + ENGLISH * 2_000) == "en"


@pytest.mark.parametrize(
    ("chinese", "english", "language"), [(9, 1, "zh"), (6, 4, "zh"), (1, 99, "en"), (2, 98, "en"), (0, 100, "en")]
)
def test_a_long_mixed_text_has_the_language_of_most_of_it(chinese: int, english: int, language: str) -> None:
    parts = [CHINESE * 40] * chinese + [ENGLISH * 16] * english
    for seed in range(5):
        random.Random(seed).shuffle(parts)
        assert language_of("\n".join(parts)) == language


@given(st.text())
def test_any_text_has_a_language(text: str) -> None:
    assert language_of(text) in ("zh", "en")
