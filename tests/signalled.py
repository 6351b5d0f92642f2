"""A run that is sent a signal at a step, as by its user or its machine: `python tests/signalled.py
SIGNAL STEP SAVED FLAGS...` is `python -m jax3dret.main FLAGS...` until STEP is logged and the
checkpoint of the step SAVED is complete (0: none is waited for).

The time between two steps of a small model is too short for a signal from outside to fall into.
"""

import os
import pathlib
import signal
import sys
import time

from jax3dret import main
from jax3dret.core import logging


def send_at(name, step, saved):
    """Lets the writer of metrics send it, in the same place in every run."""
    write = logging.MetricWriter.write

    def writing(writer, at, split, metrics):
        write(writer, at, split, metrics)
        if at == step and split == "train":
            checkpoint = pathlib.Path(writer.path).parent / "checkpoints" / str(saved)
            while saved and not checkpoint.exists():  # renamed into place when it is complete
                time.sleep(0.01)
            os.kill(os.getpid(), signal.Signals[name])

    logging.MetricWriter.write = writing


if __name__ == "__main__":
    name, step, saved, *flags = sys.argv[1:]
    send_at(name, int(step), int(saved))
    sys.exit(main.main(flags))
