"""`python offline.py key=value ...`: run.py where every socket is refused. Not a test itself."""

import runpy
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def refused(*_, **__):
    raise AssertionError("the network was touched")


def close():
    socket.socket.__init__ = refused
    socket.create_connection = socket.getaddrinfo = socket.gethostbyname = refused


if __name__ == "__main__":
    close()
    sys.argv = [str(ROOT / "run.py"), *sys.argv[1:]]
    sys.path.insert(0, str(ROOT))
    runpy.run_path(sys.argv[0], run_name="__main__")
