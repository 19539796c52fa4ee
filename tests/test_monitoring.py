"""What is in deploy/monitoring, with the programs that it is for: promtool, node_exporter, Prometheus, visudo."""

import http.server
import json
import os
import re
import shutil
import socket
import socketserver
import subprocess
import threading
import urllib.parse
import urllib.request
import uuid
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple

import pytest

from tests.documents import ROOT, table
from tests.pool import UTC, TestPool
from tests.test_metrics import HOSTILE, publishing, shown, tick
from vmss.cli.commands import status

MONITORING = ROOT / "deploy" / "monitoring"
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
NODE_EXPORTER = "prometheus-node-exporter"


def needs(*programs: str) -> "pytest.MarkDecorator":
    missing = [program for program in programs if shutil.which(program, path=PATH) is None]
    return pytest.mark.skipif(bool(missing), reason="not installed: %s" % ", ".join(missing))


def run(*words: str, text: str = "", folder: Path = MONITORING) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        words,
        input=text,
        cwd=str(folder),
        env=dict(os.environ, PATH=PATH),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def metrics_named(text: str) -> List[str]:
    return sorted(set(re.findall(r"\bvmss_[a-z_]+", text)))


@pytest.fixture
def troubled(pool: TestPool) -> TestPool:
    """A pool of which every number is known, and of which a VM is late; its clock is this machine's."""
    start = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    pool.simulator.set_time(start)
    sr = pool.sr(HOSTILE, size=100 << 30)
    good, bad = pool.vm("good", [sr]), pool.vm(HOSTILE, [sr])
    pool.policy([good, bad], "nightly", schedule={"min": "0"})
    pool.simulator.set_time(start)
    pool.call("VM.add_to_blocked_operations", bad, "snapshot", "no")
    pool.tick()
    # It grows, by the notes of its use.
    used = int(pool.call("SR.get_physical_utilisation", sr))
    notes = "%d:%d %d:%d" % (start.timestamp() - 90000, 0, start.timestamp() - 3600, max(used, 1 << 30))
    pool.call("SR.remove_from_other_config", sr, "vmss:used")
    pool.call("SR.add_to_other_config", sr, "vmss:used", notes)
    return pool


def test_the_table_the_rules_and_the_dashboard_name_what_there_is(troubled: TestPool) -> None:
    around = publishing(troubled)
    tick(troubled, around)
    text = Path(around.settings.metrics_file).read_text(encoding="utf-8")
    there = re.findall(r"^# TYPE (\w+) gauge$", text, re.MULTILINE)
    listed = [row.split("`")[1] for row in table("docs/monitoring.md", "metric")]
    assert sorted(there) == sorted(listed)
    for name in ("alerts.yml", "fleet.yml", "alerts_test.yml", "grafana.json"):
        used = metrics_named((MONITORING / name).read_text(encoding="utf-8"))
        assert used and set(used) <= set(there), name
    # Every rule has a test that sees it fire.
    rules = re.findall(r"alert: (\w+)", (MONITORING / "alerts.yml").read_text())
    tests = (MONITORING / "alerts_test.yml").read_text()
    assert len(rules) > 10 and not [rule for rule in rules if rule not in tests]


@needs("promtool")
def test_promtool_finds_nothing_wrong_with_the_numbers(troubled: TestPool) -> None:
    around = publishing(troubled)
    tick(troubled, around)
    for text in (shown(troubled), Path(around.settings.metrics_file).read_text(encoding="utf-8")):
        checked = run("promtool", "check", "metrics", text=text)
        assert (checked.returncode, checked.stdout) == (0, "")


@needs("promtool")
def test_the_rules_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    for name in ("alerts.yml", "fleet.yml", "alerts_test.yml"):
        shutil.copy(str(MONITORING / name), str(tmp_path))
    tested = run("promtool", "test", "rules", "alerts_test.yml", folder=tmp_path)
    assert tested.returncode == 0, tested.stdout
    # The tests of the rules see it if one is another.
    rules = (MONITORING / "alerts.yml").read_text(encoding="utf-8")
    assert ">= 24" in rules
    (tmp_path / "alerts.yml").write_text(rules.replace(">= 24", ">= 25"), encoding="utf-8")
    assert run("promtool", "test", "rules", "alerts_test.yml", folder=tmp_path).returncode == 1
    (tmp_path / "alerts.yml").write_text(rules, encoding="utf-8")
    fleet = (MONITORING / "fleet.yml").read_text(encoding="utf-8")
    assert "offset 1d" in fleet
    (tmp_path / "fleet.yml").write_text(fleet.replace("offset 1d", "offset 1w"), encoding="utf-8")
    assert run("promtool", "test", "rules", "alerts_test.yml", folder=tmp_path).returncode == 1


