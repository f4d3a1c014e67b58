import io
import signal
import subprocess
import sys
import time

import pytest

from ppcore.console import Progress, format_duration, print_table

PROGRAM = """
import sys, time, typer
from ppcore.console import run_app
from ppcore.errors import UserError
app = typer.Typer(pretty_exceptions_enable=False)

@app.command()
def act(what: str):
    if what == "refuse":
        raise UserError("this was wrong; do that")
    print("ready", flush=True)
    time.sleep(30)

run_app(app)
"""


def test_user_error_is_one_line_and_exit_2():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "refuse"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: this was wrong; do that\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_give_their_exit_status(number, status):
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    _, errors = child.communicate(timeout=20)
    assert child.returncode == status
    assert "Traceback" not in errors


def test_progress_says_rate_and_eta():
    out = io.StringIO()
    progress = Progress(100, "images", done=20, every_s=0.0, label="synth", stream=out)
    time.sleep(0.02)
    progress.advance(40)
    progress.close()
    first, last = out.getvalue().splitlines()
    assert first.startswith("synth: 60/100 images,")
    assert "ETA" in first
    assert last.startswith("synth: 60/100 images, ")
    assert last.endswith("/s in 0s")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("term", "bar"), [("xterm", True), ("dumb", False)])
def test_only_a_terminal_gets_a_bar(term, bar, monkeypatch):
    monkeypatch.setenv("TERM", term)
    out = Terminal()
    progress = Progress(100, "images", every_s=0.0, stream=out)
    time.sleep(0.25)
    progress.advance(40, "[1 of 2]")
    progress.close("[done]")
    assert ("\x1b[" in out.getvalue()) == bar
    assert "/s now" in out.getvalue()
    assert "40/100 images" in out.getvalue().splitlines()[-1]
    assert out.getvalue().endswith("[done]\n")


def test_cells_of_a_table_stay_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    print_table([("name", "what it is"), ("[bold]x", "a " * 40), ("letters", "")])
    assert capsys.readouterr().out == f"name     what it is\n[bold]x  {('a ' * 40).rstrip()}\nletters\n"


def test_duration():
    assert [format_duration(s) for s in (5, 65, 3725)] == ["5s", "1m05s", "1h02m05s"]
