"""A stub of the hub's HTTP: one dataset repository in memory, as far as pushing and pulling ask for it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_COMMIT = "c0ffee" + "0" * 34
_API = re.compile(r"/api/datasets/(?P<repo>[\w.-]+/[\w.-]+)(?P<rest>/.*)?")
_FILE = re.compile(r"/datasets/(?P<repo>[\w.-]+/[\w.-]+)/resolve/[^/]+/(?P<path>.+)")


class Hub:
    """Serves until :meth:`close`.

    Attributes:
        files: path -> bytes, of the one repository.
        commits: the paths of every commit, in order.
        private: as the repository was made; None where there is none.
        refuses: answer commits with 403.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.commits: list[list[str]] = []
        self.private: bool | None = None
        self.refuses = False
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.get(self)

            def do_HEAD(self) -> None:
                hub.get(self)

            def do_POST(self) -> None:
                hub.post(self)

            def log_message(self, *words: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def get(self, request: BaseHTTPRequestHandler) -> None:
        """Files, the repository's description, and listings."""
        path = unquote(urlsplit(request.path).path)
        if found := _FILE.fullmatch(path):
            self._send_file(request, found["path"])
            return
        found = _API.fullmatch(path)
        if found is None or self.private is None:
            _answer(request, 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return
        rest = (found["rest"] or "").split("/")
        if "tree" in rest:
            below = "/".join(rest[rest.index("tree") + 2 :])
            _answer(request, 200, self._tree(below, "recursive=true" in request.path.lower()))
            return
        siblings = [{"rfilename": name} for name in sorted(self.files)]
        _answer(
            request,
            200,
            {"id": found["repo"], "sha": _COMMIT, "siblings": siblings, "private": self.private, "tags": []},
        )

    def post(self, request: BaseHTTPRequestHandler) -> None:
        """Making the repository, asking how to upload, commits, and facts about paths."""
        body = request.rfile.read(int(request.headers.get("Content-Length", 0)))
        path = urlsplit(request.path).path
        if path == "/api/repos/create":
            if self.private is None:
                wanted = json.loads(body)
                self.private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
            _answer(request, 200, {"url": f"{self.url}/datasets/me/set"})
        elif path == "/api/validate-yaml":
            _answer(request, 200, {"errors": [], "warnings": []})
        elif "/preupload/" in path:
            asked = json.loads(body)["files"]
            _answer(
                request,
                200,
                {
                    "files": [
                        {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked
                    ]
                },
            )
        elif "/commit/" in path and self.refuses:
            _answer(request, 403, {"error": "Forbidden: you may not write here"})
        elif "/commit/" in path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            self.files |= {f["path"]: base64.b64decode(f["content"]) for f in files}
            self.commits.append([f["path"] for f in files])
            _answer(
                request,
                200,
                {"commitUrl": f"{self.url}/datasets/me/set/commit/{_COMMIT}", "commitOid": _COMMIT},
            )
        elif "/paths-info/" in path:
            asked_for = json.loads(body)["paths"] if body.startswith(b"{") else []
            _answer(request, 200, [self._entry(name) for name in asked_for if name in self.files])
        else:
            _answer(request, 404, {"error": path})

    def _tree(self, below: str, recursive: bool) -> list[dict[str, Any]]:
        inside = [name for name in sorted(self.files) if not below or name.startswith(f"{below}/")]
        start = len(below) + 1 if below else 0
        folders = {name[: name.index("/", start)] for name in inside if "/" in name[start:]}
        files = [self._entry(name) for name in inside if recursive or "/" not in name[start:]]
        return [{"type": "directory", "path": f, "oid": "0" * 40, "size": 0} for f in sorted(folders)] + files

    def _entry(self, name: str) -> dict[str, Any]:
        digest = hashlib.sha1(self.files[name]).hexdigest()
        return {"type": "file", "path": name, "oid": digest, "size": len(self.files[name])}

    def _send_file(self, request: BaseHTTPRequestHandler, name: str) -> None:
        data = self.files.get(name)
        if data is None:
            _answer(request, 404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        headers = {
            "ETag": f'"{hashlib.sha1(data).hexdigest()}"',
            "X-Repo-Commit": _COMMIT,
            "Accept-Ranges": "bytes",
        }
        status = 200
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", "")):
            start, end = int(found[1]), int(found[2] or len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            data, status = data[start : end + 1], 206
        _send(request, status, data, headers)


def _answer(
    request: BaseHTTPRequestHandler, status: int, content: Any, headers: dict[str, str] | None = None
) -> None:
    _send(
        request, status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})}
    )


def _send(request: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str]) -> None:
    request.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(data))}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)
