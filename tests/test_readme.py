"""The README says what is true."""
import re
from pathlib import Path

from vmss import alerts, failures
from vmss.settings import SETTINGS, Settings

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_setting_is_in_the_table_with_its_default_and_reason() -> None:
    for setting in SETTINGS:
        default = getattr(Settings(), setting.name)
        text = ("yes" if default else "no") if isinstance(default, bool) else str(default)
        assert "| `%s` | %s | %s |" % (setting.name, text or "(empty)", setting.help) in README


def test_every_alert_is_in_the_table_with_its_priority() -> None:
    for name, priority in alerts.PRIORITIES.items():
        assert "| `%s` | %d |" % (name, priority) in README


def test_every_line_of_the_log_is_explained() -> None:
    table = README.split("## What the log says")[1].split("## What the alerts mean")[0]
    explained = table.replace("UUID", "").replace("NAME", "").replace("…", "")
    for module in ("run", "service", "planning", "sessions", "alerts", "plan"):
        source = (ROOT / "vmss" / (module + ".py")).read_text(encoding="utf-8")
        for text in re.findall(r'\b_?log\(\s*"([^"%]{12,}?)[%(:"]', source):
            assert text.strip().split("  ")[0][:25] in explained or text in explained, text


def test_every_remedy_is_a_sentence() -> None:
    for code, failure in failures.CATALOGUE.items():
        assert failure.remedy.endswith(".") and not failure.sentence.endswith("."), code
        assert failure.kind in (failures.TRANSIENT, failures.PERMANENT, failures.UNKNOWN, failures.OPERATOR)
