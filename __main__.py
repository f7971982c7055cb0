"""`python -m affuse` is the command `affuse`."""

from affuse.cli import main

main()
