"""OAR's node side on a real OAR 2.5: what each job pays against the true power, and that nothing of ours hurts OAR."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

import pytest
from tests.labs.lab import PATIENCE_S, until
from tests.labs.measured import IDLE_W, MEM_BYTES, uuid
from tests.labs.oar.cluster import CPUS, MeasuredOar, lines, reading_times
from tests.labs.oar.lab import OarLab
from tests.labs.oar.layout import USERS
from tests.labs.oracle import Shares, Window, node_truth

pytestmark = pytest.mark.lab

EDGE_NS = 15_000_000
"""What an edge may be off: a mark knows the time from /proc/uptime, in hundredths of a second."""
LATE = 2
NOTIFY = "/opt/jobimpact/share/jobimpact/prolog_epilog/oar/notify"
MARKS = "/run/jobimpact/marks"


def load(cpu: float, seconds: float) -> str:
    return f"load --period-ms 5 --cpu {cpu} --seconds {seconds}"


def at(node: str, cores: int = 1, more: str = "") -> tuple[str, str, str, str]:
    """Options: some cores of this node."""
    return "-l", f"/host=1/core={cores},walltime=0:5:0", "-p", f"host='{node}'{more}"


class Day:
    """What happened on the cluster, what our books say, and what is true."""

    def __init__(self, cluster: MeasuredOar) -> None:
        self.cluster, self.lab = cluster, cluster.lab
        self.jobs: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.nodes_left: dict[str, set[str]] = {}
        self.queues_left: set[str] = set()
        self.crash_ns = 0
        self.crashed_after_ns = 0
        self.books: dict[str, Shares] = {}
        self.truth: dict[str, Shares] = {}
        self.windows: dict[str, list[Window]] = {}
        self.rig_late_s = 0.0
        self.begun_s = int(time.time()) - 1
        self.accounted: list[subprocess.CompletedProcess[str]] = []
        """`jobimpact account`, twice."""

    def submit(self, name: str, command: str, *options: str, user: str = "ana") -> str:
        self.jobs[name] = self.lab.oarsub(command, "-n", name, *options, user=user)
        return self.jobs[name]

    def id(self, *names: str) -> list[str]:
        return [self.jobs[name] for name in names]

    def owners(self) -> dict[str, int]:
        """Each job's uid."""
        others = {"two": "j.doe_2-x", "preempting": "boris"}
        return {job: USERS[others.get(name, "ana")] for name, job in self.jobs.items()}

    def close(self) -> None:
        """After the last daemon has ended."""
        assigned = {job: self.lab.assigned(job) for job in self.jobs.values()}
        trace = self.cluster.rig.trace()
        self.rig_late_s = trace.late_s()
        for node in self.cluster.nodes:
            spans = self.spans(node)
            self.windows[node] = self._windows(node, assigned, spans)
            found: Shares = defaultdict(float)
            for between, path in zip(spans, self.cluster.recordings[node], strict=True):
                rig, windows, readings = self.cluster.rig, self.windows[node], reading_times(path)
                truth = node_truth(rig, trace, node, windows, between, IDLE_W, readings)
                for key, uj in truth.items():
                    found[key] += uj
            self.truth[node] = dict(found)
            rows = self.cluster.rows(node, "SELECT domain, holder, uj FROM ledger")
            self.books[node] = {(domain, holder): uj for domain, holder, uj in rows}

    def spans(self, node: str) -> list[tuple[int, int]]:
        """From when to when the node's energy is in its books: a crash loses what was read and not yet written."""
        times = [reading_times(path) for path in self.cluster.recordings[node]]
        spans = [(one[0], one[-1]) for one in times]
        if len(spans) == 2:
            ((known_ns,),) = self.cluster.rows(node, "SELECT known_ns FROM domain WHERE name = 'package-0'")
            first, last = spans
            end_ns = first[0] + known_ns - (last[1] - last[0])
            near = bisect_left(times[0], end_ns - 1000)
            assert abs(times[0][near] - end_ns) < 1000, "what is known ends at a reading"
            self.crashed_after_ns = times[0][near]
            spans[0] = first[0], times[0][near]
        return spans

    def _windows(
        self, node: str, assigned: dict[str, dict[str, tuple[int, list[int]]]], spans: list[tuple[int, int]]
    ) -> list[Window]:
        found = []
        recorded = [line for path in self.cluster.recordings[node] for line in lines(path) if "mark" in line]
        marked = {one["mark"]["job"]: round(one["t"] * 1e9) for one in recorded if one["mark"]["event"] == "start"}
        begun: dict[str, tuple[int, bool]] = {}
        for edge in [one for one in self.cluster.edges() if one.node == node]:
            if edge.event != "made" and edge.job in begun:
                start_ns, holds_cpus = begun.pop(edge.job)
                cores, gpus = assigned[edge.job][node]
                # A job that is suspended keeps its memory and GPUs.
                held = tuple(uuid(node, minor) for minor in gpus)
                end_ns = min(edge.t_ns, spans[0][1]) if edge.t_ns >= self.crash_ns > start_ns else edge.t_ns
                cpus, mem = cores if holds_cpus else 0, MEM_BYTES * cores // CPUS
                # Its GPUs are confined and told of when all else is set up.
                told_ns = marked[edge.job] if gpus else start_ns
                if told_ns > start_ns:
                    found.append(Window(edge.job, start_ns, told_ns, cpus, mem))
                found.append(Window(edge.job, told_ns, end_ns, cpus, mem, held))
            if edge.event != "removed":
                begun[edge.job] = edge.t_ns, edge.event != "FROZEN"
        return found


