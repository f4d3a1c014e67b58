"""What every test relies on."""

import atexit
import os
import shutil
import signal
import tempfile

# A shell that starts the tests in the background ignores SIGINT for them and for every program they start; the tests of
# Ctrl-C need it back.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What this machine remembers having been told is the user's: tests, and the programs they start, have a place of their own.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="pptransfer-state-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)
