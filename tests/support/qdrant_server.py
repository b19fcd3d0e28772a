"""Qdrant's HTTP interface, as far as lrf uses it, in front of Qdrant's local mode: the server's path without a server.

What a real server does is tested where ``QDRANT_URL`` names one.
"""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web
from pydantic import TypeAdapter
from qdrant_client import QdrantClient, models

_POINTS: TypeAdapter[Any] = TypeAdapter(models.PointInsertOperations)


class LocalServer:
    """Answers requests, and remembers their methods and paths."""

    def __init__(self) -> None:
        self.client = QdrantClient(":memory:")
        self.requests: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(f"{request.method} {request.path}")
        body = json.loads(await request.read() or b"{}")
        result = self._answer(request.method, request.path.strip("/").split("/")[1:], body)
        if result is None:
            return web.json_response({"status": {"error": "Not found"}, "time": 0}, status=404)
        return web.json_response({"result": result, "status": "ok", "time": 0})

    def _answer(self, method: str, path: list[str], body: dict[str, Any]) -> Any:
        client, [name, *what] = self.client, path or [""]
        if not name:
            return client.get_collections().model_dump(mode="json")
        match method, what:
            case "GET", ["exists"]:
                return {"exists": client.collection_exists(name)}
            case "PUT", []:
                asked = models.CreateCollection(**body)
                return client.create_collection(
                    name, vectors_config=asked.vectors or {}, sparse_vectors_config=asked.sparse_vectors
                )
        return self._answer_of(name, method, what, body) if client.collection_exists(name) else None

    def _answer_of(self, name: str, method: str, what: list[str], body: dict[str, Any]) -> Any:
        client, done = self.client, {"operation_id": 0, "status": "completed"}
        match method, what:
            case "GET", []:
                return client.get_collection(name).model_dump(mode="json")
            case "DELETE", []:
                return client.delete_collection(name)
            case "PUT", ["index"]:
                return done
            case "PUT", ["points"]:
                client.upsert(name, _POINTS.validate_python(body).batch)
                return done
            case "POST", ["points", "delete"]:
                client.delete(name, models.FilterSelector(**body))
                return done
            case "POST", ["points", "query", "batch"]:
                found = client.query_batch_points(name, models.QueryRequestBatch(**body).searches)
                return [answer.model_dump(mode="json") for answer in found]
        return None
