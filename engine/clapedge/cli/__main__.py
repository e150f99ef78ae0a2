"""`python -m clapedge.cli`, for where the script is not on the path."""

from clapedge.cli import run

run()