@pytest.fixture(scope="module")
def day(oar_lab: OarLab) -> Iterator[Day]:
    """A dozen kinds of jobs on four nodes."""
    n1, n2, n3, n4 = oar_lab.nodes
    assert oar_lab.gpu_nodes == [n4]
    with MeasuredOar(oar_lab, oar_lab.nodes) as cluster:
        day = Day(cluster)
        time.sleep(0.87)
        day.submit("one", load(0.3, 16), *at(n1))
        day.submit("two", load(0.15, 11), *at(n1), user="j.doe_2-x")
        day.submit("held", f"until [ -e go ]; do {load(0.3, 1)}; done; {load(0.3, 2.4)}", *at(n3))
        look = "for m in 0 1; do head -c 1 /dev/nvidia$m; done 2> $HOME/gpus;"
        day.submit("gpu", look + load(0.1, 12), "-l", "/gpu=1,walltime=0:5:0", "-p", "gpu is not null")
        day.submit("killed", load(0.2, 300), *at(n2, 2), "-t", "besteffort")
        oar_lab.wait_running(*day.id("held", "killed"))
        oar_lab.suspend(day.jobs["held"])
        day.submit("preempting", load(0.2, 6.3), *at(n2, 2), user="boris")
        tasks = oar_lab.oarsub_all(load(0.2, 4.2), "-n", "task", "--array", "3", *at(n1))
        day.jobs |= {f"task{number}": job for number, job in enumerate(tasks)}
        time.sleep(2.3)
        oar_lab.resume(day.jobs["held"])
        (oar_lab.home / "go").touch()
        oar_lab.wait(day.jobs["killed"])
        day.submit("pair", load(0.2, 5.1), "-l", "/host=2/core=1,walltime=0:5:0", "-p", f"host in ('{n2}','{n3}')")
        day.submit("short", "true", *at(n4))
        day.submit("failing", load(0.1, 2.6) + "; exit 3", *at(n4))
        oar_lab.wait(day.id("held", "pair"))
        day.submit("deployed", "sleep 5", "-t", "deploy", "-l", "/host=1,walltime=0:5:0", "-p", f"host='{n3}'")
        oar_lab.wait(day.id(*(day.jobs.keys() - {"killed"})))
        day.states = {name: oar_lab.states(job)[job] for name, job in day.jobs.items()}
        day.nodes_left, day.queues_left = oar_lab.node_states(), oar_lab.queue_states()
        crash(day, n2)
        for name in oar_lab.nodes:
            assert cluster.stop(name) == 0
        cluster.finish()
        day.close()
        day.accounted = [cluster.account(day.begun_s) for _ in range(2)]
        yield day


def crash(day: Day, node: str) -> None:
    """A node loses its power under a job, and comes back."""
    day.submit("crashed", load(0.2, 300), *at(node))
    day.submit("before", load(0.1, 1.5), *at(node))
    day.lab.wait_running(day.jobs["crashed"])
    day.lab.wait(day.jobs["before"])
    over = "SELECT 1 FROM run WHERE job = ? AND state = 'ended'"
    until(lambda: bool(day.cluster.rows(node, over, day.jobs["before"])), PATIENCE_S, str)
    time.sleep(1.1)  # for some readings that are lost
    day.crash_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    day.cluster.crash(node)
    day.lab.boot(node)
    day.cluster.start(node)
    day.submit("after", load(0.2, 3.1), *at(node))
    day.lab.wait(day.jobs["after"])


