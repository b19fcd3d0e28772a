"""A run's directory: the names of its files, and which stages are finished."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lrf.store.files import dump, read_json, sha256_of, write_json
from lrf.types import JSON


@dataclass(frozen=True, slots=True)
class RunDir:
    """Names of the files of a run."""

    path: Path

    @property
    def journal(self) -> Path:
        return self.path / "journal.sqlite"

    @property
    def pipeline(self) -> Path:
        return self.path / "pipeline.yaml"

    @property
    def versions(self) -> Path:
        return self.path / "versions.json"

    @property
    def candidates(self) -> Path:
        return self.path / "candidates.jsonl"

    @property
    def rewards(self) -> Path:
        return self.path / "rewards.jsonl"

    @property
    def scored(self) -> Path:
        return self.path / "scored.jsonl"

    @property
    def judgements(self) -> Path:
        return self.path / "judgements.jsonl"

    @property
    def pairs(self) -> Path:
        return self.path / "pairs.jsonl"

    @property
    def pairs_parquet(self) -> Path:
        return self.path / "pairs.parquet"

    @property
    def lists(self) -> Path:
        return self.path / "lists.jsonl"

    @property
    def prompts(self) -> Path:
        return self.path / "prompts.jsonl"

    @property
    def prompt_samples(self) -> Path:
        return self.path / "prompt_samples.jsonl"

    @property
    def left_out(self) -> Path:
        return self.path / "left_out.jsonl"

    def drop_pairs(self) -> None:
        """Remove pairs and lists, which were made of rewards that have changed since."""
        for path in (self.pairs, self.pairs_parquet, self.lists, self.left_out):
            path.unlink(missing_ok=True)

    @property
    def bad_rows(self) -> Path:
        return self.path / "bad_rows.jsonl"

    def policy(self, trainer: str) -> Path:
        """The folder of what this type of trainer makes."""
        return self.path / "policy" / trainer

    @property
    def launch(self) -> Path:
        return self.path / "launch"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def rescore(self) -> Path:
        return self.path / "rescore.json"

    def record(self, stage: str) -> StageRecord:
        return StageRecord(self.path / "stages" / f"{stage}.json", self.path)


@dataclass(frozen=True, slots=True)
class StageRecord:
    """The record of a finished stage: the fingerprint of its input, hashes of its files, and its result as JSON."""

    file: Path
    run_dir: Path

    def finished(self, fingerprint: str) -> Mapping[str, JSON] | None:
        """The recorded result, if the fingerprint is this one and the files have not changed since; else None."""
        record = read_json(self.file)
        match record:
            case {"fingerprint": recorded, "files": dict(files), "counts": dict(counts)} if recorded == fingerprint:
                changed = any(sha256_of(self.run_dir / name) != digest for name, digest in files.items())
                return None if changed else counts
        return None

    @property
    def fingerprint(self) -> str | None:
        """The recorded fingerprint; None without a record."""
        record = read_json(self.file)
        return str(record["fingerprint"]) if isinstance(record, dict) and "fingerprint" in record else None

    def last(self) -> Mapping[str, JSON] | None:
        """The recorded result whatever its fingerprint, if the files have not changed since; else None."""
        record = read_json(self.file)
        return self.finished(str(record.get("fingerprint"))) if isinstance(record, dict) else None

    def write(self, fingerprint: str, files: Sequence[Path], counts: Mapping[str, JSON]) -> None:
        self.file.parent.mkdir(exist_ok=True)
        digests = {str(f.relative_to(self.run_dir)): sha256_of(f) for f in files}
        write_json(self.file, {"fingerprint": fingerprint, "files": digests, "counts": dict(counts)})


def said_by_system(error: OSError, otherwise: Path) -> str:
    """The file that an error is about (else ``otherwise``), and the system's message."""
    return f"{error.filename2 or error.filename or otherwise}: {error.strerror or error}"


def fingerprint(*parts: JSON) -> str:
    """A hash of JSON values in hexadecimal."""
    return hashlib.sha256(dump(parts).encode()).hexdigest()


def path_fingerprint(path: Path) -> JSON:
    """Sizes and times of a file, or of all files of a folder: changes when one of them does."""
    if path.is_dir():
        return [[str(p.relative_to(path)), *path_fingerprint(p)] for p in sorted(path.rglob("*")) if p.is_file()]
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]
