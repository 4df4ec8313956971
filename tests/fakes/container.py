"""A container that answers invocations as it is told to."""

from __future__ import annotations

import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Container:
    """Answers with the statuses and bodies given to `then`, in turn; the last one again and again.

    While `hang` is set an answer does not come before the container is closed.
    """

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.hang = threading.Event()
        self._closed = threading.Event()
        self._answers: deque[tuple[int, str]] = deque()

    def then(self, *answers: int | str) -> None:
        """`status, body, status, body ...`, instead of what was said before."""
        pairs = zip(answers[::2], answers[1::2], strict=True)
        self._answers = deque((int(status), str(body)) for status, body in pairs)

    def __enter__(self) -> Container:
        container = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                container.received.append(self.rfile.read(int(self.headers["Content-Length"])))
                if container.hang.is_set():
                    container._closed.wait()
                answers = container._answers
                status, body = answers[0] if len(answers) == 1 else answers.popleft()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="container")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