def test_every_holder_pays_its_true_energy(day: Day) -> None:
    """Jobs, idle and system: within 1 %, given what an edge may be off."""
    report, wrong = [], []
    names = {job: name for name, job in day.jobs.items()}
    for node, truth in day.truth.items():
        for holder in sorted({holder for _, holder in truth}):
            true_j = sum(uj for (_, one), uj in truth.items() if one == holder) / 1e6
            ours_j = sum(uj for (_, one), uj in day.books[node].items() if one == holder) / 1e6
            allowed_j = true_j * (0.02 if holder == day.jobs["short"] else 0.01) + _edge_j(day, node, holder)
            ratio = f"{ours_j / true_j - 1:+8.3%}" if true_j else "       -"
            name = names.get(holder, holder)
            line = f"{node} {name:>10} true {true_j:10.3f} J ours {ours_j:10.3f} J {ratio} allowed {allowed_j:.1f} J"
            report.append(line)
            if abs(ours_j - true_j) > allowed_j:
                wrong.append(line)
    print("", *report, sep="\n")
    assert not wrong


def test_wrong_ways_to_share_would_be_seen(day: Day) -> None:
    """Equal shares, or all to idle, are far from the truth."""
    node, one, two = day.lab.nodes[0], day.jobs["one"], day.jobs["two"]
    paid: dict[str, float] = defaultdict(float)
    for (_, holder), uj in day.truth[node].items():
        paid[holder] += uj
    wrong = {"equal shares": (paid[one] + paid[two]) / 2 / paid[one], "all to idle": sum(paid.values()) / paid["idle"]}
    print({way: f"{ratio - 1:+.1%}" for way, ratio in wrong.items()})
    assert all(abs(ratio - 1) > 0.05 for ratio in wrong.values())


def test_books_balance_to_the_microjoule(day: Day) -> None:
    """Jobs + idle + system = measured on every node and domain, and measured = last raw - first raw."""
    for node in day.cluster.nodes:
        rows = day.cluster.rows(node, "SELECT name, measured_uj, unknown_ns FROM domain")
        assert {name for name, _, _ in rows} == set(day.cluster.rig.nodes[node].counters)
        for name, measured, _ in rows:
            assert measured == sum(uj for (domain, _), uj in day.books[node].items() if domain == name)
            raw_uj = 0
            for path, span in zip(day.cluster.recordings[node], day.spans(node), strict=True):
                found = [(one["t"], one["read"]) for one in lines(path) if "read" in one]
                values = [
                    (round(t * 1e9), domains[name]["uj"])
                    for t, read in found
                    for domains in read.values()
                    if name in domains
                ]
                raw_uj += dict(values)[span[1]] - values[0][1]
            assert measured == raw_uj


def test_marks_tell_what_oar_gave(day: Day) -> None:
    """One start and one end on each node of each job, with its cores, its GPUs and its owner."""
    owners = day.owners()
    for name, job in day.jobs.items():
        for node, (cores, gpus) in day.lab.assigned(job).items():
            told = [mark for mark in day.cluster.marks(node) if mark["job"] == job]
            events = ["start"] if name == "crashed" else [] if name == "deployed" else ["start", "end"]
            assert [mark["event"] for mark in told] == events, name
            for mark in told:
                assert (mark["cpus"], mark["uid"]) == (cores, owners[job])
            assert [mark.get("gpus", []) for mark in told[:1]] == [[uuid(node, one) for one in gpus]] * bool(told)


def test_runs_begin_and_end_with_their_cgroups(day: Day) -> None:
    """Each run lasts as long as its cgroup, and no mark was missed."""
    for node in day.cluster.nodes:
        rows = day.cluster.rows(node, "SELECT job, state, elapsed_ns, cpus, uid, flags FROM run")
        held: dict[str, int] = defaultdict(int)
        for window in day.windows[node]:
            held[window.job] += window.end_ns - window.start_ns
        assert {job for job, *_ in rows} == held.keys()
        slack_ns = 2 * EDGE_NS + 2 * LATE * round(_late_s(day, node) * 1e9)
        for job, state, elapsed_ns, cpus, uid, flags in rows:
            assert abs(elapsed_ns - held[job]) <= slack_ns, (node, job)
            assert (cpus, uid) == (day.lab.assigned(job)[node][0], day.owners()[job])
            assert not {"no start mark", "no end mark"} & set(json.loads(flags))
            assert state == ("rebooted" if job == day.jobs["crashed"] else "ended")


