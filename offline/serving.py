"""A server over a home, for as long as somebody here needs one.

A process of its own on a free port, its clock at the end of the data. It knows the command line of
the server, and nothing of who asks.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from offline.errors import ServerError
from offline.home import Home
from online.client import Client

READY_S: Final = 60


@contextmanager
def serving(home: Home) -> Iterator[str]:
    """Serve the champion of a home; the address. Stopped on leaving.

    Raises ClientError when it does not come up, ServerError when it does not end well.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "online", "serve", "--address", address, "--clock", "horizon"]
    environment = {"AISLE_LOG_LEVEL": "warning", **os.environ, "AISLE_HOME": str(home.path)}
    process = subprocess.Popen(command, env=environment)
    try:
        with Client(address) as client:
            client.wait_until_ready(timeout_s=READY_S)
        yield address
        process.send_signal(signal.SIGTERM)
        if process.wait(timeout=30):
            raise ServerError(f"the server ended with exit code {process.returncode}")
    finally:
        process.kill()
