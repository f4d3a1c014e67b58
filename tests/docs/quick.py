"""Runs our programs and `python` without their start-up time: a server imports everything once and forks for each command.

    quick.py serve SOCKET          imports everything, prints "ready", then serves
    quick.py call SOCKET PROGRAM ARGUMENT...      runs one command; the stand-ins in PATH call this

A forked command has the caller's working directory, environment and standard streams, and runs the program's entry point. Step counts
that `pptrain` chooses by default are tiny here.
"""

import array
import importlib
import json
import os
import signal
import socket
import sys

MODULES = (
    "ppgen.cli.generation", "ppgen.cli.maintenance", "ppgen.exchange", "ppgen.generators", "pptrain.engine", "pptrain.evaluation",
    "ppflow.cli.experiment", "ppflow.cli.dry_run", "diffusers.models.unets.unet_2d", "diffusers.schedulers", "sklearn.datasets",
    "webdataset", "onnxruntime", "torch.utils.tensorboard", "torch.onnx._internal.exporter._core", "torch._dynamo", "torch._inductor",
)  # fmt: skip


def serve(path):
    from pptrain.config import load as rule

    for name in MODULES:
        importlib.import_module(name)
    rule._PRETRAINING_EPOCHS, rule._PRETRAINING_LEAST_STEPS = 0, 2
    rule._LEAST_STEPS, rule._MOST_STEPS = 2, 2
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while True:
        caller, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            answer(caller)
        caller.close()


def answer(caller):
    message, streams, _, _ = socket.recv_fds(caller, 1 << 20, 3)
    call = json.loads(message)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(call["folder"])
    os.environ.clear()
    os.environ.update(call["environment"])
    try:
        run(call["words"])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    caller.sendall(array.array("i", [status]).tobytes())
    os._exit(status)


def run(words):
    import runpy

    program, *rest = words
    sys.argv = words
    if program != "python":
        importlib.import_module(f"{program}.cli").main()
    elif rest[0] == "-":
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = rest
        runpy.run_path(rest[0], run_name="__main__")


def call(path, words):
    caller = socket.socket(socket.AF_UNIX)
    caller.connect(path)
    message = {"words": words, "folder": os.getcwd(), "environment": dict(os.environ)}
    socket.send_fds(caller, [json.dumps(message).encode()], [0, 1, 2])
    said = caller.recv(4)
    sys.exit(array.array("i", said)[0] if said else 1)


if __name__ == "__main__":
    {"serve": lambda rest: serve(*rest), "call": lambda rest: call(rest[0], rest[1:])}[sys.argv[1]](
        sys.argv[2:]
    )