def test_jobs_ended_as_they_were_to(day: Day) -> None:
    """The lab did what the test is about: a besteffort job was killed, the others ended by themselves."""
    assert {name for name, state in day.states.items() if state == "Error"} == {"killed"}
    assert "BESTEFFORT_KILL" in day.lab.events(day.jobs["killed"])
    assert day.lab.told(day.jobs["failing"], "exit_code") == [str(3 << 8)]


def test_a_suspended_job_holds_no_cores(day: Day) -> None:
    """OAR freezes it: its flag says so, and the truth above has no CPU share for it in that time."""
    ((flags,),) = day.cluster.rows(day.lab.nodes[2], "SELECT flags FROM run WHERE job = ?", day.jobs["held"])
    assert "suspended for a time: no share of the CPUs" in json.loads(flags)
    assert [window.cpus for window in day.windows[day.lab.nodes[2]] if window.job == day.jobs["held"]] == [1, 0, 1]


def test_a_gpu_job_sees_and_pays_one_gpu(day: Day) -> None:
    """OAR's GPU confinement and our books agree on which."""
    node = day.lab.gpu_nodes[0]
    (minor,) = day.lab.assigned(day.jobs["gpu"])[node][1]
    denied = re.findall(r"/dev/nvidia(\d).*Operation not permitted", (day.lab.home / "gpus").read_text())
    assert denied == [str(1 - minor)]
    paid = {domain for (domain, holder), uj in day.books[node].items() if holder == day.jobs["gpu"] and uj}
    assert {one for one in paid if one.startswith("gpu:")} == {f"gpu:{uuid(node, minor)}"}


def test_a_deploy_job_is_nobodys(day: Day) -> None:
    """It has neither mark nor cgroup: no other job pays for its time."""
    node = day.lab.nodes[2]
    assert list(day.lab.assigned(day.jobs["deployed"])) == [node]
    start_s, stop_s = map(int, day.lab.told(day.jobs["deployed"], "start_time", "stop_time"))
    runs = day.cluster.rows(node, "SELECT job, start_s, end_s FROM run")
    assert stop_s > start_s  # OAR stamps a start when it has been told of it: late, where the machine is slow
    assert not [job for job, begun_s, ended_s in runs if begun_s < stop_s and ended_s > start_s + 1]
    assert day.jobs["deployed"] not in {job for job, *_ in runs}


def test_a_crash_loses_nothing_that_was_written(day: Day) -> None:
    """The run under which the node went down ended at its last reading in the ledger."""
    node = day.lab.nodes[1]
    last_ns = max(one.t_ns - one.blind_ns for one in day.cluster.edges() if one.job == day.jobs["before"])
    assert last_ns - EDGE_NS <= day.crashed_after_ns <= day.crash_ns
    findings = day.cluster.rows(node, "SELECT subject FROM finding WHERE kind = 'reboot'")
    assert findings == [(day.jobs["crashed"],)]


ENDED = {
    "killed": ("PREEMPTED", None),
    "failing": ("FAILED", "3:0"),
    "deployed": ("COMPLETED", None),
}
"""How accounting tells of jobs that did not just end well: state and exit code; None: whatever OAR says."""


def test_each_of_oars_jobs_is_one_result_with_its_own_energy(day: Day) -> None:
    """Records by SQL and books by cgroup meet: to the microjoule, nothing doubled, nothing lost, twice the same."""
    over = {job: name for name, job in day.jobs.items() if name != "crashed"}  # OAR thinks that it runs on
    first, again = day.accounted
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert f"{len(over)} new, 0 changed" in first.stdout
    assert f"0 new, 0 changed, {len(over)} unchanged" in again.stdout
    assert not [line for line in first.stderr.splitlines() if "no inventory" not in line]
    with sqlite3.connect(day.cluster.results) as db:
        rows = db.execute(
            "SELECT raw_id, state, exit_code, nodes, start_s, end_s, elapsed_s, energy FROM job_result"
        ).fetchall()
    assert sorted(raw_id for raw_id, *_ in rows) == sorted(over)
    for job, state, exit_code, nodes, start_s, end_s, elapsed_s, told in rows:
        name = over[job]
        wanted, code = ENDED.get(name, ("COMPLETED", "0:0"))
        assert (state, code) == (wanted, code and exit_code), (name, day.lab.events(job), day.lab.logs())
        assert set(json.loads(nodes)) == set(day.lab.assigned(job))
        booked = {node: day.cluster.rows(node, PAID, job)[0][0] for node in day.cluster.nodes}
        paid = {node: uj for node, uj in booked.items() if uj is not None}
        energy = json.loads(told)
        assert {node for node, one in energy["nodes"].items() if one["state"]} == set(paid), name
        if name == "deployed":
            assert (energy["total_j"], energy["reason"].count("a deploy job")) == (None, 1)
        else:
            assert round(energy["total_j"] * 1e6) == sum(paid.values()), name
        if name == "held":  # 2.3 s at least it was suspended, by OAR's own clock, which counts whole seconds
            assert end_s - start_s - elapsed_s >= 2


