"""Base classes of judges, samplers and embedders behind an HTTP address: client, identity, limits and closing.

They are a convenience: lrf needs the methods of :mod:`lrf.protocols`, not a base class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from lrf.http.client import HttpClient
from lrf.http.error_classes import ErrorCodes
from lrf.http.settings import EndpointSettings
from lrf.protocols import Capabilities
from lrf.types import JSON

S = TypeVar("S", bound=EndpointSettings)


class _OverHttp(Generic[S]):
    """Settings, a client, and an identity made of the settings."""

    def __init__(
        self,
        settings: S,
        codes: ErrorCodes | None = None,
        *,
        identity: Mapping[str, JSON] | None = None,
        key_header: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.client = HttpClient(settings, codes, key_header=key_header, headers=headers)
        self._identity = {"type": type(self).__qualname__, **settings.identity_fields(), **(identity or {})}

    @property
    def identity(self) -> Mapping[str, JSON]:
        return self._identity

    @property
    def max_concurrency(self) -> int:
        return self.settings.max_concurrency

    async def aclose(self) -> None:
        await self.client.aclose()


class _Generator(_OverHttp[S]):
    """A component with capabilities and a deadline."""

    def __init__(
        self,
        settings: S,
        codes: ErrorCodes | None = None,
        *,
        identity: Mapping[str, JSON] | None = None,
        capabilities: Capabilities | None = None,
        key_header: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(settings, codes, identity=identity, key_header=key_header, headers=headers)
        self._capabilities = capabilities or Capabilities()

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    @property
    def request_timeout_s(self) -> float:
        return self.settings.request_timeout_s


class HttpJudge(_Generator[S]):
    """A :class:`lrf.protocols.Judge` without ``complete``, which a subclass adds.

    Parameters
    ----------
    settings: an :class:`lrf.http.settings.EndpointSettings`, kept as ``self.settings``.
    codes: the provider's error codes, where they say more than the status does.
    identity: what replies depend on besides :meth:`lrf.settings.Settings.identity_fields`, such as its type (by default
        the class's name). Never the address or a key.
    capabilities: what it can do beyond free text.
    key_header, headers: of ``self.client``, see :class:`lrf.http.client.HttpClient`.
    """


class HttpSampler(_Generator[S]):
    """A :class:`lrf.protocols.Sampler` without ``per_call`` and ``sample``. Parameters as of :class:`HttpJudge`."""


class HttpEmbedder(_OverHttp[S]):
    """An :class:`lrf.protocols.Embedder` without ``embed``, which a subclass adds. Parameters as of :class:`HttpJudge`.

    ``batch_size``: the most texts that one request takes.
    """

    def __init__(
        self,
        settings: S,
        codes: ErrorCodes | None = None,
        *,
        identity: Mapping[str, JSON] | None = None,
        batch_size: int,
        key_header: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(settings, codes, identity=identity, key_header=key_header, headers=headers)
        self._batch_size = batch_size

    @property
    def batch_size(self) -> int:
        return self._batch_size
