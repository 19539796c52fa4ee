"""The commands, one module each. A module has `parser()`, its argparse parser, and `do(arguments)`, which does the
command and returns the exit status; one with a syntax of its own has `main(words)` instead."""
