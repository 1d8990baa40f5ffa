"""The wheel as users get it. Where it is, is in MOFKA_WHEELS, as `build` says."""

import ast
import inspect
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap

import mofka
import pytest

README = pathlib.Path(__file__).parent.parent / "README.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A virtual environment with nothing but the wheel in it."""
    if "MOFKA_WHEELS" not in os.environ:
        pytest.skip("MOFKA_WHEELS is not set: client/python/build TARGET test sets it")
    (wheel,) = pathlib.Path(os.environ["MOFKA_WHEELS"]).glob("mofka-*.whl")
    environment = tmp_path_factory.mktemp("empty") / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True, timeout=300)
    pip = [environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", "--no-index", wheel], check=True, timeout=300)
    return environment / "bin"


def first_program(text):
    """The first block of a text in Markdown that is set off by spaces."""
    lines = text.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("    "))
    block = []
    for line in lines[begin:]:
        if line and not line.startswith("    "):
            break
        block.append(line)
    return textwrap.dedent("\n".join(block))


def test_the_lines_of_the_readme(installed, node, driver):
    lines = first_program(README.read_text())
    assert lines.startswith("import mofka\n") and len(lines.split("\n")) == 6
    lines += "\nprint(event.metadata, [bytes(part) for part in event.data], mofka.__file__)\n"
    ended = subprocess.run(
        [installed / "python", "-c", lines],
        cwd=pathlib.Path(node.group_file).parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    driver.delete_topic("collisions")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"{{'energy': 42}} [b'the data'] {installed.parent}")


@pytest.mark.parametrize("command", ["mofka-ctl", "mofkactl"])
def test_the_commands(installed, node, driver, name, command):
    """By the program in the wheel, if it was built before, or else on PATH."""
    topic = name + command
    environment = {"PATH": f"{installed}{os.pathsep}{os.environ['MOFKA_BIN_DIR']}"}

    def run(*arguments, **more):
        return subprocess.run(
            [installed / command, *arguments], env={**environment, **more}, capture_output=True, text=True, timeout=120
        )

    made = run("topic", "create", topic, "--groupfile", node.group_file)
    assert made.returncode == 0, made.stderr
    assert driver.topic_exists(topic)
    # What it fails with is its own.
    assert run("topic", "create", topic, "--groupfile", node.group_file).returncode != 0
    assert command in run("--help").stdout
    # Without any program it says so, and does not call itself for ever.
    bundled = next(installed.parent.glob("lib/python*/site-packages/mofka/bin/mofka-ctl"), None)
    if bundled is not None:
        assert run("--version", PATH=str(installed)).returncode == 0
        bundled.rename(bundled.with_name("away"))
    try:
        missing = run("--version", PATH=str(installed))
    finally:
        if bundled is not None:
            bundled.with_name("away").rename(bundled)
    assert missing.returncode == 1 and "neither in this package nor on PATH" in missing.stderr


def test_the_wheel_brings_a_node(installed):
    """`mofka-ctl start`, with nothing else on PATH."""
    if next(installed.parent.glob("lib/python*/site-packages/mofka/bin/mofkad"), None) is None:
        pytest.skip("the wheel was built before the daemon was (make build)")
    base = pathlib.Path(os.environ["MOFKA_BIN_DIR"]) / "nodes"
    base.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=base, prefix="wheel-") as directory:

        def run(*command):
            ended = subprocess.run(command, cwd=directory, env={"PATH": ""}, capture_output=True, text=True, timeout=120)
            assert ended.returncode == 0, ended.stderr
            return ended.stdout

        run(installed / "mofka-ctl", "start", "--data-dir", "data")
        try:
            lines = first_program(README.read_text())
            assert "the data" in run(installed / "python", "-c", lines + "\nprint(bytes(event.data[0]))")
        finally:
            run(installed / "mofka-ctl", "shutdown")


def test_what_is_exported_is_what_the_types_say():
    """`_mofka.pyi` tells of every name and every method, and of no others."""
    types = ast.parse(pathlib.Path(mofka.__file__).with_name("_mofka.pyi").read_text())
    classes = {node.name: node for node in types.body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in types.body if isinstance(node, ast.FunctionDef)}
    assert {name for name in dir(mofka._mofka) if callable(getattr(mofka._mofka, name)) and not name.startswith("__")} == {
        *(name for name, node in classes.items() if not any(getattr(base, "id", "") == "Protocol" for base in node.bases)),
        *functions,
    }
    everywhere = set(dir(object)) | {"__module__", "__doc__"}
    # How Python calls the same: comparing, representing, and what futures are asked for by asyncio's side of the package.
    unsaid = {"__repr__", "__eq__", "__int__", "__new__", "_completed_or_call", "__iter__", "__anext__"}
    # Said for all Pythons, and seen from 3.12 on.
    unsaid |= {"__buffer__", "__release_buffer__"}
    for name, node in classes.items():
        if name not in dir(mofka._mofka):
            continue
        told = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
        told |= {target.id for part in node.body if isinstance(part, ast.Assign) for target in part.targets}
        has = {part for part in vars(getattr(mofka._mofka, name)) if part not in everywhere | unsaid}
        assert has == told - everywhere - unsaid, name
        # What editors say is what `help` says.
        assert inspect.getdoc(getattr(mofka._mofka, name)).startswith(ast.get_docstring(node)), name
        for part in node.body:
            text = isinstance(part, ast.FunctionDef) and ast.get_docstring(part)
            if text:
                shown = getattr(mofka._mofka, name) if part.name == "__init__" else getattr(getattr(mofka._mofka, name), part.name)
                assert text in inspect.getdoc(shown), part.name
