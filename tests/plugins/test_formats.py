"""``lrf export`` and ``lrf import``: every row comes out or is listed, and the real readers read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import lrf
from judge_server import JudgeServer
from lrf.cli.main import invoke
from lrf.rows.asked import sample_asked
from lrf.rows.document_store import DocumentStore
from lrf_doors.rows import request_of
from lrf_formats.export_command import FORMATS
from lrf_formats.pair_formats import PAIR_FORMATS
from project import Project


@pytest.fixture
def run(project: Project, judge_server: JudgeServer) -> Path:
    """A finished run with pairs, one candidate of which is unscored."""
    judge_server.fault("garbage", None, lambda prompt: "fee of 204 euros. It was signed in 200" in prompt)
    project.write_data(3)
    lrf.run(project.pipeline(max_unscored=1.0), runs=project.runs)
    return project.run_dir


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def exported(run: Path, format_: str) -> list[Any]:
    assert invoke(["export", str(run), "--format", format_]) == 0
    file = run / "exports" / f"{format_}.{'parquet' if format_ == 'verl' else 'jsonl'}"
    return pq.read_table(file).to_pylist() if format_ == "verl" else lines(file)


def test_every_format_has_all_rows_or_lists_them(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = lines(run / "pairs.jsonl")
    assert pairs
    expected = {name: len(pairs) for name in PAIR_FORMATS} | {"kto": 2 * len(pairs)}
    expected |= {"rewards": 15, "ranked": 3, "inspect": 14, "prompts": 3, "verl": 3}
    for name in FORMATS:
        assert len(exported(run, name)) == expected[name], name
        assert f"{expected[name]} rows of" in capsys.readouterr().out
    (left_out,) = lines(run / "exports" / "inspect.jsonl.left_out.jsonl")
    assert left_out == {"row": "sample-1/c4", "reason": "unscored: no_rating"}
    assert not (run / "exports" / "trl.jsonl.left_out.jsonl").exists()


def test_the_rows_say_what_the_pairs_say(run: Path) -> None:
    (pair, *_) = lines(run / "pairs.jsonl")
    (trl, *_) = exported(run, "trl")
    assert trl == {name: pair[name] for name in ("prompt", "chosen", "rejected")}
    (swift, *_) = exported(run, "ms_swift")
    assert swift["messages"] == pair["prompt"] + pair["chosen"]
    assert swift["margin"] == pair["chosen_reward"] - pair["rejected_reward"]
    (factory, *_) = exported(run, "llama_factory")
    assert factory["chosen"] == {"from": "gpt", "value": pair["chosen"][0]["content"]}
    info = json.loads((run / "exports" / "dataset_info.json").read_text())
    assert (info["lrf"]["file_name"], info["lrf"]["ranking"]) == ("llama_factory.jsonl", True)
    (nemo, *_) = exported(run, "nemo_rl")
    assert [c["rank"] for c in nemo["completions"]] == [0, 1]
    for row in exported(run, "ranked"):
        assert row["rewards"] == sorted(row["rewards"], reverse=True)
    assert {"label"} < exported(run, "kto")[0].keys()


def test_the_real_readers_read_the_files(run: Path) -> None:
    datasets = pytest.importorskip("datasets")
    data_utils = pytest.importorskip("trl.data_utils")
    for name in ("trl", "kto", "ms_swift", "axolotl", "ranked", "prompts"):
        rows = exported(run, name)
        loaded = datasets.load_dataset("json", data_files=str(run / "exports" / f"{name}.jsonl"), split="train")
        assert len(loaded) == len(rows)
    assert data_utils.is_conversational(exported(run, "trl")[0])


def test_verls_rows_name_the_document_and_question_for_the_door(run: Path) -> None:
    (row, *_) = exported(run, "verl")
    sample = next(iter(lrf.load_run(run))).sample
    request = request_of(
        None, {**row["extra_info"], "ground_truth": row["reward_model"]["ground_truth"]}, ["An answer."]
    )
    asked = sample_asked(request, DocumentStore(), "")
    assert (asked.query, asked.documents) == (sample.query, sample.documents)
    assert [turn["role"] for turn in row["prompt"]] == ["user"]


TURNS = [{"role": "user", "content": "Hello there, who are you?"}]
GIVEN: dict[str, list[Any]] = {
    "pairs": [
        {"prompt": "Who?", "chosen": "I", "rejected": "You", "chosen_model": "m1"},
        {"chosen": [*TURNS, {"role": "assistant", "content": "I"}],
         "rejected": [*TURNS, {"role": "assistant", "content": "You"}]},
    ],
    "ms_swift": [{"messages": [*TURNS, {"role": "assistant", "content": "I"}], "rejected_response": "You"}],
    "llama_factory": [{"conversations": [{"from": "human", "value": "Who?"}], "system": "Be kind.",
                       "chosen": {"from": "gpt", "value": "I"}, "rejected": {"from": "gpt", "value": "You"}}],
    "kto": [{"prompt": TURNS, "completion": [{"role": "assistant", "content": "I"}], "label": True}],
    "ultrafeedback": [{"instruction": "Who?", "completions": [{"model": "a", "response": "I", "overall_score": 7}]}],
    "distilabel": [{"instruction": "Who?", "generations": ["I", None, "You"], "generation_models": ["a", "b", "c"]}],
    "helpsteer": [{"prompt": "Who?", "response": "I", "helpfulness": 3}],
    "longbench": [{"input": "Who?", "context": "A text.", "answers": ["I"], "_id": "x1"}],
}  # fmt: skip


@pytest.mark.parametrize("form", GIVEN)
def test_a_known_form_is_recognised_and_becomes_rows_that_a_pipeline_reads(form: str, tmp_path: Path, capsys) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in [*GIVEN[form], {"something": "else"}]))
    assert invoke(["import", str(file), "-o", str(out)]) == 0
    said = capsys.readouterr()
    assert f"read as {form}" in said.err
    assert f"{len(GIVEN[form])} rows of {len(GIVEN[form]) + 1}" in said.out
    (left_out,) = lines(tmp_path / "out.jsonl.left_out.jsonl")
    assert left_out["row"] == str(len(GIVEN[form]) + 1)
    rows = lines(out)
    texts = [c["text"] for c in rows[0]["candidates"]]
    assert texts == {"longbench": [], "kto": ["I"], "ultrafeedback": ["I"], "helpsteer": ["I"]}.get(form, ["I", "You"])


def test_columns_of_a_csv_are_named(tmp_path: Path, capsys) -> None:
    file, out = tmp_path / "in.csv", tmp_path / "out.jsonl"
    file.write_text('doc,q,a1,a2\n"A text, of one line.",Who?,I,You\n,Who?,I,You\n')
    assert invoke(["import", str(file), "-o", str(out)]) == 2
    assert "name the columns" in capsys.readouterr().err
    named = [f"--column={c}" for c in ("context=doc", "query=q", "candidates=a1", "candidates=a2")]
    assert invoke(["import", str(file), "-o", str(out), *named]) == 0
    assert [[c["text"] for c in row["candidates"]] for row in lines(out)] == [["I", "You"]]
    assert "context" in lines(tmp_path / "out.jsonl.left_out.jsonl")[0]["reason"]
    assert invoke(["import", str(file), "-o", str(out), "--column", "query=gone"]) == 2
    assert "no column 'gone'" in capsys.readouterr().err


def test_a_run_without_what_is_exported_is_named(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exported(run, "llama_factory")
    assert (run / "exports" / "dataset_info.json").exists()
    pairs = run / "pairs.jsonl"
    for text, says in (("{\n", ":1: no pair"), ("[1]\n", ":1: no pair"), (None, "has made pairs")):
        pairs.unlink() if text is None else pairs.write_text(text)
        assert invoke(["export", str(run), "--format", "trl"]) == 2
        assert says in capsys.readouterr().err
    run.parents[1].joinpath("data.jsonl").unlink()
    assert invoke(["export", str(run), "--format", "ranked"]) == 2
    assert "the texts are not there" in capsys.readouterr().err


def test_a_sample_with_one_scored_answer_and_turns_with_tools_are_left_out(
    project: Project, judge_server: JudgeServer
) -> None:
    judge_server.fault("garbage", None, lambda prompt: "fee of 100 euros. It was" not in prompt)
    project.write_data(1)
    lrf.run(project.pipeline(max_unscored=1.0), runs=project.runs)
    assert exported(project.run_dir, "ranked") == []
    reasons = [row["reason"] for row in lines(project.run_dir / "exports" / "ranked.jsonl.left_out.jsonl")]
    assert sorted(reasons) == ["alone: nothing to rank", *["unscored"] * 4]
    turn = [{"role": "tool", "content": "t"}]
    said = {name: [{"role": "assistant", "content": name}] for name in ("chosen", "rejected")}
    pair = {"prompt": turn, **said, "chosen_reward": None, "rejected_reward": 1.0, "sample_id": "s"}
    (project.run_dir / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    assert exported(project.run_dir, "llama_factory") == []
    assert "margin" not in exported(project.run_dir, "ms_swift")[0]


def test_rows_that_are_none_of_the_form_are_left_out_with_the_reason(tmp_path: Path, capsys: Any) -> None:
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text('{"q": "Who?", "doc": "A text.", "a": ["I", null, 7]}\n[1]\n{\n{"q": "Who?", "doc": "A text."}\n')
    assert invoke(["import", str(file), "-o", str(out), "--column", "colour=q"]) == 2
    assert "--column colour=q: expected FIELD=COLUMN" in capsys.readouterr().err
    named = ["--column=query=q", "--column=context=doc"]
    assert invoke(["import", str(file), "-o", str(out), *named]) == 0
    assert len(lines(out)) == 2
    assert [row["row"] for row in lines(tmp_path / "out.jsonl.left_out.jsonl")] == ["2", "3"]
    assert invoke(["import", str(file), "-o", str(out), "--format", "kto"]) == 0
    assert lines(out) == []
    whole = tmp_path / "in.json"
    whole.write_text('{"q": "Who?", "doc": "A text."}')
    assert invoke(["import", str(whole), "-o", str(out), *named]) == 0
    assert [row["query"] for row in lines(out)] == ["Who?"]
