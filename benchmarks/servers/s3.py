"""An S3 server in memory, as far as s3fs asks one for anything: whole and partial objects, conditional puts, listings by page.

moto's server takes longer for a request than the client does, so that it would be what is measured.

    python benchmarks/servers/s3.py --load DIR --latency-ms 5         # DIR's files as the bucket `bench`; prints its URL
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import hashlib
from pathlib import Path
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web

_DATE = "Tue, 24 Nov 2026 00:00:00 GMT"
_PAGE = 1000  # keys of a listing, as S3 has it


class Objects:
    """Objects by `bucket/key`, listed in order."""

    def __init__(self, latency: float) -> None:
        self._data: dict[str, bytes] = {}
        self._keys: list[str] = []
        self._latency = latency

    def put(self, key: str, data: bytes) -> None:
        if key not in self._data:
            bisect.insort(self._keys, key)
        self._data[key] = data

    def load(self, folder: Path, bucket: str) -> None:
        """Every file below a folder."""
        for path in folder.rglob("*"):
            if path.is_file():
                self._data[f"{bucket}/{path.relative_to(folder)}"] = path.read_bytes()
        self._keys = sorted(self._data)

    async def answer(self, request: web.Request) -> web.Response:
        """Any request, after the latency."""
        await asyncio.sleep(self._latency)
        key = unquote(request.path)[1:].rstrip("/")
        if request.method == "PUT":
            return await self._put(key, request)
        if request.method == "DELETE":
            if self._data.pop(key, None) is not None:
                self._keys.remove(key)
            return web.Response(status=204)
        if request.method == "GET" and "list-type" in request.query:
            return self._list(key, request)
        data = self._data.get(key)
        if data is None:
            return _error(404, "NoSuchKey")
        headers = {"ETag": _etag(data), "Last-Modified": _DATE}
        wanted = request.http_range
        if request.method == "GET" and (wanted.start is not None or wanted.stop is not None):
            return web.Response(body=data[wanted], status=206, headers=headers)
        return web.Response(body=data, headers=headers)

    async def _put(self, key: str, request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == "*" and key in self._data:
            return _error(412, "PreconditionFailed")
        data = await request.read()
        self.put(key, data)
        return web.Response(headers={"ETag": _etag(data)})

    def _list(self, bucket: str, request: web.Request) -> web.Response:
        """One page; keys with a further delimiter are folded into common prefixes."""
        prefix, delimiter = request.query.get("prefix", ""), request.query.get("delimiter", "")
        after = request.query.get("continuation-token", "")
        most = min(int(request.query.get("max-keys", _PAGE)), _PAGE)
        whole, contents, folders = f"{bucket}/{prefix}", [], []
        position = bisect.bisect_right(self._keys, after) if after else bisect.bisect_left(self._keys, whole)
        last = ""
        while position < len(self._keys) and len(contents) + len(folders) < most:
            last = self._keys[position]
            if not last.startswith(whole):
                break
            rest = last[len(whole) :]
            if delimiter and delimiter in rest:
                folder = whole + rest[: rest.index(delimiter) + 1]
                folders.append(folder[len(bucket) + 1 :])
                last = folder + "\U0010ffff"
                position = bisect.bisect_left(self._keys, last)
            else:
                contents.append((last[len(bucket) + 1 :], self._data[last]))
                position += 1
        more = position < len(self._keys) and self._keys[position].startswith(whole)
        text = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-11-24T00:00:00.000Z</LastModified><ETag>{_etag(data)}</ETag>"
            f"<Size>{len(data)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for name, data in contents
        )
        text += "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in folders
        )
        text += f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if more else ""
        return _xml(
            f"<ListBucketResult><Name>{bucket}</Name><IsTruncated>{str(more).lower()}</IsTruncated>{text}</ListBucketResult>"
        )


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data[:64], usedforsecurity=False).hexdigest()}"'


def _xml(text: str, status: int = 200) -> web.Response:
    return web.Response(text=f"<?xml version='1.0'?>{text}", status=status, content_type="application/xml")


def _error(status: int, code: str) -> web.Response:
    condition = "<Condition>If-None-Match</Condition>" if status == 412 else ""
    return _xml(f"<Error><Code>{code}</Code><Message>{code}</Message>{condition}</Error>", status)


async def serve(folder: Path, latency: float) -> None:
    """Until the process is ended; the first line on standard output is the URL."""
    objects = Objects(latency)
    objects.load(folder, "bench")
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", objects.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", type=Path, required=True)
    parser.add_argument("--latency-ms", type=float, default=5.0)
    args = parser.parse_args()
    asyncio.run(serve(args.load, args.latency_ms / 1000))
