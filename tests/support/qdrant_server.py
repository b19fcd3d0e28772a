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
        done = {"operation_id": 0, "status": "completed"}
        if not name:
            return client.get_collections().model_dump(mode="json")
        there = client.collection_exists(name)
        match method, what:
            case "GET", ["exists"]:
                return {"exists": there}
            case "PUT", []:
                asked = models.CreateCollection(**body)
                return client.create_collection(
                    name, vectors_config=asked.vectors or {}, sparse_vectors_config=asked.sparse_vectors
                )
            case _ if not there:
                return None
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
