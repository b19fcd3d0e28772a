"""Answers as a vLLM server that loads weights: the model in the folder that it was told, sampled by torch."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM


class WeightsServer:
    """``loaded`` are the folders, in order. ``away`` is how many requests for answers get a 503 before the next.

    ``config`` is what it says of itself; without ``develops`` it is not in development mode.
    """

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.requests: list[dict[str, Any]] = []
        self.away = 0
        self.develops = True
        self.config = {"logprobs_mode": "processed_logprobs"}
        self.window = 1024
        self._model: Any = None
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._reply(*outer._get(self.path))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    self._reply(*outer._post(self.path, body))

            def _reply(self, status: int, value: Any) -> None:
                data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _get(self, path: str) -> tuple[int, Any]:
        if path == "/v1/models":
            model = {"id": "policy", "root": "/models/policy", "max_model_len": self.window}
            adapters = [{"id": "lrf-policy", "root": self.loaded[-1], "parent": "policy"}] if self.loaded else []
            return 200, {"data": [model, *adapters]}
        if path.startswith("/server_info") and self.develops:
            return 200, {"vllm_config": {"model_config": self.config}}
        return 404, {"detail": "Not Found"}

    def _post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/collective_rpc":
            return self._load(body["kwargs"]["weights_path"], {"results": [None]})
        if path == "/v1/load_lora_adapter":
            return self._load(body["lora_path"], "Success: LoRA adapter added successfully.")
        if path == "/reset_prefix_cache":
            return 200, {"success": True}
        if self.away:
            self.away -= 1
            return 503, {"error": {"message": "starting"}}
        self.requests.append(body)
        return 200, {"choices": [self._write(body, n) for n in range(body["n"])]}

    def _load(self, folder: str, reply: Any) -> tuple[int, Any]:
        if not (Path(folder) / "config.json").exists() and not (Path(folder) / "adapter_config.json").exists():
            return 500, {"error": {"message": f"no weights in {folder}"}}
        self.loaded.append(folder)
        self._model = AutoModelForCausalLM.from_pretrained(folder)
        return 200, reply

    def _write(self, body: dict[str, Any], n: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(body["seed"] + n)
        tokens: list[int] = []
        drawn: list[float] = []
        with torch.no_grad():
            while len(tokens) < body["max_tokens"] and not (tokens and tokens[-1] in body["stop_token_ids"]):
                logits = self._model(torch.tensor([body["prompt"] + tokens])).logits[0, -1] / body["temperature"]
                tokens.append(int(torch.multinomial(logits.softmax(0), 1, generator=generator)))
                drawn.append(float(logits.log_softmax(0)[tokens[-1]]))
        return {"index": n, "token_ids": tokens, "logprobs": {"token_logprobs": drawn}}
