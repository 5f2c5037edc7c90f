"""The page of `nasx watch`: one run, live, on this machine alone, read-only.

It serves four paths on 127.0.0.1: the page, its data, its script and Plotly's script. A request
whose Host is another name is refused, so that no web page can reach it by DNS rebinding.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasx.errors import NasxError
from nasx.trial import Snapshot

if TYPE_CHECKING:
    from nasx.run import Run

FRESH = 1.0  # seconds for which a reading of the record is served again
LOOPBACK = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
Read = Callable[["Path | Run"], Snapshot]


class Server(ThreadingHTTPServer):
    """The page of one run; `read` returns the record as it is now."""

    daemon_threads = True

    def __init__(self, run: Path | Run, port: int, read: Read) -> None:
        self.run, self.read = run, read
        self.folder = run if isinstance(run, Path) else run.path
        self._lock = threading.Lock()
        self._kept: tuple[float, int, bytes] | None = None
        super().__init__((LOOPBACK, port), Handler)

    @property
    def url(self) -> str:
        """Return the address to open."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def data(self) -> tuple[int, bytes]:
        """Return an HTTP status and the record as JSON, read at most once a second."""
        from dashboards._live_data import live_data

        with self._lock:
            if self._kept is None or time.monotonic() - self._kept[0] > FRESH:
                try:
                    status, value = 200, live_data(self.read(self.run))
                except (NasxError, OSError) as error:
                    status, value = 503, {"error": str(error)}
                text = json.dumps(value, allow_nan=False)
                self._kept = (time.monotonic(), status, text.encode())
            return self._kept[1:]


class Handler(BaseHTTPRequestHandler):
    """Answer GET and HEAD on the known paths; everything else is refused."""

    server: Server
    server_version = "nasx"
    sys_version = ""

    def do_GET(self) -> None:
        """Serve the page, its data or a script."""
        self._answer(body=True)

    def do_HEAD(self) -> None:
        """Serve the headers alone."""
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the terminal calm: requests are not logged."""

    def _answer(self, *, body: bool) -> None:
        port = self.server.server_port
        if self.headers.get("Host", "") not in (f"{LOOPBACK}:{port}", f"localhost:{port}"):
            self._send(403, "text/plain", b"this page answers on the loopback address only\n", body)
            return
        path = self.path.partition("?")[0]
        if path == "/":
            self._send(200, "text/html", page(self.server.folder).encode(), body)
        elif path == "/data.json":
            status, data = self.server.data()
            self._send(status, "application/json", data, body)
        elif path == "/live.js":
            self._send(200, "text/javascript", _part("live.js").encode(), body)
        elif path == "/plotly.js":
            from plotly.offline import get_plotlyjs

            self._send(200, "text/javascript", get_plotlyjs().encode(), body, keep=True)
        else:
            self._send(404, "text/plain", b"there is nothing here\n", body)

    def _send(self, status: int, kind: str, data: bytes, body: bool, keep: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "max-age=3600" if keep else "no-store")
        self.end_headers()
        if body:
            self.wfile.write(data)


def page(run: Path) -> str:
    """Return the page; everything that changes comes from /data.json."""
    from html import escape

    def table(key: str, heading: str) -> str:
        return (
            f'<section class="card"><h2>{heading}</h2><p class="none" id="{key}-none"></p>'
            f'<div class="scroll"><table><tbody id="{key}"></tbody></table></div></section>'
        )

    def plot(key: str, heading: str, kind: str) -> str:
        return (
            f'<section class="card {kind}"><h2>{heading}</h2><p class="none" id="{key}-none"></p>'
            f'<div class="plot" id="{key}"></div></section>'
        )

    name = escape(run.resolve().name)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: nasx watch</title><style>{_part('report.css')}{_part('live.css')}</style>"
        f'</head><body><main><header><p class="eyebrow">nasx watch</p><h1>{name}</h1>'
        '<p class="lead" id="outcome"></p><p class="stale" id="age" role="status"></p></header>'
        '<section class="card"><h2>Trials</h2><div class="states" id="states"></div>'
        '<div class="bar"><i id="done" style="width:0"></i></div></section>'
        f"{plot('front', 'The front', 'wide')}"
        f"""<div class="grid">{table("running", "Being trained")}"""
        f"{plot('growth', 'Progress of the search', '')}"
        f"{table('events', 'Latest results')}{table('failures', 'Failures')}</div></main>"
        '<script src="/plotly.js"></script><script src="/live.js"></script></body></html>'
    )


def _part(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def server(run: Path | Run, port: int = 0, read: Read | None = None) -> Server:
    """Return a server bound to a port of 127.0.0.1 (0 = any free one), not yet serving.

    `read` returns the run's record (default: nasx.run.snapshot_of). Raises NasxError when
    there is no run or the port is taken.
    """
    if read is None:
        from nasx.run import snapshot_of

        read = snapshot_of
    read(run)
    try:
        return Server(run, port, read)
    except OSError as error:
        raise NasxError(
            f"port {port} of {LOOPBACK} cannot be used ({error.strerror}); "
            "give another --port, or 0 for any free one"
        ) from error


def serve(run: Path | Run, port: int = 0, read: Read | None = None) -> None:
    """Serve the page of a run until interrupted, after printing its address on stderr."""
    with server(run, port, read) as serving:
        print(f"watching {serving.folder} at {serving.url} (Ctrl-C to stop)", file=sys.stderr)  # noqa: T201
        try:
            serving.serve_forever()
        except KeyboardInterrupt:
            return
