"""A real node for each test module. The daemon is in MOFKA_BIN_DIR, as `make` says."""

import contextlib
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import mofka
import pytest

START_SECONDS = 60
# Longer than anything takes that works.
PATIENCE_MS = 60_000
# How often what goes wrong by chance only is tried: MOFKA_TEST_REPETITIONS=200 is the long form.
REPETITIONS = int(os.environ.get("MOFKA_TEST_REPETITIONS", "5"))
_names = itertools.count()


def is_stopped(task):
    """Whether a thread is, or is one of the kernel's, which are not."""
    try:
        name, state = (task / "stat").read_text().split("(", 1)[1].rsplit(") ", 1)
    except FileNotFoundError:
        return True
    return name.startswith("iou-") or state[0] in "TtXZ"


class Node:
    """A daemon in a directory of its own."""

    @classmethod
    @contextlib.contextmanager
    def running(cls, *arguments):
        # Not in /tmp: it may be a file system without direct I/O.
        base = pathlib.Path(os.environ["MOFKA_BIN_DIR"]) / "nodes"
        base.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=base, prefix="python-") as directory:
            node = cls(pathlib.Path(directory), arguments)
            try:
                yield node
            finally:
                node.stop()

    def __init__(self, directory, arguments=()):
        self.group_file = str(directory / "mofka.json")
        program = pathlib.Path(os.environ["MOFKA_BIN_DIR"]) / "mofkad"
        self.log = open(directory / "log", "wb")
        self.process = subprocess.Popen(
            [program, "--data-dir", directory / "data", "--group-file", self.group_file, "--shards", "1", *arguments],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                mofka.Driver(self.group_file)
                return
            except mofka.MofkaError as error:
                told = (directory / "log").read_text()
                assert self.process.poll() is None, told
                assert time.monotonic() < end, f"{error}\n{told}"
                time.sleep(0.05)

    @contextlib.contextmanager
    def suspended(self):
        """It hears and says nothing meanwhile."""
        self.process.send_signal(signal.SIGSTOP)
        # Its threads stop one after the other.
        while not all(is_stopped(task) for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir()):
            time.sleep(0.001)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait(60)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.log.close()


@pytest.fixture(scope="session")
def node():
    with Node.running() as node:
        yield node


@pytest.fixture
def driver(node):
    return mofka.Driver(node.group_file)


@pytest.fixture
def name():
    """A topic's name that no other test has."""
    return f"topic-{next(_names)}"


@pytest.fixture
def topic(driver, name):
    return driver.create_topic(name)


@pytest.fixture
def program(node, topic):
    """Runs a Python program in a process of its own, with `topic` at hand, and returns what it did."""

    def run(text, **keywords):
        return program_of(node, topic, text, **keywords)

    return run


def program_of(node, topic, text, **keywords):
    start = f"import mofka\ngroup_file = {node.group_file!r}\ntopic = mofka.Driver(group_file).open_topic({topic.name!r})\n"
    start += f"REPETITIONS = {REPETITIONS}\n"
    return subprocess.run(
        # Forks with threads are what is tested.
        [sys.executable, "-X", "faulthandler", "-W", "ignore::DeprecationWarning", "-c", start + text],
        capture_output=True,
        text=True,
        timeout=120 + 3 * REPETITIONS,
        **keywords,
    )
