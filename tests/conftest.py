"""What every test relies on."""

import atexit
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator

import pytest

# A shell that starts the tests in the background ignores SIGINT for them and for every program they start; the tests of
# Ctrl-C need it back.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What this machine remembers having been told or measured is the user's: tests, and the programs they start, have a place of their own.
for _name in ("XDG_STATE_HOME", "XDG_CACHE_HOME"):
    os.environ[_name] = tempfile.mkdtemp(prefix="pptransfer-")
    atexit.register(shutil.rmtree, os.environ[_name], ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_client_outlives_its_test() -> Iterator[None]:
    """S3 clients are remembered by their arguments, which do not name the server: it stands in the environment."""
    yield
    if s3fs := sys.modules.get("s3fs"):
        s3fs.S3FileSystem.clear_instance_cache()
