"""Several processes of one machine that find each other, as the processes of several hosts do."""

import os
import pathlib
import socket
import subprocess

ROOT = pathlib.Path(__file__).parents[1]
# XLA's older way to compile for a CPU is faster for small programs; the golden cases pass with
# both.
FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_force_host_platform_device_count="


def environment(devices):
    """Of a process that has so many virtual devices."""
    return {
        **os.environ,
        "XLA_FLAGS": f"{FLAGS}{devices}",
        "PYTHONPATH": str(ROOT),
    }


def run_two(command):
    """Both processes when they have ended, with two virtual devices each.

    command: (HOST:PORT of process 0, number of this one) -> its words.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    running = [
        subprocess.Popen(
            command(address, number),
            cwd=ROOT,
            env=environment(2),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    said = [process.communicate(timeout=300) for process in running]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *texts)
        for process, texts in zip(running, said, strict=True)
    ]