def test_oar_noticed_nothing(day: Day) -> None:
    """After all of it, until the crash, every node was alive and every queue open."""
    assert set.union(*day.nodes_left.values()) == {"Alive"}
    assert day.queues_left == {"Active"}


PAID = "SELECT sum(l.uj) FROM ledger l JOIN domain d ON d.name = l.domain WHERE l.holder = ? AND d.kind != 'node'"
NOTHING = ":"
# What is broken on a node, from the last node to the first and so on: the first one's daemon is dead, the second one's
# stopped. Each gets a job, and OAR must not notice.
BROKEN = {
    "notifier hangs": f"printf '#!/bin/sh\\nexec sleep 600\\n' > {NOTIFY}",
    "notifier fails": f"printf '#!/bin/sh\\necho no >&2; exit 1\\n' > {NOTIFY}",
    "notifier leaves a child": f"printf '#!/bin/sh\\nsleep 600 &\\nexit 1\\n' > {NOTIFY}",
    "notifier ignores signals": f"printf '#!/bin/sh\\ntrap : ALRM HUP\\nwhile :; do sleep 1; done\\n' > {NOTIFY}",
    "notifier is missing": f"rm {NOTIFY}",
    "notifier cannot be executed": f"chmod 644 {NOTIFY}",
    "notifier is no program": f"head -c 4096 /dev/urandom > {NOTIFY}",
    "mark folder is missing": f"rm -r {MARKS}",
    "mark folder is full": f"mount -t tmpfs -o nr_inodes=1,mode=1730,gid=oar none {MARKS}",
    "mark folder is read-only": f"mount -t tmpfs -o ro,mode=1730,gid=oar none {MARKS}",
    "nothing but a stopped daemon": NOTHING,
    "nothing but a dead daemon": NOTHING,
}
MEND = (
    f"umount {MARKS} 2> /dev/null; install -d -m 1730 -o root -g oar {MARKS}; "
    f"rm -f {NOTIFY}; install -m 755 $LAB/etc/notify {NOTIFY}"
)


def test_nothing_of_ours_can_hurt_oar(day: Day, oar_lab: OarLab) -> None:
    """Daemon killed or stopped; notifier or mark folder broken in each way: no node suspected, no queue stopped.

    The jobs end as they should, and the books that there are balance.
    """
    killed, stopped = oar_lab.nodes[:2]
    cores = dict.fromkeys(oar_lab.nodes, 2) | {stopped: 1}  # OAR still thinks that the crashed job runs there
    jobs: dict[str, tuple[str, str]] = {}
    with MeasuredOar(oar_lab, oar_lab.nodes) as cluster:
        cluster.stop(killed, signal.SIGKILL)
        cluster.send(stopped, signal.SIGSTOP)
        left = list(BROKEN.items())
        while left:
            this_time, left = left[: len(oar_lab.nodes)], left[len(oar_lab.nodes) :]
            for node, (name, breaking) in zip(reversed(oar_lab.nodes), this_time, strict=False):
                oar_lab.run_on(node, breaking)
                jobs[name] = oar_lab.oarsub(load(0.1, 0.5), *at(node, cores[node])), node
            states = oar_lab.wait([job for job, _ in jobs.values()])
            assert set(states.values()) == {"Terminated"}
            for node in oar_lab.nodes:
                oar_lab.run_on(node, MEND)
        assert {tuple(oar_lab.told(job, "exit_code")) for job, _ in jobs.values()} == {("0",)}
        assert set.union(*oar_lab.node_states().values()) == {"Alive"}
        assert oar_lab.queue_states() == {"Active"}
        cluster.start(killed)
        for node in oar_lab.nodes:
            assert cluster.stop(node) == 0
        cluster.finish()
        _check_books(cluster)
        for name, (job, node) in jobs.items():
            rows = cluster.rows(node, "SELECT state, cpus FROM run WHERE job = ?", job)
            # What a stopped daemon missed it is told of when it goes on; a dead one finds marks, or nothing.
            assert rows == ([] if node == killed and BROKEN[name] != NOTHING else [("ended", cores[node])]), name