# Prometheus itself


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def started(folder: Path, *words: str) -> Iterator[None]:
    with open(str(folder / ("%s.log" % words[0])), "wb") as log:
        process = subprocess.Popen(
            words, cwd=str(folder), env=dict(os.environ, PATH=PATH), stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            process.kill()
            process.wait()


def got(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode("utf-8"))
    except OSError:
        return ""


def until(what: Callable[[], Any]) -> Any:
    """Ask until there is an answer; the limit of the test ends it."""
    while True:
        found = what()
        if found:
            return found
        os.sched_yield()


class Api:
    """Prometheus's own interface."""

    def __init__(self, port: int) -> None:
        self._url = "http://127.0.0.1:%d/api/v1/" % port

    def query(self, expression: str) -> List[Dict[str, Any]]:
        text = got(self._url + "query?" + urllib.parse.urlencode({"query": expression}))
        if not text:
            return []
        answer = json.loads(text)
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])

    def states(self) -> Dict[str, int]:
        """How many pools are in each state."""
        counted = self.query('count_values("state", vmss:pool_state:max)')
        return {str(one["metric"]["state"]): int(one["value"][1]) for one in counted}

    def alerts(self) -> Dict[str, Dict[str, str]]:
        text = got(self._url + "alerts")
        alerts: List[Dict[str, Any]] = json.loads(text)["data"]["alerts"] if text else []
        return {str(one["labels"]["alertname"]): one["annotations"] for one in alerts if one["state"] == "firing"}


@needs("prometheus", NODE_EXPORTER)
def test_node_exporter_reads_the_file_and_prometheus_scrapes_it_and_fires(troubled: TestPool, tmp_path: Path) -> None:
    around = publishing(troubled)
    troubled.simulator.set_time(datetime.now(UTC))
    tick(troubled, around)
    folder = Path(around.settings.metrics_file).parent
    exporter, prometheus = free_port(), free_port()
    for name in ("alerts.yml", "fleet.yml"):
        shutil.copy(str(MONITORING / name), str(tmp_path))
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}\n"
        "rule_files: [alerts.yml, fleet.yml]\n"
        "scrape_configs: [{job_name: node, static_configs: [{targets: ['127.0.0.1:%d']}]}]\n" % exporter
    )
    with started(
        tmp_path,
        NODE_EXPORTER,
        "--collector.disable-defaults",
        "--collector.textfile",
        "--collector.textfile.directory=%s" % folder,
        "--web.listen-address=127.0.0.1:%d" % exporter,
    ), started(
        tmp_path,
        "prometheus",
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        "--web.listen-address=127.0.0.1:%d" % prometheus,
    ):
        text = until(lambda: got("http://127.0.0.1:%d/metrics" % exporter))
        assert re.search("^node_textfile_scrape_error 0$", text, re.MULTILINE), text
        assert "vmss_vm_snapshots{" in text
        api = Api(prometheus)
        (late,) = until(lambda: api.query('vmss_vm_snapshots{vm!="good"}'))
        assert late["metric"]["vm"] == troubled.call("VM.get_name_label", named(troubled, "good", without=True))
        assert late["value"][1] == "0"
        # The late VM is not counted yet, for its run may still be tried again; the failed run is told.
        alerts = until(api.alerts)
        (uuid,) = [troubled.uuid("VMSS", ref) for ref in troubled.call("VMSS.get_all")]
        (told,) = [alerts[name] for name in ("VmssScheduleFailing", "VmssVmsLate") if name in alerts]
        assert uuid in told["description"] and "nightly" in told["summary"]
        # Every panel of the dashboard shows something.
        for panel in json.loads((MONITORING / "grafana.json").read_text())["panels"]:
            for target in panel["targets"]:
                assert until(lambda: api.query(target["expr"].replace("$pool", ".*"))), panel["title"]  # noqa: B023


@needs("prometheus")
def test_of_two_hundred_pools_the_panel_shows_those_that_are_not_well(tmp_path: Path) -> None:
    texts = fleet(tmp_path, 200)
    with served(texts) as port, scraping(tmp_path, port, len(texts)) as api:
        # Until each pool was scraped, and what it says evaluated.
        until(lambda: len(api.query("vmss:pool_state:max > 0")) == 100)
        assert api.states() == {"0": 100, "1": 50, "2": 50}
        (panel,) = [one for one in dashboard()["panels"] if one["title"] == "Pools that are not well"]
        (target,) = panel["targets"]
        rows = api.query(target["expr"].replace("$pool", ".*"))
        assert [row["value"][1] for row in rows] == ["2"] * 50 + ["1"] * 50
        assert {row["metric"]["pool_name"] for row in rows} == {"pool %d" % at for at in range(200) if at % 4 < 2}
        (row,) = api.query(target["expr"].replace("$pool", rows[7]["metric"]["pool"]))
        assert row["metric"] == rows[7]["metric"]


def fleet(folder: Path, count: int) -> List[str]:
    """What so many pools publish: of each four one without a licence, one whose storage is full soon, and two
    that are well. Eight are simulated, and the others say the same under uuids and names of their own; with
    VMSS_TEST_EXAMPLES=50 each is simulated."""
    simulated = min(count, 8 * int(os.environ.get("VMSS_TEST_EXAMPLES", "1")))
    found: List[str] = []
    for at in range(count):
        if at < simulated:
            (folder / str(at)).mkdir()
            with TestPool(folder / str(at)) as pool:
                text, own = published(pool, at % 4), pool.uuid("pool", pool.call("pool.get_all")[0])
        else:
            text, own = found[at % simulated], uuid_of(found[at % simulated])
        text = re.sub('pool_name="[^"]*"', 'pool_name="pool %d"' % at, text)
        found.append(text.replace(own, str(uuid.UUID(int=at))))
    return found


