"""The settings that all components behind an HTTP address share. Imports nothing heavier than pydantic."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, field_validator

from lrf.settings import ModelReference, Settings

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LOCAL = (".local", ".internal", ".lan", ".localdomain", ".home.arpa", ".svc")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _env_name(name: str) -> str:
    like_a_key = len(name) >= 20 and re.search("[a-z]", name) and re.search("[0-9]", name)  # gsk_…, hf_…
    if not _ENV_NAME.fullmatch(name) or like_a_key:
        raise ValueError("must be the name of an environment variable that holds the key, never the key itself")
    return name


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http:// or https:// address, such as https://api.openai.com/v1")
    if parts.username or parts.password:
        raise ValueError("must not hold a user name or a password: put the key into an environment variable")
    if parts.query or parts.fragment:
        raise ValueError('must end with its path: no "?" and no "#"')
    return url.rstrip("/")


EnvName = Annotated[str, AfterValidator(_env_name)]
"""The name of an environment variable."""


def secret_variables(settings: Settings) -> Iterator[str]:
    """The environment variables that these settings name: those whose values are keys or headers."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if any(getattr(m, "func", None) is _env_name for m in field.metadata):
            yield value
        elif _env_name in _validators(field.annotation) and isinstance(value, Mapping):
            yield from value.values()
        elif _env_name in _validators(field.annotation) and isinstance(value, str):
            yield value


def _validators(annotation: Any) -> Iterator[Any]:
    """The functions of all validators inside an annotation."""
    yield from (getattr(m, "func", None) for m in getattr(annotation, "__metadata__", ()))
    for argument in get_args(annotation):
        yield from _validators(argument)


BaseUrl = Annotated[str, AfterValidator(_base_url)]
"""An HTTP address without credentials or query; a slash at its end is dropped."""

ContextWindow = Annotated[
    int | None,
    Field(
        ge=1,
        description="Tokens (o200k_base) that prompt and reply may have together. A longer request is refused before "
        "it is sent (context_too_small). null: the server decides.",
    ),
]
"""A judge's setting ``context_window``."""


KEY_VARIABLE = (
    "Environment variable that holds the key. null: the server needs none. While it isn't set, a run stops before its "
    "first call, unless the server is on this machine, or it is in a local network and the pipeline doesn't name the "
    "variable."
)
"""The description of ``api_key_env`` in settings whose server may do without a key."""


NO_KEY = "the environment variable {} is not set: set it, or `api_key_env: null` for a server that needs no key"
"""What is said of the variables that :func:`unset_variables` finds."""


class EndpointSettings(Settings):
    """The address of a server, the model to ask for, keys, and limits."""

    not_fingerprinted: ClassVar[frozenset[str]] = frozenset(
        {"base_url", "api_key_env", "header_env", "max_concurrency", "request_timeout_s", "max_reply_mb"}
    )

    # an error never shows the input: it could be a key in the wrong place
    model_config = ConfigDict(hide_input_in_errors=True)

    base_url: BaseUrl = Field(description="Address of the server's API, up to and without /chat/completions.")
    model: str = Field(min_length=1, description="Name of the model, as the server knows it.")
    api_key_env: EnvName | None = Field(description=KEY_VARIABLE)
    header_env: dict[str, EnvName] = Field(
        default_factory=dict, description="More headers: name of the header to environment variable with its value."
    )
    max_concurrency: int = Field(default=64, ge=1, description="Most requests in flight.")
    request_timeout_s: float = Field(default=600, gt=0, description="Seconds after which a request is given up.")
    max_reply_mb: float = Field(default=32, gt=0, description="Megabytes above which a reply is refused.")

    @property
    def model_reference(self) -> ModelReference:
        return ModelReference(self.model, urlsplit(self.base_url).hostname)

    @field_validator("header_env", mode="before")
    @classmethod
    def _names_of_headers(cls, given: Any) -> Any:
        # one error for all of them: an error for one would show its name, which could be a key in the wrong place
        if isinstance(given, dict) and not all(isinstance(name, str) and _HEADER.fullmatch(name) for name in given):
            raise ValueError("must have names of HTTP headers, such as X-Api-Key, without a colon or a value")
        return given


def unset_variables(settings: Settings) -> list[str]:
    """The environment variables from which a server's key or headers should come, and that are not set.

    None for a server on this machine. The default of ``api_key_env`` counts only where no header replaces the key and
    the server is not in a local network, where most need none.
    """
    if not isinstance(settings, EndpointSettings):
        return []
    host = urlsplit(settings.base_url).hostname or ""
    if _is_local(host, machine=True):
        return []
    variables = list(settings.header_env.values())
    assumed = "api_key_env" not in settings.model_fields_set
    if settings.api_key_env and not (assumed and (variables or _is_local(host))):
        variables.append(settings.api_key_env)
    return [name for name in variables if not os.environ.get(name, "").strip()]


def _is_local(host: str, *, machine: bool = False) -> bool:
    """Whether the host is in a local network, or on this very ``machine``, as far as its name says."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        named = host == "localhost" or host.endswith(".localhost")
        return named or (not machine and ("." not in host or host.endswith(_LOCAL)))
    return address.is_loopback or (not machine and address.is_private)
