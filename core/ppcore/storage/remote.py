"""Calls to object stores through fsspec: with a deadline, repeated after temporary errors, and without secrets in URLs."""

from __future__ import annotations

import logging
import random
import re
import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ppcore.errors import UserError

_CALL_S = 90.0  # deadline of a call, without the time for the bytes that it sends
_SECONDS_A_BYTE = 2 / 2**20
_PATIENCE_S = 120.0  # no retry begins later than this after the first try
_FIRST_DELAY_S = 0.3
_LAST_DELAY_S = 15.0
_WARN_AFTER = 4  # failed tries of a call
_FINAL = (
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    ValueError,
    TypeError,
    NotImplementedError,
)
# Names of exceptions of botocore and google.auth, which may not be installed.
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "DefaultCredentialsError",
}
_SECRET_NAME = re.compile(r"secret|token|passw|signature|credential|access_?key|^sig$|^key$", re.IGNORECASE)
# Options that s3fs passes to botocore.
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {"config_kwargs": {"connect_timeout": 10, "read_timeout": 30, "retries": {"max_attempts": 1}}}
}
# With this option s3fs reads an object in one request; else it asks for the size first.
_WHOLE: dict[str, dict[str, Any]] = {"s3": {"max_concurrency": 1}}
_log = logging.getLogger(__name__)


class UnreachableError(UserError):
    """An object store has failed for minutes; a later run may succeed."""


class Remote:
    """A folder of an object store.

    Args:
        url: fsspec URL.

    Raises:
        UserError: the URL contains a secret, or no installed package opens such URLs.
    """

    def __init__(self, url: str) -> None:
        import fsspec  # slow to import, not needed for local directories

        refuse_secrets(url)
        protocol = url.split("://", 1)[0]
        try:
            # A cached listing would miss what other workers have just committed.
            filesystem, base = fsspec.core.url_to_fs(
                url, use_listings_cache=False, **_OPTIONS.get(protocol, {})
            )
        except (ImportError, ValueError) as error:
            raise UserError(
                f"cannot open {protocol}:// paths ({error}); install the fsspec package for it, "
                f"for example pip install 'pptransfer[s3]'"
            ) from error
        self._whole = _WHOLE.get(protocol, {})
        self.url, self.filesystem, self._base = url, filesystem, str(base).rstrip("/")

    def key(self, name: str) -> str:
        """The full name of an object in the filesystem."""
        return f"{self._base}/{name}" if name else self._base

    def call(self, method: str, *args: Any, moved: int = 0, **options: Any) -> Any:
        """Call a method of the filesystem with a deadline; repeat it with growing pauses after temporary errors.

        Args:
            method: fsspec's name, such as `cat_file`.
            moved: bytes that the call sends; they extend the deadline.

        Raises:
            FileNotFoundError, ValueError: raised by the filesystem.
            UserError: access is refused.
            UnreachableError: no try succeeded within minutes.
        """
        start, failures = time.monotonic(), 0
        while True:
            try:
                return self._once(method, args, options, _CALL_S + moved * _SECONDS_A_BYTE)
            except _FINAL:
                raise
            except Exception as error:
                _raise_if_answered(error)
                if isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS:
                    raise UserError(
                        f"access to {self.url} is refused ({_short(error)}); give credentials with read and write access, "
                        f"in the environment or the store's configuration file"
                    ) from error
                if time.monotonic() - start > _PATIENCE_S:
                    raise UnreachableError(
                        f"{self.url} does not respond ({failures + 1} tries, the last error: {_short(error)}); run the same "
                        f"command again later to resume"
                    ) from error
                failures += 1
                if failures == _WARN_AFTER:
                    _log.warning("%s fails (%s); still trying", self.url, _short(error))
            pause = min(_FIRST_DELAY_S * 2 ** (failures - 1), _LAST_DELAY_S)
            time.sleep(pause * random.uniform(0.5, 1.5))

    def read(self, name: str) -> bytes:
        """Read a whole object. Raises FileNotFoundError."""
        data: bytes = self.call("cat_file", self.key(name), **self._whole)
        return data

    def sizes(self, name: str) -> dict[str, int]:
        """Base name -> bytes of the objects directly below `name`, from one listing."""
        try:
            entries = self.call("ls", self.key(name), detail=True, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        folder = self.key(name).strip("/")
        return {
            str(entry["name"]).rsplit("/", 1)[-1]: int(entry["size"] or 0)
            for entry in entries
            if entry["type"] == "file" and str(entry["name"]).strip("/") != folder
        }

    def create(self, name: str, data: bytes) -> bool:
        """See :meth:`ppcore.storage.Store.create`."""
        try:
            self.call("pipe_file", self.key(name), data, moved=len(data), mode="create")
        except FileExistsError:
            pass  # written by another process, or by an earlier try whose answer was lost
        except (NotImplementedError, TypeError):
            if not self.call("exists", self.key(name)):
                self.call("pipe_file", self.key(name), data, moved=len(data))
        return self.read(name) == data  # some stores ignore the condition of the PUT

    def _once(self, method: str, args: tuple[Any, ...], options: dict[str, Any], seconds: float) -> Any:
        from fsspec.asyn import AsyncFileSystem, sync  # slow to import

        filesystem = self.filesystem
        if isinstance(filesystem, AsyncFileSystem):
            # The timeouts of the libraries do not cover everything: an upload waits for "100 Continue" without end.
            return sync(filesystem.loop, getattr(filesystem, f"_{method}"), *args, timeout=seconds, **options)
        return getattr(filesystem, method)(*args, **options)


def _raise_if_answered(error: Exception) -> None:
    """Raise FileExistsError or NotImplementedError for S3's answers to a conditional PUT, which else look like temporary errors."""
    answer: dict[str, Any] = getattr(error.__cause__ or error, "response", None) or {}
    code = answer.get("Error", {}).get("Code")
    if code in ("PreconditionFailed", "412"):
        raise FileExistsError(str(error)) from error
    if code in ("NotImplemented", "501"):
        raise NotImplementedError(str(error)) from error


def refuse_secrets(url: str) -> None:
    """Raise UserError for a URL that contains a password or a token, because URLs are written to plans, logs and messages."""
    parts = urlsplit(url)
    secret = next((name for name, _ in parse_qsl(parts.query) if _SECRET_NAME.search(name)), None)
    if parts.password or secret:
        what = "a password" if parts.password else f"{secret!r}"
        raise UserError(
            f"a {parts.scheme}:// path contains {what}, which would be written to logs and plans; give credentials in the environment or "
            f"in the store's configuration file"
        )


def _short(error: BaseException) -> str:
    """The error in one line, without the user:password@ of an endpoint or proxy."""
    text = " ".join(str(error).split())[:300] or type(error).__name__
    return re.sub(r"//[^/@\s]*@", "//***@", text)