def _check_books(cluster: MeasuredOar) -> None:
    for node in cluster.nodes:
        for name, measured in cluster.rows(node, "SELECT name, measured_uj FROM domain"):
            ((sum_uj,),) = cluster.rows(node, "SELECT sum(uj) FROM ledger WHERE domain = ?", name)
            assert measured == sum_uj


def test_check_tells_of_oar(oar_lab: OarLab) -> None:
    """`jobimpactd check` on a node of OAR: the cgroups, the marks' owner, and nothing of Slurm."""
    node = oar_lab.nodes[0]
    with MeasuredOar(oar_lab, [node]) as cluster:
        said = cluster.check(node).stdout
    assert "oar: marks of oar count" in said
    assert "cgroups: OAR's jobs at /sys/fs/cgroup/cpuacct/oar (v1)" in said
    assert "slurm" not in said.lower()


def _edge_j(day: Day, node: str, holder: str) -> float:
    """What each edge of each job may be worth, at the part's mean power.

    Of the hundredths of a second of /proc/uptime; of readings that come late after a mark or cgroup, by tens of
    milliseconds on a busy or slow machine: as late as this run's recording says, at the job's own mean power; and of
    a suspended job's cores, until the daemon has seen that it is.
    """
    joules = 0.0
    late_s = _late_s(day, node)
    node_w = sum(day.truth[node].values()) / 1e6 / sum((end - begin) / 1e9 for begin, end in day.spans(node))
    for window in day.windows[node]:
        if holder == "system":
            joules += 2 * node_w * EDGE_NS / 1e9  # CPU time is split anew at each edge
        if holder not in (window.job, "idle"):
            continue
        watts = sum(IDLE_W.values()) / CPUS + 300 * len(window.gpus)
        joules += 2 * watts * EDGE_NS / 1e9
        if window.cpus == 0:
            joules += watts * _blind_s(day, node, window)
        mean_w = watts
        if holder == window.job:
            true_j = sum(uj for (_, one), uj in day.truth[node].items() if one == holder) / 1e6
            parts = [one.end_ns - one.start_ns for one in day.windows[node] if one.job == holder]
            mean_w = true_j / (sum(parts) / 1e9) / len(parts)
        joules += 2 * LATE * late_s * mean_w
    return joules


def _blind_s(day: Day, node: str, window: Window) -> float:
    """For how long the daemon took a suspended job for one that runs, and the other way round."""
    told = [
        (line["t"], line["usage"]["jobs"][window.job].get("suspended", False))
        for path in day.cluster.recordings[node]
        for line in lines(path)
        if window.job in line.get("usage", {}).get("jobs", {})
    ]
    frozen_s, thawed_s = window.start_ns / 1e9, window.end_ns / 1e9
    first = next(t for t, suspended in told if suspended)
    last = next((t for t, suspended in told if t > first and not suspended), thawed_s)
    return max(0.0, first - frozen_s) + max(0.0, last - thawed_s)


def _late_s(day: Day, node: str) -> float:
    """By how much the latest of the readings that followed a mark or the end of a cgroup was late.

    On a machine that stood still, the rig and who looks for cgroups were late as well: so much more.
    """
    latest = 0.0
    for path in day.cluster.recordings[node]:
        reads = [time_ns / 1e9 for time_ns in reading_times(path)]
        edges = [one.t_ns / 1e9 for one in day.cluster.edges() if one.node == node]
        edges += [line["t"] for line in lines(path) if "mark" in line]
        inside = [t for t in edges if reads[0] <= t <= reads[-1]]
        latest = max([latest, *(reads[bisect_left(reads, t)] - t for t in inside)])
    blind_ns = max((one.blind_ns for one in day.cluster.edges() if one.node == node), default=0)
    return latest + day.rig_late_s + max(0, blind_ns - EDGE_NS) / 1e9
