"""`python -m tests.support.executed CODE`: as `python -c` does, where only modules can be started."""

import sys

if __name__ == "__main__":
    exec(sys.argv[1])  # noqa: S102
