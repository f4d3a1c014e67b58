"""What every test relies on."""

import signal

# A shell that starts the tests in the background ignores SIGINT for them and for every program they start; the tests of
# Ctrl-C need it back.
signal.signal(signal.SIGINT, signal.default_int_handler)
