"""The Slurm Prolog and Epilog: what they write, and that nothing makes them fail. Real processes only."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.hooks.shells import BOOT, NAME, Env, Shell, finish, only_mark, script, start
from tests.hooks.slurm_hooks import BATCH, EPILOG, PROLOG, ended

from jobimpact.core.marks import parse_mark


def run(shell: Shell, hook: Path, env: Env) -> int:
    """Run a hook to its end and give its process id."""
    return finish(start([*shell.argv, hook], env))


def keys(mark: Path) -> dict[str, str]:
    """A mark as a mapping; it must be whole."""
    lines = mark.read_text("ascii").splitlines()
    assert lines[0] == "v=1"
    assert lines[-1] == "end=1"
    return dict(line.split("=", 1) for line in lines)


# What they write


def test_prolog_of_a_batch_job(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """A Slurm 22.05 batch job gives exactly this mark, under this name, for its owner only."""
    pid = run(shell, PROLOG, BATCH | settings)
    mark = only_mark(marks)
    assert mark.name == f"113.82.123.start.{pid}"
    assert stat.S_IMODE(mark.stat().st_mode) == 0o600
    assert mark.read_text() == (
        f"v=1\nevent=start\njob=123\nboot={BOOT}\nuptime=113.82\nscheduler=slurm\ncluster=labia\nnode=node01\n"
        "restart=0\nuid=2001\ncpus_per_node=2\nnodelist=node01\nend=1\n"
    )


def test_epilog_of_a_gpu_job(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """A Slurm 25.11 GPU job on two nodes: the node's own GPUs, the new names, the exit code at the end only."""
    env = BATCH | {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "SLURMD_NODENAME": "node04",
        "SLURM_JOB_CPUS_PER_NODE": "3(x2)",
        "SLURM_JOB_END_TIME": "1795190900",
        "SLURM_JOB_GPUS": "1,2",
        "SLURM_JOB_NODELIST": "node[03-04]",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_SLUID": "s7JMVPP3WYYE00",
        "SLURM_JOB_START_TIME": "1795190300",
        "SLURM_NODELIST": "node[03-04]",
    }
    body = (
        f"boot={BOOT}\nuptime=113.82\nscheduler=slurm\ncluster=labia\nnode=node04\nrestart=0\nsluid=s7JMVPP3WYYE00\n"
        "start_time=1795190300\nuid=2001\ngpus=1,2\ncpus_per_node=3(x2)\nnodelist=node[03-04]\n"
    )
    run(shell, PROLOG, env | {"SLURM_JOB_EXIT_CODE": "256"} | settings)
    begun = only_mark(marks)
    assert begun.read_text() == f"v=1\nevent=start\njob=123\n{body}end=1\n"
    begun.unlink()
    pid = run(shell, EPILOG, ended(env, "256") | settings)
    assert only_mark(marks).name == f"113.82.123.end.{pid}"
    assert only_mark(marks).read_text() == f"v=1\nevent=end\njob=123\n{body}exit_code=256\nend=1\n"


MIG = "MIG-6e6a1c3b-2f6d-5b41-9d0a-0c5d1f6b7e44"
GPU = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"


