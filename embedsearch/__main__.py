"""``python -m embedsearch``: the command line."""

from embedsearch.commands.app import main

main()