def uuid_of(text: str) -> str:
    return str(re.findall('^vmss_info{pool="([^"]*)"', text, re.MULTILINE)[0])


def published(pool: TestPool, trouble: int) -> str:
    """The file of a pool: without a licence (0), with storage that is full soon (1), or well."""
    # The slot was in this quarter of an hour: a VM is late only half an hour after it.
    now = datetime.now(UTC)
    slot = now.replace(minute=now.minute - now.minute % 15, second=0, microsecond=0)
    pool.simulator.set_time(slot)
    sr = pool.sr(size=100 << 30)
    pool.policy([pool.vm("vm", [sr])], "nightly", schedule={"min": str(slot.minute)})
    if trouble == 0:
        pool.call("simulator.restrict", "VMSS", True)
    pool.simulator.set_time(slot)
    pool.tick()
    if trouble == 1:
        notes = "%d:0 %d:%d" % (slot.timestamp() - 90000, slot.timestamp() - 3600, 60 << 30)
        pool.call("SR.remove_from_other_config", sr, "vmss:used")
        pool.call("SR.add_to_other_config", sr, "vmss:used", notes)
    around = publishing(pool)
    pool.simulator.set_time(now)
    tick(pool, around)
    return Path(around.settings.metrics_file).read_text(encoding="utf-8")


@contextmanager
def served(texts: List[str]) -> Iterator[int]:
    """A server, on this port, of the N-th text under /N."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = texts[int(self.path[1:])].encode("utf-8")
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *words: Any) -> None:
            pass

    class Threads(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True
        request_queue_size = 256

    with Threads(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


@contextmanager
def scraping(folder: Path, port: int, count: int) -> Iterator[Api]:
    """A Prometheus with our rules, which scrapes so many pools from this port."""
    for name in ("alerts.yml", "fleet.yml"):
        shutil.copy(str(MONITORING / name), str(folder))
    targets = [
        {"targets": ["127.0.0.1:%d" % port], "labels": {"__metrics_path__": "/%d" % at, "instance": "host %d" % at}}
        for at in range(count)
    ]
    (folder / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "3s", "evaluation_interval": "1s"},
                "rule_files": ["alerts.yml", "fleet.yml"],
                "scrape_configs": [{"job_name": "node", "static_configs": targets}],
            }
        )
    )
    own = free_port()
    with started(
        folder,
        "prometheus",
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=data",
        "--web.listen-address=127.0.0.1:%d" % own,
    ):
        yield Api(own)


def named(pool: TestPool, name: str, without: bool = False) -> str:
    (policy,) = pool.call("VMSS.get_all_records").values()
    (found,) = [vm for vm in policy["VMs"] if (pool.call("VM.get_name_label", vm) == name) != without]
    return str(found)


# Grafana, NRPE, sudo, SNMP


def dashboard() -> Dict[str, Any]:
    found: Dict[str, Any] = json.loads((MONITORING / "grafana.json").read_text(encoding="utf-8"))
    return found


def test_the_dashboard_has_its_data_source_chosen_and_no_panel_on_another() -> None:
    assert [one["name"] for one in dashboard()["templating"]["list"]] == ["datasource", "pool"]
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    covered: Set[Tuple[int, int]] = set()
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}" and panel["targets"]
        at = panel["gridPos"]
        places = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not covered & places and at["x"] + at["w"] <= 24
        covered |= places


@needs("visudo")
def test_sudo_takes_the_line_which_is_the_command_of_nrpe(tmp_path: Path) -> None:
    copy = tmp_path / "sudoers"
    shutil.copy(str(MONITORING / "sudoers"), str(copy))
    copy.chmod(0o440)
    checked = run("visudo", "-c", "-f", str(copy))
    assert checked.returncode == 0, checked.stdout
    copy.chmod(0o640)
    copy.write_text(copy.read_text().replace("NOPASSWD:", "NOPASSWD"))
    assert run("visudo", "-c", "-f", str(copy)).returncode != 0


def test_nrpe_snmp_and_sudo_name_one_command_which_there_is() -> None:
    (allowed,) = re.findall(r"NOPASSWD: (.*)$", (MONITORING / "sudoers").read_text(), re.MULTILINE)
    (called,) = re.findall(
        r"^command\[check_vmss\]=/usr/bin/sudo -n (.*)$", (MONITORING / "nrpe.cfg").read_text(), re.M
    )
    (extended,) = re.findall(r"^extend vmss (.*)$", (MONITORING / "snmpd.conf").read_text(), re.M)
    assert allowed == called == extended
    assert (ROOT / "vmss" / "data" / allowed.split()[0].lstrip("/")).exists()
    assert status.parser().parse_args(allowed.split()[2:]).nagios
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert "NOPASSWD: " + allowed in text and "=/usr/bin/sudo -n " + called in text
