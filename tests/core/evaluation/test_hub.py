"""Benchmarks of the Hugging Face hub: files are taken from its cache, and what is missing is said in a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from lrf.cli.main import invoke
from lrf.errors import ConfigError, DataError
from lrf.evaluation.hub import hub_files


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of a machine without network, with one data set in it, laid out as the hub's client does."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    of_set = tmp_path / "datasets--owner--set"
    (of_set / "refs").mkdir(parents=True)
    (of_set / "refs/main").write_text("abc")
    files = of_set / "snapshots/abc"
    for name in ("data/dev-0.jsonl", "data/test-0.jsonl", "data/test-1.jsonl", "README.md", "notes.json"):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text('{"query": "q", "answer_a": "a", "answer_b": "b", "preferred": "a"}\n')
    return files


def test_files_come_from_the_cache_those_of_the_test_split_unless_a_pattern_says_otherwise(cached: Path) -> None:
    assert hub_files("hf:owner/set") == [cached / "data/test-0.jsonl", cached / "data/test-1.jsonl"]
    assert hub_files("hf:owner/set@main/data/dev*") == [cached / "data/dev-0.jsonl"]
    with pytest.raises(DataError, match=r"no such files in the data set; it has README\.md, data/dev-0\.jsonl"):
        hub_files("hf:owner/set/data/train*")


def test_a_benchmark_is_read_from_the_hub(cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = tmp_path / "rewards.jsonl"
    recorded.write_text('{"sample_id": "0", "candidate_id": "0", "reward": 1}\n')
    assert invoke(["bench", "pairs", "--data", "hf:owner/set/data/dev*", "--recorded", str(recorded)]) == 0
    assert "1 questions" in capsys.readouterr().out
    assert invoke(["bench", "pairs", "--data", "hf:owner/other", "--recorded", str(recorded)]) == 2
    assert "hf:owner/other: the hub can't be reached, and the files aren't in its cache" in capsys.readouterr().err
    assert invoke(["bench", "pairs", "--data", "nowhere.csv", "--recorded", str(recorded)]) == 2
    assert "--data: nowhere.csv does not exist" in capsys.readouterr().err


class RefusedError(GatedRepoError):
    def __init__(self) -> None:
        Exception.__init__(self, "refused")


class MissingError(RepositoryNotFoundError):
    def __init__(self) -> None:
        Exception.__init__(self, "missing")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RefusedError(), "accept its terms at https://huggingface.co/datasets/owner/set first"),
        (MissingError(), "no such data set, or it is private"),
        (OSError("boom\nmore"), "can't be fetched from the hub: OSError: boom$"),
    ],
)
def test_what_the_hub_refuses_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(DataError, match=says):
        hub_files("hf:owner/set")
    with pytest.raises(ConfigError, match="expected hf:OWNER/NAME"):
        hub_files("hf:owner")
