"""`python -m minisplit` where Python has imported the package already, as under a debugger."""

import sys

from minisplit.launch.commands import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
