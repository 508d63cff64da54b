"""What all tests share: no network, no noise, no touching of the reader's caches."""

import importlib
import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("RREC_CACHE", os.path.join(tempfile.gettempdir(), f"rrec-tests-{os.getuid()}"))

LOCAL = {"127.0.0.1", "::1", "localhost", ""}


@pytest.fixture(autouse=True, scope="session")
def no_network():
    """Refuse connections to any other host, so that a test that needs one fails here too."""
    original = socket.socket.connect

    def connect(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOCAL:
            raise OSError(f"a test wanted to connect to {address[0]}; tests need no network")
        return original(self, address)

    socket.socket.connect = connect
    yield
    socket.socket.connect = original


@pytest.fixture(scope="session")
def load_script():
    """Import a script of ``scripts/`` by name; scripts import each other."""
    folder = str(Path(__file__).parents[1] / "scripts")
    sys.path.insert(0, folder)
    yield importlib.import_module
    sys.path.remove(folder)


@pytest.fixture(scope="session")
def smoke_profile():
    """The profile of the tests: a tiny random model and 40 users."""
    from rrec_lib.profiles import load_profile

    return load_profile("smoke")


@pytest.fixture(scope="session")
def smoke_dataset(smoke_profile):
    """Its prepared data."""
    from rrec_lib.data.examples import prepare_profile

    return prepare_profile(smoke_profile)
