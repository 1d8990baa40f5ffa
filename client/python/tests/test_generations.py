"""Quick-start programs of the original's generations, run as they are against a node that `bedrock` starts from the walk-through's
configuration."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import mofka
import pytest
from conftest import START_SECONDS

PROGRAMS = pathlib.Path(__file__).parent / "programs"


@pytest.fixture(scope="module")
def service():
    """Runs a command beside the node's mofka.json, with the original's commands on PATH."""
    base = pathlib.Path(os.environ["MOFKA_BIN_DIR"]) / "nodes"
    base.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base, prefix="bedrock-") as directory:
        links = pathlib.Path(directory) / "bin"
        links.mkdir()
        subprocess.run([pathlib.Path(os.environ["MOFKA_BIN_DIR"]) / "mofka-ctl", "links", links], check=True, capture_output=True)
        environment = {**os.environ, "PATH": f"{links}{os.pathsep}{os.environ['PATH']}"}
        shutil.copy(PROGRAMS / "config.json", directory)

        def run(*command, **more):
            ended = subprocess.run(
                command, cwd=directory, env={**environment, **more}, capture_output=True, text=True, timeout=120
            )
            assert ended.returncode == 0, ended.stdout + ended.stderr
            return ended.stdout

        with open(pathlib.Path(directory) / "log", "wb") as log:
            bedrock = subprocess.Popen(
                [links / "bedrock", "na+sm", "-c", "config.json"], cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                mofka.Driver(pathlib.Path(directory) / "mofka.json")
                break
            except mofka.MofkaError as error:
                told = (pathlib.Path(directory) / "log").read_text()
                assert bedrock.poll() is None and time.monotonic() < end, f"{error}\n{told}"
                time.sleep(0.05)
        yield run
        if bedrock.poll() is None:
            bedrock.send_signal(signal.SIGTERM)
        assert bedrock.wait(60) == 0


def program(service, letter, **environment):
    text = service(sys.executable, str(PROGRAMS / f"generation_{letter}.py"), f"topic_{letter}", **environment)
    return text.splitlines()[-1]


def test_generation_a(service):
    # Metadata was text then.
    assert program(service, "a", MOFKA_COMPAT_METADATA="str") == "generation A: 101 events"


def test_generation_b(service):
    service("mofkactl", "topic", "create", "topic_b", "--groupfile", "mofka.json")
    service("mofkactl", "partition", "add", "topic_b", "--type", "memory", "--rank", "0", "--groupfile", "mofka.json")
    assert program(service, "b") == "generation B: 100 events"


def test_generation_c(service):
    assert program(service, "c") == "generation C: 100 events"


def test_generation_d(service):
    assert program(service, "d") == "generation D: 50 events"
