"""`python -m tests.executed CODE`: runs the code, as `python -c` does, where only modules can be started."""

import sys

if __name__ == "__main__":
    exec(sys.argv[1])  # noqa: S102
