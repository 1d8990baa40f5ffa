"""The commands `mofka-ctl` and `mofkactl`: the tool itself, which is a program of its own."""

import os
import pathlib
import shutil
import sys

PROGRAM = "mofka-ctl"


def find(environment=os.environ):
    """The program: the wheel's own if it has one, else the one on PATH that is not a script of this package. None when there is none."""
    bundled = pathlib.Path(__file__).parent / "bin" / PROGRAM
    if os.access(bundled, os.X_OK):
        return str(bundled)
    scripts = pathlib.Path(sys.argv[0]).resolve().parent
    directories = environment.get("PATH", os.defpath).split(os.pathsep)
    others = [directory for directory in directories if directory and pathlib.Path(directory).resolve() != scripts]
    return shutil.which(PROGRAM, path=os.pathsep.join(others))


def main():
    program = find()
    if program is None:
        sys.exit(
            f"Error: the program {PROGRAM} is neither in this package nor on PATH. Build it with `make build` in Mofka's "
            "repository and add target/release to PATH, or install a wheel that has it (`make python`)."
        )
    # It says what it is called by, as who called it did.
    os.execv(program, [os.path.basename(sys.argv[0]), *sys.argv[1:]])