@pytest.mark.parametrize(
    ("devices", "told"),
    [
        (MIG, True),
        (GPU, True),
        (f"{MIG},{GPU}", True),
        (f"0,{MIG},12", True),
        ("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/7/0", True),
        ("0,1", False),
        ("", False),
        ("NoDevFiles", False),
        (f"{GPU},", False),
        (f",{GPU}", False),
        (f"{GPU},,{MIG}", False),
        (f"{GPU},x", False),
        (f"{GPU},12345", False),
        (f"x{GPU}", False),
        ("GPU-", False),
        (f"{GPU},MIG-", False),
        (f"{GPU} {MIG}", False),
        (f"{GPU};{MIG}", False),
        ("GPU-$(/bin/touch CANARY)", False),
        ("GPU-1,`/bin/touch CANARY`", False),
        ("GPU-*", False),
        ("GPU-1\n2", False),
        (",".join([GPU] * 99), True),
        (",".join([GPU] * 999), False),
    ],
)
def test_devices_by_uuid(
    shell: Shell, tmp_path: Path, marks: Path, settings: dict[str, str], devices: str, told: bool
) -> None:
    """GPUs and MIG devices that slurmd names by UUID are told as they came; numbers alone are what `gpus` has."""
    env = {"CUDA_VISIBLE_DEVICES": devices.replace("CANARY", str(tmp_path / "canary")), "SLURM_JOB_GPUS": "0"}
    run(shell, PROLOG, BATCH | env | settings)
    found = keys(only_mark(marks))
    assert found.get("gpu_devices") == (devices if told else None)
    assert found["gpus"] == "0"
    assert parse_mark(only_mark(marks).read_bytes()).gpus == (tuple(devices.split(",")) if told else ("0",))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("percent", "told"),
    [("1", 1), ("50", 50), ("100", 100), *((odd, None) for odd in ("0", "101", "", "-1", "50%", "1e1", " 5", "050"))],
)
def test_share_by_mps(shell: Shell, marks: Path, settings: dict[str, str], percent: str, told: int | None) -> None:
    """A job's part of its GPU by MPS, from 1 to 100 per cent."""
    run(shell, PROLOG, BATCH | {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": percent} | settings)
    assert parse_mark(only_mark(marks).read_bytes()).gpu_percent == told


def test_het_component_has_its_own_id(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """A heterogeneous job's second component is marked under its own raw id, not the leader's."""
    het = {"SLURM_JOB_ID": "11", "SLURM_JOBID": "11", "SLURM_HET_JOB_ID": "10", "SLURM_PACK_JOB_ID": "10"}
    run(shell, PROLOG, BATCH | het | settings)
    assert keys(only_mark(marks))["job"] == "11"


def test_requeue_is_told_by_its_restart_count(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """A requeued job keeps its id; the restart count is what tells its lives apart."""
    for count in ("0", "1"):
        run(shell, PROLOG, BATCH | {"SLURM_JOB_RESTART_COUNT": count} | settings)
    found = [keys(mark) for mark in marks.iterdir()]
    assert {mark["job"] for mark in found} == {"123"}
    assert sorted(mark["restart"] for mark in found) == ["0", "1"]


def test_outside_slurm(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """Without slurmd, the process session, the CPUs and the memory come from our own settings."""
    own = {"JOBIMPACT_SID": "4242", "JOBIMPACT_CPUS": "4", "JOBIMPACT_MEM_BYTES": "1073741824"}
    pid = run(shell, PROLOG, {"SLURM_JOB_ID": "7"} | own | settings)
    assert only_mark(marks).name == f"113.82.7.start.{pid}"
    assert only_mark(marks).read_text() == (
        f"v=1\nevent=start\njob=7\nboot={BOOT}\nuptime=113.82\nscheduler=slurm\n"
        "sid=4242\ncpus=4\nmem_bytes=1073741824\nend=1\n"
    )


def test_under_slurm_our_own_values_are_not_read(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """Where slurmd names the node, a session, CPUs or memory from elsewhere are left out."""
    own = {"JOBIMPACT_SID": "4242", "JOBIMPACT_CPUS": "4", "JOBIMPACT_MEM_BYTES": "1073741824"}
    run(shell, PROLOG, BATCH | own | settings)
    assert not {"sid", "cpus", "mem_bytes"} & keys(only_mark(marks)).keys()


@pytest.mark.parametrize(
    ("name", "context", "event"),
    [
        ("prolog", None, "start"),
        ("epilog", None, "end"),
        ("prolog", "prolog_slurmd", "start"),
        ("epilog", "epilog_slurmd", "end"),
        ("50-jobimpact-epilog.sh", None, "end"),
        ("50-jobimpact", "prolog_slurmd", "start"),
        ("50-jobimpact", "epilog_slurmd", "end"),
        ("50-jobimpact", None, None),
        ("prolog", "epilog_slurmd", None),
        ("epilog", "prolog_slurmd", None),
        ("prolog", "prolog_slurmctld", None),
    ],
)
def test_which_event(
    shell: Shell,
    tmp_path: Path,
    marks: Path,
    settings: dict[str, str],
    name: str,
    context: str | None,
    event: str | None,
) -> None:
    """The script's name says the event, Slurm's word checks it, and where the two disagree there is no mark."""
    folder = tmp_path / "epilog.d" / "prolog"  # a folder's name says nothing
    folder.mkdir(parents=True)
    hook = Path(shutil.copy(PROLOG, folder / name))
    env = {key: value for key, value in BATCH.items() if key != "SLURM_SCRIPT_CONTEXT"} | settings
    run(shell, hook, env | ({"SLURM_SCRIPT_CONTEXT": context} if context else {}))
    assert [keys(mark)["event"] for mark in marks.iterdir()] == ([event] if event else [])


def test_both_names_run_by_themselves(marks: Path, settings: dict[str, str]) -> None:
    """Both files are executable and find their shell, as slurmd starts them."""
    finish(start([PROLOG], BATCH | settings))
    finish(start([EPILOG], ended(BATCH) | settings))
    assert sorted(keys(mark)["event"] for mark in marks.iterdir()) == ["end", "start"]


def test_the_epilog_is_the_prolog() -> None:
    """Both names hold the same program, be it a link or a copy."""
    assert EPILOG.read_bytes() == PROLOG.read_bytes()
    assert os.access(EPILOG, os.X_OK)


def test_uptime_and_boot_id_of_this_machine(shell: Shell, marks: Path, tmp_path: Path) -> None:
    """What the proc setting lacks is read from /proc, whole."""
    before = float(Path("/proc/uptime").read_text().split()[0])
    run(shell, PROLOG, BATCH | {"JOBIMPACT_MARKS": str(marks), "JOBIMPACT_PROC": str(tmp_path / "none")})
    mark = keys(only_mark(marks))
    assert before <= float(mark["uptime"]) <= float(Path("/proc/uptime").read_text().split()[0])
    assert mark["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.parametrize(
    "uptime", ["", "x\n", "113\n", "1.2.3 4\n", ".5\n", "5.\n", "1e3.0\n", "-1.0\n", "9" * 30 + ".0\n"]
)
def test_no_mark_without_a_time(shell: Shell, marks: Path, proc: Path, settings: dict[str, str], uptime: str) -> None:
    """A bad uptime gives no mark; an empty one is read from /proc instead."""
    (proc / "uptime").write_text(uptime)
    run(shell, PROLOG, BATCH | settings)
    assert len(list(marks.iterdir())) == (0 if uptime else 1)


def test_bad_boot_id_is_left_out(shell: Shell, marks: Path, proc: Path, settings: dict[str, str]) -> None:
    """A boot id that is none is left out, and the mark is written."""
    (proc / "sys/kernel/random/boot_id").write_text("$(reboot)\n")
    run(shell, PROLOG, BATCH | settings)
    assert "boot" not in keys(only_mark(marks))


# What they are given


@pytest.mark.parametrize(
    "env", [{}, {"SLURM_JOB_ID": ""}, {"PATH": "/nonexistent"}], ids=["none", "empty id", "path only"]
)
def test_no_job_no_mark(shell: Shell, marks: Path, settings: dict[str, str], env: dict[str, str]) -> None:
    """Without a job id there is nothing to say."""
    run(shell, PROLOG, env | settings)
    assert list(marks.iterdir()) == []


def test_empty_environment(shell: Shell) -> None:
    """With no variable at all, not even the folder's, the hook ends well."""
    run(shell, PROLOG, {})


ALLOWED = {
    "SLURM_CLUSTER_NAME": ("cluster", r"[A-Za-z0-9_.-]"),
    "SLURMD_NODENAME": ("node", r"[A-Za-z0-9_.-]"),
    "SLURM_JOB_RESTART_COUNT": ("restart", r"[0-9]"),
    "SLURM_JOB_SLUID": ("sluid", r"[A-Za-z0-9]"),
    "SLURM_JOB_START_TIME": ("start_time", r"[0-9]"),
    "SLURM_JOB_UID": ("uid", r"[0-9]"),
    "SLURM_JOB_GPUS": ("gpus", r"[0-9,-]"),
    "SLURM_JOB_CPUS_PER_NODE": ("cpus_per_node", r"[0-9x(),]"),
    "SLURM_JOB_NODELIST": ("nodelist", r"[\]\[A-Za-z0-9_.,-]"),
    "SLURM_JOB_EXIT_CODE": ("exit_code", r"[0-9]"),
}
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE")


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_every_byte(shell: Shell, marks: Path, settings: dict[str, str], locale: str) -> None:
    """Each of the 255 bytes, in each value: where it is allowed it is there as it came, else there is no key."""
    for code in range(1, 256):
        byte = bytes([code])
        poisoned: dict[str, str | bytes] = dict.fromkeys(ALLOWED, b"1" + byte + b"1")
        poisoned |= {"CUDA_VISIBLE_DEVICES": b"GPU-1" + byte + b"1"}
        poisoned |= {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": b"1" + byte}
        run(shell, EPILOG, {**ended(BATCH), "LC_ALL": locale, **settings, **poisoned})
        mark = only_mark(marks)
        found = keys(mark)
        mark.unlink()
        for key, pattern in ALLOWED.values():
            whole = re.fullmatch(pattern.encode(), byte) is not None
            assert found.get(key) == (f"1{chr(code)}1" if whole else None), (key, byte)
        device = re.fullmatch(rb"[A-Za-z0-9,/-]", byte) is not None
        assert found.get("gpu_devices") == (f"GPU-1{chr(code)}1" if device else None), byte
        assert found.get("gpu_percent") == (f"1{chr(code)}" if byte.isdigit() else None), byte


@pytest.mark.parametrize(
    "hostile",
    [
        "1\n2",
        "1\nend=1\n",
        "\n1",
        "1\n",
        "$(/bin/touch CANARY)",
        "`/bin/touch CANARY`",
        "1;/bin/touch CANARY",
        "1;rm -rf CANARY",
        '"; /bin/touch CANARY; "',
        "'; /bin/touch CANARY; '",
        "${x:=$(/bin/touch CANARY)}",
        "1 | /bin/touch CANARY",
        "%s%n%d",
        "\\0101",
        "*",
        "!1",
        "١٢٣",  # digits, elsewhere
        "é",
        " 1",
        "-1 ",
        "../../x",
        "/etc/passwd",
        "x" * 131000,  # Linux gives no program a longer variable than 128 KiB
    ],
)
def test_hostile_values(shell: Shell, tmp_path: Path, marks: Path, settings: dict[str, str], hostile: str) -> None:
    """Nothing that a value holds is run, and a bad value is no key; as a job's id it is no mark, and no path."""
    canary = tmp_path / "canary"
    value = hostile.replace("CANARY", str(canary))
    before = set(tmp_path.rglob("*"))
    run(shell, EPILOG, ended(BATCH) | settings | dict.fromkeys([*ALLOWED, *GPU_VARIABLES], value))
    assert keys(only_mark(marks)).keys() == {"v", "event", "job", "boot", "uptime", "scheduler", "end"}
    only_mark(marks).unlink()
    run(shell, PROLOG, BATCH | settings | {"SLURM_JOB_ID": value})
    assert list(marks.iterdir()) == []
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("job", ["-1", "../../x", "1/../../x", "0x10", "12_3", "10+1", "1" * 21, "1.start", "."])
def test_ids_that_are_none(shell: Shell, tmp_path: Path, marks: Path, settings: dict[str, str], job: str) -> None:
    """Only up to 20 digits are a job's id: the file's name can then hold nothing else."""
    before = set(tmp_path.rglob("*"))
    run(shell, PROLOG, BATCH | settings | {"SLURM_JOB_ID": job})
    assert set(tmp_path.rglob("*")) == before


def test_long_values(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """A node list of 64 KiB goes through whole; one more character, and it is left out."""
    nodes = ",".join(f"node{number:05}" for number in range(6554))[:65536]
    run(shell, PROLOG, BATCH | settings | {"SLURM_JOB_NODELIST": nodes})
    assert keys(only_mark(marks))["nodelist"] == nodes
    only_mark(marks).unlink()
    run(shell, PROLOG, BATCH | settings | {"SLURM_JOB_NODELIST": nodes + "1"})
    assert "nodelist" not in keys(only_mark(marks))


def test_large_environment(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """One and a half megabytes of other variables change nothing."""
    run(shell, PROLOG, BATCH | settings | {f"JUNK_{number}": "x" * 128000 for number in range(12)})
    assert keys(only_mark(marks))["job"] == "123"


@pytest.mark.parametrize(
    "odd",
    [
        {"IFS": "0123456789."},
        {"ENV": "STARTUP", "BASH_ENV": "STARTUP"},
        {"SHELLOPTS": "errexit:nounset:xtrace:noclobber:allexport", "PS4": "+"},
        {"LC_ALL": "C.UTF-8", "LANG": "fr_FR.UTF-8"},
        {"LC_ALL": "none_NONE.none"},
        {"POSIXLY_CORRECT": "1", "CDPATH": "/:/tmp", "TMPDIR": "/nonexistent", "PWD": "/nonexistent"},
        {
            "mark": "junk=1\n",
            "tmp": "PROC/uptime",
            "line": "1.2",
            "event": "x",
            "end": "2",
            "word": "",
            "digit": "",
        },
        {"OPTIND": "3", "PPID": "0", "LINENO": "x", "PS1": "$(exit 1)", "MAIL": "/x", "MAILCHECK": "0"},
    ],
    ids=["ifs", "startup file", "options", "locale", "no locale", "posix", "our names", "shell's names"],
)
def test_odd_environment(
    shell: Shell, tmp_path: Path, marks: Path, proc: Path, settings: dict[str, str], odd: dict[str, str]
) -> None:
    """No variable that a shell or we ourselves use changes a mark."""
    startup = tmp_path / "startup"
    startup.write_text("exit 1\n")
    values = {key: value.replace("STARTUP", str(startup)).replace("PROC", str(proc)) for key, value in odd.items()}
    finish(start([*shell.argv, PROLOG], BATCH | values | settings), shell_may_warn=True)
    assert list(keys(only_mark(marks)).items()) == [
        *[("v", "1"), ("event", "start"), ("job", "123"), ("boot", BOOT), ("uptime", "113.82")],
        *[("scheduler", "slurm"), ("cluster", "labia"), ("node", "node01"), ("restart", "0"), ("uid", "2001")],
        *[("cpus_per_node", "2"), ("nodelist", "node01"), ("end", "1")],
    ]


@pytest.mark.parametrize("umask", ["0000", "0777"])
def test_odd_umask(shell: Shell, tmp_path: Path, settings: dict[str, str], umask: str) -> None:
    """The mark and the folder are for their owner only, whatever the umask."""
    settings["JOBIMPACT_MARKS"] = str(tmp_path / "run" / "marks")
    finish(start(script(f'umask {umask}; exec "$@"', *shell.argv, PROLOG), BATCH | settings))
    folder = tmp_path / "run" / "marks"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(only_mark(folder).stat().st_mode) == 0o600


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(shell: Shell, marks: Path, settings: dict[str, str], closing: str) -> None:
    """A closed stdin, stdout or stderr neither stops the hook nor gets into the mark."""
    finish(start(script(f'exec "$@" {closing}', *shell.argv, PROLOG), BATCH | settings))
    assert keys(only_mark(marks))["job"] == "123"


def test_nobody_reads_the_output(shell: Shell, tmp_path: Path, settings: dict[str, str]) -> None:
    """With stdout and stderr on broken pipes, and an error to tell, the hook still ends with 0."""
    process = start([*shell.argv, PROLOG], BATCH | settings | {"JOBIMPACT_MARKS": "/proc/none"})
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=120) == 0


def test_lost_working_folder(shell: Shell, tmp_path: Path, marks: Path, settings: dict[str, str]) -> None:
    """A working folder that is gone does not matter."""
    (tmp_path / "cwd").mkdir()
    gone = script('rmdir "$PWD"; exec "$@"', *shell.argv, PROLOG)
    finish(start(gone, BATCH | settings, cwd=tmp_path / "cwd"), shell_may_warn=True)
    assert keys(only_mark(marks))["job"] == "123"


# The mark folder


def test_missing_folder_is_made(shell: Shell, tmp_path: Path, settings: dict[str, str]) -> None:
    """A missing mark folder is made, so that nothing is lost before tmpfiles.d or the daemon has run."""
    folder = tmp_path / "run" / "job impact" / "marks"
    run(shell, PROLOG, BATCH | settings | {"JOBIMPACT_MARKS": str(folder)})
    assert keys(only_mark(folder))["job"] == "123"


@pytest.mark.parametrize("kind", ["file", "below a file", "dangling link", "proc", "dash"])
def test_folder_that_cannot_be(shell: Shell, tmp_path: Path, settings: dict[str, str], kind: str) -> None:
    """Where no folder can be, there is no mark, no error, and nothing else is changed."""
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere" / "deep")
    places = {"file": "file", "below a file": "file/marks", "dangling link": "link"}
    folder = str(tmp_path / places[kind]) if kind in places else {"proc": "/proc/none/marks", "dash": "-x/\n"}[kind]
    before = set(tmp_path.rglob("*"))
    finish(start([*shell.argv, PROLOG], BATCH | settings | {"JOBIMPACT_MARKS": folder}, cwd=Path("/proc")))
    assert set(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes where it may not: the read-only mount below stands for it")
def test_folder_without_permission(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """A folder that may not be written gets no mark, and no error is told."""
    marks.chmod(0o500)
    run(shell, PROLOG, BATCH | settings)
    assert list(marks.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "prepare", "nodes"),
    [
        ("ro", ":", 1),
        ("nr_inodes=1", ":", 1),
        ("size=4k", 'head -c 4096 /dev/zero > "$1/old"', 1),
        ("size=8k", 'head -c 4096 /dev/zero > "$1/old"', 600),
        ("size=40k", 'head -c 4096 /dev/zero > "$1/old"', 5000),
    ],
    ids=["read-only", "no inode left", "full", "full after one page", "full after nine pages"],
)
def test_folder_on_a_bad_disk(
    shell: Shell,
    tmp_path: Path,
    marks: Path,
    settings: dict[str, str],
    private_mounts: list[str],
    options: str,
    prepare: str,
    nodes: int,
) -> None:
    """A read-only or full mark folder gets no mark at all: not an empty one, not half of one, no rest of one."""
    after = tmp_path / "after"
    mount = f'mount -t tmpfs -o {options} none "$1" || exit 9; {prepare}; shift'
    program = f'{mount}; "$@"; rc=$?; ls -A "$0" > "{after}"; exit $rc'
    inside: list[str | Path] = ["/bin/sh", "-c", program, marks, marks, *shell.argv, PROLOG]
    env = BATCH | settings | {"SLURM_NODELIST": ",".join(f"node{number:05}" for number in range(nodes))}
    finish(start([*private_mounts, *inside], env | {"PATH": os.environ["PATH"]}))
    assert after.read_text().split() == (["old"] if "old" in prepare else [])


def test_file_size_limit(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """A file size limit of 0, whose signal kills a program that does not expect it, leaves no mark and no rest."""
    finish(start(script('ulimit -f 0; exec "$@"', *shell.argv, PROLOG), BATCH | settings))
    assert list(marks.iterdir()) == []


def test_few_descriptors(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """With hardly more open files allowed than a shell needs to start, the hook ends well."""
    for limit in (14, 15, 16):
        finish(start(script(f'ulimit -n {limit}; exec "$@"', *shell.argv, PROLOG), BATCH | settings))
    assert all(NAME.fullmatch(mark.name) and keys(mark) for mark in marks.iterdir())


@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_nothing_is_written_through_a_link(
    shell: Shell, tmp_path: Path, marks: Path, settings: dict[str, str], target: str
) -> None:
    """A link that waits under the temporary name is not followed."""
    (tmp_path / "victim").write_text("kept")
    plant = f'/bin/ln -s "$0" "{marks}/.tmp.113.82.123.start.$$"; exec "$@"'
    argv: list[str | Path] = ["/bin/sh", "-c", plant, tmp_path / target, *shell.argv, PROLOG]
    process = start(argv, BATCH | settings)
    finish(process)
    assert (tmp_path / "victim").read_text() == "kept"
    assert not (tmp_path / "nowhere").exists()
    assert not [mark for mark in marks.iterdir() if not mark.name.startswith(".tmp.")]


# Programs that are missing, signals, many at once


def test_mv_that_cannot_run(
    shell: Shell, tmp_path: Path, marks: Path, settings: dict[str, str], private_mounts: list[str]
) -> None:
    """Where mv cannot be started there is no mark, and the temporary file goes away."""
    (tmp_path / "mv").touch(mode=0o600)
    inside = script(f'mount --bind "{tmp_path}/mv" /bin/mv || exit 9; exec "$@"', *shell.argv, PROLOG)
    finish(start([*private_mounts, *inside], BATCH | settings | {"PATH": os.environ["PATH"]}))
    assert list(marks.iterdir()) == []


def test_no_program_at_all(
    shell: Shell, tmp_path: Path, marks: Path, settings: dict[str, str], private_mounts: list[str]
) -> None:
    """With an empty /bin (no mv, no rm, no mkdir) the hook ends well and there is no mark."""
    own = shutil.copy(shell.argv[0], tmp_path / Path(shell.argv[0]).name)
    inside = script('mount -t tmpfs none /bin || exit 9; exec "$@"', own, *shell.argv[1:], PROLOG)
    finish(start([*private_mounts, *inside], BATCH | settings | {"PATH": os.environ["PATH"]}))
    assert [mark for mark in marks.iterdir() if not mark.name.startswith(".tmp.")] == []


def test_no_process_left(shell: Shell, settings: dict[str, str]) -> None:
    """Where no process may be started for mv, the hook ends well and there is no mark."""
    if shell.name == "bash":
        pytest.skip("bash tries to fork for 15 s before it gives up, and then ends well too")
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("needs setpriv: root has no limit of processes")
    nobody = ["setpriv", "--reuid=64999", "--regid=64999", "--clear-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        hook = shutil.copy(PROLOG, folder / "prolog")
        (folder / "marks").mkdir()
        (folder / "marks").chmod(0o777)
        limit = 'ulimit -p 0 2> /dev/null || ulimit -u 0; exec "$@"'  # dash's letter, or the others'
        limited = [*nobody, *script(limit, *shell.argv, hook)]
        env = {**BATCH, **settings, "JOBIMPACT_MARKS": str(folder / "marks"), "PATH": os.environ["PATH"]}
        finish(start(limited, env))
        assert [mark for mark in (folder / "marks").iterdir() if not mark.name.startswith(".tmp.")] == []


def wait_for(condition: Path, glob: str) -> None:
    """Wait until the folder holds such a file."""
    deadline = time.monotonic() + 120
    while not list(condition.glob(glob)):
        assert time.monotonic() < deadline, f"no {glob}"
        time.sleep(0.005)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE, signal.SIGQUIT])
def test_signal_while_reading(
    shell: Shell, tmp_path: Path, marks: Path, proc: Path, settings: dict[str, str], number: signal.Signals
) -> None:
    """A signal in the middle ends the hook with 0; a file that the environment names is not what it removes."""
    (tmp_path / "victim").write_text("kept")
    (proc / "uptime").unlink()
    os.mkfifo(proc / "uptime")
    held = os.open(proc / "uptime", os.O_RDWR)  # the hook waits for a line that never comes
    try:
        process = start([*shell.argv, PROLOG], BATCH | settings | {"tmp": str(tmp_path / "victim")})
        opened = Path(f"/proc/{process.pid}/fd")
        while not any(link.exists() and link.samefile(proc / "uptime") for link in opened.iterdir()):
            time.sleep(0.005)
        time.sleep(0.05)
        os.killpg(process.pid, number)
        finish(process)
    finally:
        os.close(held)
    assert (tmp_path / "victim").read_text() == "kept"
    assert list(marks.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_while_mv_hangs(
    shell: Shell,
    tmp_path: Path,
    marks: Path,
    settings: dict[str, str],
    private_mounts: list[str],
    number: signal.Signals,
) -> None:
    """Slurm's timeout kills the whole group: with mv hung, the hook ends with 0, no mark and no temporary file."""
    slow = tmp_path / "mv"
    slow.write_text(f"#!/bin/sh\n: > '{tmp_path}/hung'\nexec /bin/sleep 60\n")
    slow.chmod(0o755)
    inside = script(f'mount --bind "{slow}" /bin/mv || exit 9; exec "$@"', *shell.argv, PROLOG)
    process = start([*private_mounts, *inside], BATCH | settings | {"PATH": os.environ["PATH"]})
    wait_for(tmp_path, "hung")
    assert [mark.name for mark in marks.iterdir()] == [f".tmp.113.82.123.start.{process.pid}"]
    os.killpg(process.pid, number)
    finish(process)
    assert list(marks.iterdir()) == []


def test_signal_at_any_moment(shell: Shell, marks: Path, settings: dict[str, str]) -> None:
    """Killed at any moment, what is left is a whole mark or none; the status is 0 once the shell has begun."""
    statuses = set()
    for step in range(60):
        process = start([*shell.argv, PROLOG], BATCH | settings)
        time.sleep(step * 0.0001)
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=120)
        statuses.add(process.returncode)
    assert statuses <= {0, -signal.SIGTERM}  # -SIGTERM: before the script's first line
    for mark in marks.iterdir():
        assert NAME.fullmatch(mark.name)
        assert keys(mark)["job"] == "123"


def test_64_at_once(shell: Shell, marks: Path) -> None:
    """64 prologs and epilogs at once leave 64 whole marks of their own and nothing else."""
    environments: Sequence[tuple[Path, dict[str, str]]] = [
        (EPILOG, ended(BATCH)) if number % 2 else (PROLOG, BATCH) for number in range(64)
    ]
    processes = [
        start([*shell.argv, hook], env | {"SLURM_JOB_ID": str(1000 + number // 4), "JOBIMPACT_MARKS": str(marks)})
        for number, (hook, env) in enumerate(environments)
    ]
    pids = {str(finish(process)) for process in processes}
    found = list(marks.iterdir())
    assert len(found) == len(pids) == 64
    for mark in found:
        name = NAME.fullmatch(mark.name)
        assert name is not None
        content = keys(mark)
        assert (content["job"], content["event"]) == (name[1], name[2])
        assert name[3] in pids
