"""`python -m fastmaze` is the command `fastmaze`."""

import sys

from fastmaze.cli import main

if __name__ == "__main__":
    sys.exit(main())
