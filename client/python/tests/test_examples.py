"""The examples, as users run them."""

import pathlib
import subprocess
import sys

from conftest import Node

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def run(node, program, *arguments):
    command = [sys.executable, EXAMPLES / program, node.group_file, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return ended.stdout.splitlines()


def test_the_quick_start(node, name):
    (account,) = run(node, "producer.py", name, "25")
    assert "'acknowledged': 25, 'failed': 0" in account
    lines = run(node, "consumer.py", name)
    assert len(lines) == 25
    assert lines[7] == "7 {'number': 7, 'sensor': 'north'} reading 7"
    # Acknowledged up to 19: the next one begins there.
    assert [line.split()[0] for line in run(node, "consumer.py", name)] == ["20", "21", "22", "23", "24"]


def test_regions_of_images(node, name):
    lines = run(node, "images.py", name)
    assert len(lines) == 10
    assert lines[3] == f"frame 6: {32 * 48 * 2} of {512 * 640 * 2} bytes, mean 1006.0"


def test_frames_filled_in_place(name):
    for listen, shared in [("na+sm", 8), ("tcp://127.0.0.1:0", 0)]:
        with Node.running("--listen", listen) as node:
            account, *frames = run(node, "in_place.py", name)
            assert account == f"8 frames acknowledged, {shared} filled in shared memory"
            numbers = [number for number in range(10) if number % 5 != 4]
            assert frames == [f"frame {number}: mean {number + 319.5}" for number in numbers]


def test_many_producers(node, name):
    assert run(node, "many_producers.py", name) == ["[500, 500, 500, 500]"]
