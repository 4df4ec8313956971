"""`python -m local.plan`: the same as `python -m local plan`."""

import sys

from local.plan.command import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
