"""`python -m codegym_jax.cli`, for where the command is not on the path."""

import sys

from codegym_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())
