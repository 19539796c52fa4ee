"""The commands of xe that schedules need, over XenAPI: its syntax, its output, its exit status.

`syntax` reads the words, `classes` is the table of what there is, `things` reads it from xapi, `fields` says how a
value is shown and understood, `layout` prints, `commands` does the rest. `vmss.cli.commands.xe` is the command line.
"""
