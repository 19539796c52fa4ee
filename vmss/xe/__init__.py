"""The commands of xe that schedules need, over XenAPI, with xe's syntax, output and exit status.

`syntax` parses the words, `classes` is the table of classes and fields, `fields` converts values to text and back,
`objects` reads objects from xapi, `commands` carries out the commands, `layout` renders the output, and `errors` and
`parameters` render errors. `vmss.cli.commands.xe` is the command line.
"""
