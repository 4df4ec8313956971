"""A server as a process of its own: requests are sent when they are due, and one that ends is no server."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

from benchmarks.measure import free_port
from benchmarks.serving.poisson import Arrival
from benchmarks.serving.servers import PeerServer, ServerDied, answers, running

_SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(500 if b"13" in body else 200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def _server(script: str, tmp_path: Path) -> PeerServer:
    path, port = tmp_path / "server.py", free_port()
    path.write_text(script)
    command = [sys.executable, str(path), str(port)]
    return PeerServer("fake", command, port, "/", "/draw", lambda number, steps: {"number": number, "steps": steps})


def test_each_request_is_answered_and_none_that_failed_is_counted(tmp_path: Path) -> None:
    server = _server(_SERVER, tmp_path)
    with running(server) as client:
        answered = answers(server, client, [Arrival(0.0, 4), Arrival(0.0, 50), Arrival(0.05, 20)])
        assert [each.steps for each in answered] == [4, 50, 20]
        assert all(each.seconds > 0 for each in answered)
        with pytest.raises(httpx.HTTPStatusError):
            answers(server, client, [Arrival(0.0, 4), Arrival(0.0, 13)])


def test_a_server_that_ends_is_told(tmp_path: Path) -> None:
    with pytest.raises(ServerDied, match="fake: exit status 3"), running(_server("raise SystemExit(3)", tmp_path)):
        pass
