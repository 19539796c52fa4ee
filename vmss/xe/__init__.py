"""The commands of xe that schedules need, over XenAPI, with xe's syntax, output and exit status.

`syntax` parses the words. `names` has xe's own decisions, `model` an extract of xapi's data model, `made` the values
that xe makes of several calls; `classes` makes the classes and fields of them. `fields` converts values to text and
back, `objects` reads objects from xapi, in a `session`. `commands` finds and describes the commands, which
`commands_of_fields`, `commands_of_vms` and `commands_of_others` carry out. `layout` renders the output, `errors` and
`parameters` render errors. `vmss.cli.commands.xe` is the command line.
"""
