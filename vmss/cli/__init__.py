"""The command line: what is common to the commands, which lie in `vmss.cli.commands`."""
