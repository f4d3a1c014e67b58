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

# The user's cache stays as it is: tests, and the programs they start, have one of their own.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="pptransfer-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# These mostly wait for other programs: begun last, each would keep one of pytest's processes waiting alone for minutes.
LONGEST = (
    "test_topology",
    "test_ray_train",
    "test_interrupted",
    "engines/test_ray",
    "test_slurm_runs",
    "test_ray_places",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first; pytest-xdist is told to keep the order."""
    ranks = {name: rank for rank, name in enumerate(LONGEST)}

    def rank(item: pytest.Item) -> int:
        return next(
            (ranks[name] for name in LONGEST if item.path.with_suffix("").as_posix().endswith(name)),
            len(ranks),
        )

    items.sort(key=rank)


@pytest.fixture(autouse=True)
def _no_client_outlives_its_test() -> Iterator[None]:
    """S3 clients are remembered by their arguments, which do not name the server: it stands in the environment."""
    yield
    if s3fs := sys.modules.get("s3fs"):
        s3fs.S3FileSystem.clear_instance_cache()
