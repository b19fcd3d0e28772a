"""A provider with a batch API on this machine, for tests: files, batches, and the judge server's replies in them.

It keeps books: which requests were in batches that it took. Batches run as soon as they are looked at, unless they are
held; what goes wrong is told beforehand.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web

from judge_server import JudgeServer

Outcome = dict[str, Any]


class BatchProvider(JudgeServer):
    """``taken`` counts the requests of batches that were not refused: what is paid for.

    ``held``: batches stay in progress. ``list_delay_s``: how long a list of them takes. ``ends``: the status that
    batches end with. ``outcome`` makes a request's result by its place in the batch; None is a request that had no
    turn. ``refuse`` makes the problems of a refused batch by its requests. ``faults_of`` has statuses to answer
    instead, by method and path, each once. ``texts_of`` has bodies to answer instead, with status 200. ``results``
    changes the results of a batch. ``kept_at`` is the address of a server that results are kept at; ``keys`` has those
    that requests came with.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.taken: Counter[str] = Counter()
        self.asked_for: Counter[str] = Counter()
        self.held = False
        self.keeps_metadata = True
        self.list_delay_s = 0.0
        self.ends = "completed"
        self.outcome: Callable[[int, dict[str, Any]], Outcome | None] = self.completion
        self.refuse: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda lines: []
        self.faults_of: dict[str, list[int]] = {}
        self.texts_of: dict[str, str] = {}
        self.kept_at: str | None = None
        self.keys: list[tuple[str | None, str | None]] = []
        self.results: Callable[[list[Outcome]], list[Outcome]] = lambda results: results
        self._numbers = itertools.count(1)

    def app(self) -> web.Application:
        app = super().app()
        app.middlewares.append(self._books)
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._retrieve)
        app.router.add_post("/v1/batches/{id}/cancel", self._cancel)
        return app

    def completion(self, place: int, line: dict[str, Any]) -> Outcome | None:
        body = line["body"]
        text = self.reply(body["messages"][0]["content"], body.get("temperature", 0.0))
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": len(str(body)) // 4, "completion_tokens": max(1, len(text) // 4)}
        return {"status_code": 200, "body": {"model": body["model"], "choices": [choice], "usage": usage}}

    @web.middleware
    async def _books(self, request: web.Request, handler: Any) -> web.StreamResponse:
        what = f"{request.method} {request.path}"
        self.keys.append((request.headers.get("Authorization"), request.headers.get("api-key")))
        with self._served:
            self.asked_for[what] += 1
            self._served.notify_all()
        for path, statuses in self.faults_of.items():
            if what.startswith(path) and statuses:
                status = statuses.pop(0)
                if status == 1:  # the connection breaks after the work was done
                    await handler(request)
                    assert request.transport is not None
                    request.transport.close()
                return web.json_response({"error": {"message": "told to fail"}}, status=max(status, 400))
        for path, text in self.texts_of.items():
            if what.startswith(path):
                kind = "text/html" if text.startswith("<") else "application/json"
                return web.Response(text=text, content_type=kind)
        response: web.StreamResponse = await handler(request)
        return response

    # --- files ------------------------------------------------------------------------------------------------------

    async def _upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        file: Any = form["file"]
        assert file.filename.endswith(".jsonl")
        name = self._keep(file.file.read())
        about = {"id": name, "object": "file", "bytes": len(self.files[name]), "created_at": int(time.time())}
        return web.json_response({**about, "filename": file.filename, "purpose": "batch", "status": "processed"})

    async def _content(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if self.kept_at is not None:
            raise web.HTTPFound(f"{self.kept_at}/files/{name}/content")
        if name not in self.files:
            return web.json_response({"error": {"message": f"No such File object: {name}"}}, status=404)
        return web.Response(body=self.files[name])

    def _keep(self, content: bytes) -> str:
        name = f"file-{next(self._numbers)}"
        self.files[name] = content
        return name

    # --- batches ----------------------------------------------------------------------------------------------------

    async def _create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert asked["completion_window"] == "24h"
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        assert len({line["custom_id"] for line in lines}) == len(lines)
        assert all(line["url"] == asked["endpoint"] for line in lines)
        problems = self.refuse(lines)
        with self._served:
            batch = {
                "id": f"batch_{next(self._numbers)}",
                "object": "batch",
                "endpoint": asked["endpoint"],
                "input_file_id": asked["input_file_id"],
                "completion_window": "24h",
                "created_at": int(time.time()),
                "metadata": asked.get("metadata") if self.keeps_metadata else None,
                "status": "failed" if problems else "in_progress",
                "errors": {"object": "list", "data": problems} if problems else None,
                "output_file_id": None,
                "error_file_id": None,
            }
            self.batches[batch["id"]] = batch
            if not problems:
                self.taken.update(line["custom_id"] for line in lines)
            self._served.notify_all()
        return web.json_response({**batch, "status": "validating", "errors": None})

    async def _list(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self.list_delay_s)
        newest = list(self.batches.values())[::-1]
        after = request.query.get("after")
        start = next((i + 1 for i, b in enumerate(newest) if b["id"] == after), 0)
        page = newest[start : start + 2]  # pages are short, so that they are turned
        more = start + 2 < len(newest)
        last = page[-1]["id"] if page else None
        return web.json_response({"object": "list", "data": page, "has_more": more, "last_id": last})

    async def _retrieve(self, request: web.Request) -> web.Response:
        batch = self.batches.get(request.match_info["id"])
        if batch is None:
            return web.json_response({"error": {"message": "no such batch"}}, status=404)
        if batch["status"] == "in_progress" and not self.held:
            self.run(batch)
        return web.json_response(batch)

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = self.batches[request.match_info["id"]]
        batch["status"] = "cancelled"
        return web.json_response(batch)

    def run(self, batch: dict[str, Any]) -> None:
        """The batch comes to its end."""
        good, bad = [], []
        for place, text in enumerate(self.files[batch["input_file_id"]].splitlines()):
            line = json.loads(text)
            response = self.outcome(place, line)
            result = {"id": f"r{place}", "custom_id": line["custom_id"], "response": response, "error": None}
            if response is None:
                result["error"] = {"code": f"batch_{self.ends}", "message": "it had no turn"}
            (good if response and response["status_code"] == 200 else bad).insert(0, result)  # in any order
        for key, results in (("output_file_id", good), ("error_file_id", bad)):
            if results:
                lines = (json.dumps(result) + "\n" for result in self.results(results))
                batch[key] = self._keep("".join(lines).encode())
        batch["status"] = self.ends
        batch["request_counts"] = {"total": len(good) + len(bad), "completed": len(good), "failed": len(bad)}

    def wait_for_batches(self, number: int) -> bool:
        """Wait until so many batches have been made."""
        return self.wait_until(lambda: len(self.batches) >= number)

    def wait_until(self, so: Callable[[], bool], timeout_s: float = 90.0) -> bool:
        """Wait until something is so that requests change."""
        with self._served:
            return self._served.wait_for(so, timeout_s)
