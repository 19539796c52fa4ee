"""The check of hooks: which programs in their directory are not started, and what keeps guests from being asked."""

from typing import Iterator

from vmss.core.text import one_line
from vmss.edges.hooks_dir import read_hooks
from vmss.insight.case import Case
from vmss.insight.findings import OK, WARNING, Finding


def hooks(case: Case) -> Iterator[Finding]:
    """Whether every program in the directory of hooks can be started, and the secret of the VM sync hook be read."""
    settings = case.settings
    found = read_hooks(settings.hooks_dir)
    for refused in found.refused:
        yield Finding(
            WARNING, "hooks", "a hook is not run: %s" % refused.why, one_line(refused.path, 300), refused.remedy
        )
    if settings.sync_hook:
        from vmss.edges.sync_hook import NoSecret, secret

        try:
            secret(settings.sync_secret_file)
        except NoSecret as error:
            yield Finding(WARNING, "hooks", "no guest is asked before its snapshot", str(error), error.remedy)
            return
    if not found.refused:
        text = "hooks: %d" % found.number if found.number else "there are no hooks"
        yield Finding(OK, "hooks", text, one_line(settings.hooks_dir, 300))
