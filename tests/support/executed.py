"""`python -m tests.support.executed CODE …`: like `python -c`, for helpers that only start modules."""

import sys

if __name__ == "__main__":
    exec(sys.argv.pop(1))  # noqa: S102
