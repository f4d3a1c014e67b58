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

# What this machine remembers having been told is the user's: tests, and the programs they start, have a place of their own.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="pptransfer-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_client_outlives_its_test() -> Iterator[None]:
    """S3 clients are remembered by their arguments, which do not name the server: it stands in the environment."""
    yield
    if s3fs := sys.modules.get("s3fs"):
        s3fs.S3FileSystem.clear_instance_cache()
