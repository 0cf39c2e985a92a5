"""A server of datasets on this machine."""

import http.server
import threading
from collections.abc import Iterator, Mapping

import pytest


class Mirror(http.server.ThreadingHTTPServer):
    """Serves `contents`, by name, and notes which were fetched; `cut` cuts every answer short."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.contents: Mapping[str, bytes] = {}
        self.fetched: list[str] = []
        self.cut = False
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Answer(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name = self.path.strip("/")
        if name not in self.server.contents:
            self.send_error(404)
            return
        content = self.server.contents[name]
        if (
            self.headers.get("Method") != "HEAD"
        ):  # torchvision looks for redirects with a GET of that header
            self.server.fetched.append(name)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.server.cut else content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with Mirror() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()
