"""`python -m driftline`, the same as the command `driftline`."""

from driftline.cli import main

main()
