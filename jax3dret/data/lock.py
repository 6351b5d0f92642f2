"""One process at a time at what takes long and is wanted once: preparing data, rendering views,
frozen features.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import pathlib
from collections.abc import Iterator

logger = logging.getLogger("jax3dret")


@contextlib.contextmanager
def exclusive(path: pathlib.Path, what: str) -> Iterator[None]:
    """Holds the lock file `path`, waiting (and saying so) while another process does. Over
    processes, and over hosts that share the disk; dies with its process. On a disk without locks it
    warns and goes on.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("%s: waiting for another process that prepares it", what)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            logger.warning(
                "%s: this disk has no file locks; do not prepare it from two processes at once",
                what,
            )
        yield
