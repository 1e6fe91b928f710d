"""The reference page of the configuration, from the schema: `python docs/reference.py` writes it.

A key without a meaning here, and a meaning without a key, is an error: the page cannot drift from the code.
"""  # noqa: INP001 (a script beside its page)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import inspect

from jobimpact.core.config import Config
from jobimpact.impact import inventory

PAGE = Path(__file__).parent / "admin/configuration.md"

CONFIG = {
    "cluster": "The cluster's name in results, whatever the scheduler calls it. Do not change it later: the jobs, idle"
    " time and months of one name are books of their own. The names in `scheduler.slurm.clusters` stand in its place.",
    "store.local.path": "Folder with one `<node>.sqlite` per node: the daemon writes its own, accounting reads all."
    " A local file system, not NFS. Of `local`, `influxdb` and `victoriametrics` one is given; none is `local`.",
    "store.influxdb.url": "The server: `https://influx.example.org:8086`. [How to set it up](influxdb.md).",
    "store.influxdb.path": "A folder on a local file system: the daemon's books and what it has not delivered yet; on"
    " the accounting host what was read of each node.",
    "store.influxdb.database": "The database (1.x, 3.x), or the beginning of the buckets' names (2.x).",
    "store.influxdb.org": "The organisation (2.x).",
    "store.influxdb.token_file": "A file with the token alone: points go to `/api/v2/write`. Without, to `/write`.",
    "store.influxdb.username": "The user (1.x), where the server asks for one.",
    "store.influxdb.password_file": "A file with the password alone, readable by root only.",
    "store.influxdb.ca_file": "The authority that signed the server's certificate, where that is not a public one.",
    "store.influxdb.timeout_s": "Seconds to wait for an answer.",
    "store.influxdb.outbox_mb": "How much a node keeps of what it could not deliver, packed. Beyond, old profile"
    " points are thinned; the energy of jobs is not.",
    "store.influxdb.retention.books_days": "For how long the server keeps points of jobs and domains. Accounting reads"
    " them each night and keeps what it needs; it must be longer than `nightly.look_back_days`.",
    "store.influxdb.retention.profile_days": "For how long it keeps power over time, the health of sources and jobs'"
    " impacts: how far back Grafana's detailed views reach.",
    "store.victoriametrics.url": "The server: `https://vm.example.org:8428`.",
    "store.victoriametrics.path": "As for influxdb.",
    "store.victoriametrics.token_file": "A file with the bearer token alone, where a proxy (vmauth) asks for one.",
    "store.victoriametrics.username": "The user, where a proxy asks for one.",
    "store.victoriametrics.password_file": "A file with the password alone, readable by root only.",
    "store.victoriametrics.ca_file": "As for influxdb.",
    "store.victoriametrics.timeout_s": "Seconds to wait for an answer.",
    "store.victoriametrics.outbox_mb": "As for influxdb.",
    "results": "The database of results: a `sqlite:///` URL (four slashes for an absolute path).",
    "scheduler.slurm.via": "Slurm's records by `sacct`, found on PATH, or by PySlurm. Exactly one of `slurm`, `oar`,"
    " `local` is given; without `scheduler` it is `slurm`.",
    "scheduler.slurm.clusters": "Clusters of one slurmdbd, each accounted for under its own name (`sacct -M`). Their"
    " nodes' names must differ. Empty: the one that `sacct` tells of by itself, under the name in `cluster`.",
    "scheduler.slurm.python": "The Python that has PySlurm, where it is not this one: it runs apart, whatever its"
    " version.",
    "scheduler.slurm.timeout_s": "Seconds to wait for Slurm's answer.",
    "scheduler.oar.dsn": "OAR's PostgreSQL as libpq takes it: `host=oar dbname=oar user=oar_ro`. No password in here.",
    "scheduler.oar.password_file": "A file with the role's password alone. Without, libpq's own ways (`~/.pgpass`).",
    "scheduler.oar.full_names": "Nodes go by OAR's `network_address` as it is; else it is cut at the first dot, as the"
    " daemon's own name is.",
    "scheduler.oar.timeout_s": "Seconds to wait for an answer of the database.",
    "scheduler.local.path": "Records in a JSON Lines file, for a machine without a scheduler.",
    "inventory": "What the nodes are made of: see below. If the file is not there, embodied impact is not known.",
    "node.name": "The node's name. It must be Slurm's NodeName. Default: the short host name.",
    "node.interval_s": "Seconds between two readings. Starts and ends of jobs are read at once, whatever this is.",
    "node.marks": "The mark folder. The hooks use the same default; elsewhere they need `JOBIMPACT_MARKS`.",
    "node.mark_owners": "Users beside root whose marks count: `[oar]` where OAR's job_resource_manager writes them.",
    "node.progress": "The socket where jobs tell [how far they are](../user/progress.md); null: nobody listens."
    " Elsewhere than here, jobs need `JOBIMPACT_PROGRESS`.",
    "node.policy": "How energy is split among jobs: [the method](../method.md).",
    "node.idle_w": "Watts of each domain with nothing running, by domain name: `{package-0: 45, rest: 110}`. What is"
    " not named here is learned while the node is empty; until then all of it goes by use.",
    "node.max_gap_s": "A gauge's gap (BMC, wattmeter) longer than this, and than three of its usual periods, is"
    " missing, not interpolated: seconds. Counters have no such limit.",
    "node.slurmd": "Names of further slurmd on this machine, where it runs several. One daemon keeps all their books.",
    "node.cpus": "CPUs of the node as the scheduler counts them. Default: logical CPUs as the kernel counts them."
    " Set it where Slurm counts cores and the kernel counts threads.",
    "node.mem_bytes": "Memory of the node. Default: as the kernel tells.",
    "node.gpus": "UUIDs of GPUs that must be there. Others are found by themselves.",
    "node.proc_root": "Where /proc is mounted.",
    "node.cgroup_root": "Where cgroups are mounted (v1 or v2).",
    "node.sys_root": "Where /sys is mounted: which CPU is on which package.",
    "node.sources.rapl.root": "The kernel's powercap tree.",
    "node.sources.rapl.idle_w": "As `node.idle_w`, which comes first.",
    "node.sources.rapl.max_w": "The most that a domain can draw, in watts: tells a wrapped counter from a reset."
    " Default: the kernel's limit with headroom, else 1000 W for a package and 300 W for DRAM.",
    "node.sources.nvml.deadline_s": "Seconds to wait for the NVIDIA driver; later, the reading has failed.",
    "node.sources.amdsmi.deadline_s": "Seconds to wait for the AMD driver. Needs the extra `amd`.",
    "node.sources.hwmon.root": "The kernel's hardware monitors.",
    "node.sources.hwmon.period_s": "Seconds between two looks at sensors that have no counter.",
    "node.sources.pmcounters.root": "Cray's counters.",
    "node.sources.ipmi.via": "The program that asks the BMC, found on PATH. `auto`: over the network freeipmi first,"
    " in band ipmitool.",
    "node.sources.ipmi.host": "The BMC's address; `{node}` stands for the node's name. Default: this machine's own, in"
    " band.",
    "node.sources.ipmi.port": "Its port.",
    "node.sources.ipmi.username": "Its user.",
    "node.sources.ipmi.password_file": "A file with the password alone, readable by root only.",
    "node.sources.ipmi.period_s": "Seconds between two questions. BMCs are slow.",
    "node.sources.ipmi.deadline_s": "Seconds to wait for an answer; later, the reading has failed.",
    "node.sources.ipmi.latency_s": "By how many seconds the BMC's reading may lag. The rest of the node is settled"
    " over windows of ten times this.",
    "node.sources.ipmi.excludes": "Parts that the meter does not see: `[gpu]`.",
    "node.sources.redfish.url": "The BMC's address: `https://{node}-bmc`, where `{node}` stands for the node's name.",
    "node.sources.redfish.username": "Its user, who needs to read only.",
    "node.sources.redfish.password_file": "A file with the password alone, readable by root only.",
    "node.sources.redfish.ca_file": "The authority that signed the BMC's certificate.",
    "node.sources.redfish.verify": "`false` takes any certificate: who sits between may read the password.",
    "node.sources.redfish.chassis": "The chassis that is the node, where the BMC lists several. Default: found.",
    "node.sources.redfish.control": "The PowerControl that is the node, by MemberId or Name. Default: found.",
    "node.sources.redfish.period_s": "Seconds between two questions.",
    "node.sources.redfish.deadline_s": "Seconds to wait for an answer; later, the reading has failed.",
    "node.sources.redfish.latency_s": "As for ipmi.",
    "node.sources.redfish.excludes": "Parts that the meter does not see: `[gpu]`.",
    "node.sources.wattmeter.kwollect.url": "The site's metrics: `https://api.grid5000.fr/stable/sites/lyon/metrics`.",
    "node.sources.wattmeter.kwollect.node": "The node's name there. Default: `node.name`.",
    "node.sources.wattmeter.kwollect.metric": "The metric's name.",
    "node.sources.wattmeter.kwollect.username": "The API's user, where it asks for one.",
    "node.sources.wattmeter.kwollect.password_file": "A file with the password alone, readable by root only.",
    "node.sources.wattmeter.kwollect.ca_file": "The authority that signed the API's certificate.",
    "node.sources.wattmeter.csv.path": "The file that the wattmeter's program writes.",
    "node.sources.wattmeter.csv.watts": "The column of the power in watts: its name, or its number from 1.",
    "node.sources.wattmeter.csv.time": "The column of the time: epoch seconds or ISO 8601 with its offset.",
    "node.sources.wattmeter.csv.delimiter": "What stands between two columns.",
    "node.sources.wattmeter.period_s": "Seconds between two looks. Each brings all samples since the last.",
    "node.sources.wattmeter.deadline_s": "Seconds to wait for an answer; later, the reading has failed.",
    "node.sources.wattmeter.latency_s": "By how many seconds a sample may lag or average.",
    "node.sources.wattmeter.excludes": "Parts that the meter does not see: `[gpu]`.",
    "node.sources.model.tdp_w": "TDP of all packages together. Default: 4 W for each logical CPU.",
    "node.sources.model.idle_w": "Watts with nothing running. Default: a quarter of the TDP.",
    "grid.zone": "The electricity zone: a key of `accounting/jobimpact/data/electricity.yaml`. `WOR` is the world.",
    "factors": "A folder whose `components.yaml`, `cpus.yaml`, `electricity.yaml`, `generation.yaml`, `gpus.yaml` or"
    " `meters.yaml` stand in place of the shipped ones: [how to change a factor](../method.md#to-change-a-factor)."
    " Default: all as shipped.",
    "grid.provider": "Carbon intensity over time: `annual` means, or an hourly source, which has its section below:"
    " [the grid](grid.md). It serves `grid.zone`; nodes of another zone have the annual mean of theirs.",
    "grid.rte.url": "RTE's open data. Direct emissions: only their shape is used.",
    "grid.rte.ca_file": "The authority that signed its certificate, where that is not a public one.",
    "grid.electricitymaps.token_file": "A file with the token alone, readable by its owner only.",
    "grid.electricitymaps.zone": "Their name of the zone: `FR`.",
    "grid.electricitymaps.url": "Their API.",
    "grid.electricitymaps.ca_file": "As for rte.",
    "grid.entsoe.token_file": "A file with the security token alone, readable by its owner only.",
    "grid.entsoe.domain": "The bidding zone's EIC code: `10YFR-RTE------C`.",
    "grid.entsoe.url": "Their API.",
    "grid.entsoe.ca_file": "As for rte.",
    "grid.csv.path": "The file; rows in any order, one header line.",
    "grid.csv.basis": "What its numbers count: the `lifecycle` of electricity, or `direct` emissions of the plants"
    " alone. Marginal intensities are neither, and must not be mixed with these.",
    "grid.csv.time": "The column of the time: epoch seconds or ISO 8601 with its offset.",
    "grid.csv.value": "The column of the intensity, in gCO2e/kWh.",
    "grid.csv.delimiter": "What stands between two columns.",
    "grid.cache": "The SQLite file in which answers are kept.",
    "grid.deadline_s": "Seconds to wait for an answer.",
    "grid.market.gwp_kgco2e_per_kwh": "What the site's contract says of a kWh. Reported beside the location-based"
    " figure, never in its place.",
    "grid.market.source": "Which contract, of which year. Told with the figure.",
    "embodied.idle_share": "`measured`: what was idle of each type of node over the last closed months. `fixed`: as if"
    " nodes were in use `active_utilisation` of their life, for comparison with published tables.",
    "embodied.active_utilisation": "The part of its life in which a node is in use, for `fixed`.",
    "embodied.window_months": "How many closed months `measured` looks back on:"
    " [the method](../method.md#idle-machines).",
    "nightly.at": "When `jobimpact schedule` accounts, local time of the host, `HH:MM`.",
    "nightly.look_back_days": "How far back each night looks for late records.",
    "labs.<lab>.name": "What reports call the lab; its key is its account in the scheduler.",
    "labs.<lab>.heads": "Users who may see all its jobs and get its report by mail.",
    "access.groups": "Groups whose members may see all jobs, as root does. Others see their own, heads their lab's.",
    "service.socket": "Where users of this host are answered. The kernel tells it who asks.",
    "service.listen": "Where it answers login nodes, `host:port` (`0.0.0.0:8649`: all addresses). Munge tells who asks"
    " and keeps the answer secret. Default: nowhere.",
    "service.ask": "On login nodes: where to ask, `host:port`. Default: the socket on this host.",
    "service.munge_socket": "The munge daemon's socket, where it is not libmunge's own.",
    "service.user": "The user that the service runs as: answers of others, root apart, are not believed, and login"
    " nodes seal their questions for this one. Where they do not know its name, its number in quotes.",
    "service.timeout_s": "How long a user waits for an answer before it is said that there is none.",
    "findings.min_run_s": "Shorter runs get no finding but that they failed: what they were doing cannot be judged.",
    "findings.min_coverage": "Nor do jobs of which less than this part was measured.",
    "findings.gpu_use": "GPUs in use for less than this part of the time are told.",
    "findings.cpu_use": "CPUs in use for less than this part of the time are told. One thread a core is 0.5 at most"
    " where Slurm counts hardware threads.",
    "findings.memory_use": "Memory of which never more than this part was used is told.",
    "findings.time_use": "A time limit of which less than this part was used is told.",
    "findings.min_array_failures": "So many tasks of an array that fail alike are told as one repeated failure.",
    "report.price_per_kwh": "What the site pays for a kWh at the plug: findings then say what they cost. Default: no"
    " money is named.",
    "report.currency": "Of that price, three letters.",
    "report.contact": "Whom to ask, at the end of each mail and page.",
    "report.link": "A page of the site's about these reports.",
    "report.profile_kwh": "Jobs that used less keep no power over time in the results, and have no plot.",
    "mail.enabled": "Put mails together after each nightly accounting. [How to set it up](mail.md).",
    "mail.send": "Send them. Until it is true they are only put into the folder `preview`, to be looked at.",
    "mail.preview": "The folder for mails that are not sent (`.eml`).",
    "mail.sender": "The address that they come from. Needed.",
    "mail.sender_name": "The name beside it.",
    "mail.reply_to": "Where answers go, if not to the sender.",
    "mail.smtp.host": "The mail server.",
    "mail.smtp.port": "Its port: 25, 587 with starttls, 465 with tls.",
    "mail.smtp.tls": "`starttls`: the connection is made secret before anything is said, or nothing is sent.",
    "mail.smtp.ca_file": "The authority that signed its certificate, where that is not a public one.",
    "mail.smtp.username": "The user, where the server asks for one.",
    "mail.smtp.password_file": "A file with the password alone, readable by root only.",
    "mail.smtp.timeout_s": "Seconds to wait for each answer.",
    "mail.addresses.map_file": "A file of lines `user: address`. First the map is asked, then LDAP, then the domain.",
    "mail.addresses.ldap.uri": "The server, asked by `ldapsearch`.",
    "mail.addresses.ldap.base": "Where users stand in it.",
    "mail.addresses.ldap.user_attribute": "Which attribute is the user's name.",
    "mail.addresses.ldap.mail_attribute": "Which is the address.",
    "mail.addresses.ldap.bind_dn": "As whom to ask. Default: as nobody.",
    "mail.addresses.ldap.password_file": "A file with the password alone, readable by root only.",
    "mail.addresses.ldap.timeout_s": "Seconds to wait for an answer.",
    "mail.addresses.domain": "What stands behind the user's name: `example.org` gives `alice@example.org`.",
    "mail.min_kwh": "A job, an array or a heterogeneous job gets a mail of its own from this energy on.",
    "mail.min_failed_kwh": "The same for one that failed, or has a finding.",
    "mail.digest": "How often users are told of all their other jobs, in one mail.",
    "mail.digest_day": "On which day, if weekly. Monthly: on the first day of the month that is one of `days`.",
    "mail.labs": "How often heads get their lab's report.",
    "mail.per_user": "The most mails a user gets of one night, digests apart: what is beyond stands in the digest.",
    "mail.per_night": "The most mails of one night: what is beyond goes the next one.",
    "mail.days": "Days on which mails go out; those of other days wait.",
    "mail.holidays_file": "A file of days like `2026-12-25`, one a line, on which none go out.",
    "mail.opt_out_file": "A file of users who want none, one a line.",
    "mail.unsubscribe": "Where one asks for none: a `mailto:` or `https:` address, told in each mail's"
    " `List-Unsubscribe`.",
    "mail.admins": "Who is told when something is wrong with a night.",
}

INVENTORY = {
    "version": "Named in every result. Default: a hash of the file. Raise it when the file changes.",
    "pue": "What the building draws for each kWh of a node. Without it 1 is assumed, and every report says so.",
    "calibration.<node>.slope": "Watts at the plug for one more watt of the parts. This block is written by"
    " `jobimpactd calibrate --write`; the daemon models the rest of a node without a meter by it.",
    "calibration.<node>.offset_w": "Watts at the plug beyond that.",
    "calibration.<node>.residual_w": "Standard deviation of a window's mean power from the fit.",
    "calibration.<node>.r2": "Of the fit.",
    "calibration.<node>.windows": "How many windows were fitted.",
    "calibration.<node>.from_w": "The least that the parts drew while it was fitted.",
    "calibration.<node>.to_w": "The most.",
    "calibration.<node>.meter": "What was taken as the truth.",
    "calibration.<node>.lag_s": "By how much the meter lagged; taken out.",
    "calibration.<node>.date": "When it was fitted, UTC.",
    "calibration.<node>.excludes": "Parts that the meter does not see.",
    "types.<type>.nodes": "Node names, or a host list: `node[01-04]`. A node is of one type.",
    "types.<type>.cpu.model": "As `/proc/cpuinfo` or the vendor spells it.",
    "types.<type>.cpu.count": "CPUs (sockets) of a node.",
    "types.<type>.cpu.cores": "Cores of one CPU.",
    "types.<type>.cpu.threads_per_core": "2 where the scheduler counts threads as CPUs.",
    "types.<type>.cpu.die_mm2": "Die area, for a model that is not in the factors.",
    "types.<type>.cluster": "Whose nodes they are, where `scheduler.slurm.clusters` names several: then every type has"
    " one.",
    "types.<type>.load_w": "Watts that each whole part of a node draws while jobs use it: `{cpu: 300, ram: 40,"
    " gpu: 1600, rest: 200}`. Jobs that no node's books have are estimated from it, and say so; without it they are"
    " not measured.",
    "types.<type>.ram_gb": "Memory of a node, in units of 2^30 bytes.",
    "types.<type>.ram_modules": "Default: modules of 32 GB.",
    "types.<type>.gpus[].model": "As NVML names it, or a key of `accounting/jobimpact/data/gpus.yaml`.",
    "types.<type>.gpus[].count": "GPUs of this model in a node.",
    "types.<type>.ssd_gb": "The size of each SSD.",
    "types.<type>.hdd_gb": "The size of each hard disk; each counts the same.",
    "types.<type>.psu": "Power supplies of a node.",
    "types.<type>.psu_kg": "Weight of one. Default: 2.99 kg.",
    "types.<type>.board": "Main boards of a node.",
    "types.<type>.case": "Cases of a node: 0.25 for one of four nodes in a chassis.",
    "types.<type>.nic": "Network cards of a node beyond what is on its board.",
    "types.<type>.lifetime_years": "Over how many years its manufacture is spread, of 8766 hours each.",
    "types.<type>.purchased": "The day on which the nodes went into service. Without it they are taken to be in their"
    " life, whenever a job ran.",
    "types.<type>.past_lifetime": "Once the life is over, manufacture is paid off: `zero`. `continue` charges on at"
    " the same rate, more than it cost in all.",
    "types.<type>.exclusive": "Jobs are given whole nodes: each holds every part.",
    "shared.<part>.nodes": "Which nodes it serves. Default: all.",
    "shared.<part>.count": "How many of them there are; together they serve these nodes.",
    "shared.<part>.power_w": "What one draws on average, in watts. Without it its use is not known.",
    "shared.<part>.gwp_kgco2e": "What making one cost: a number, or `[low, central, high]`. Without it: not known.",
    "shared.<part>.adp_kgsbe": "As above.",
    "shared.<part>.pe_mj": "As above.",
    "shared.<part>.source": "Where these three come from.",
    "shared.<part>.lifetime_years": "Over how many years its manufacture is spread.",
    "shared.<part>.purchased": "As for a type of nodes.",
    "shared.<part>.past_lifetime": "As for a type of nodes.",
    "types.<type>.pue": "For this type, in place of the file's.",
    "types.<type>.zone": "For this type, in place of `grid.zone`.",
}

HEAD = """\
# Configuration

<!-- Written by `python docs/reference.py` from the schema. Do not edit. -->

One YAML file serves nodes and accounting host. It is the file of `--config`, else of `$JOBIMPACT_CONFIG`, else
`/etc/jobimpact/jobimpact.yaml`. Every key may be left out. An unknown key, a key given twice and an empty source
section are errors that name the file, the key and what is allowed. Relative paths start at the file's folder.
Samples with comments: [deploy/jobimpact.yaml](../../deploy/jobimpact.yaml),
[deploy/nodes.yaml](../../deploy/nodes.yaml).

`node.sources` lists the sources that are switched on: `sources: {rapl: {}, nvml: {}, ipmi: {}}`. Without it, those
that need no settings are: all but ipmi, redfish and wattmeter.

## jobimpact.yaml

"""

MIDDLE = """
## nodes.yaml, the inventory

The file that `inventory` names. `<type>` is a name of the site's own; an unknown CPU or GPU model is no error: it
gets a wide range and a warning in every report. What is done with it: [the method](../method.md).

"""

_ENTRIES = {"labs": "lab", "types": "type", "shared": "part", "calibration": "node"}
"""What a mapping's names are names of."""
_DEFAULTS = {
    "node.name": "host name",
    "scheduler.slurm": "on",
    "node.sources.rapl": "on",
    "node.sources.nvml": "on",
    "node.sources.amdsmi": "on",
    "node.sources.hwmon": "on",
    "node.sources.pmcounters": "on",
    "node.sources.model": "on",
}


def keys(found: inspect.Type, path: str = "") -> Iterator[tuple[str, inspect.Field, inspect.Type]]:
    """Every key of a record that holds a value: its path, its field, its type without `None`."""
    if not isinstance(found, inspect.StructType):
        return
    for field in found.fields:
        inner = _given(field.type)
        below = f"{path}.{field.encode_name}".lstrip(".")
        if isinstance(inner, inspect.StructType):
            yield from keys(inner, below)
        elif isinstance(inner, inspect.DictType) and isinstance(inner.value_type, inspect.StructType):
            yield from keys(inner.value_type, f"{below}.<{_ENTRIES[below]}>")
        elif isinstance(inner, inspect.ListType) and isinstance(inner.item_type, inspect.StructType):
            yield from keys(inner.item_type, f"{below}[]")
        else:
            yield below, field, inner


def page() -> str:
    """The whole page."""
    config = inspect.type_info(Config)
    parts = inspect.type_info(inventory._File)  # noqa: SLF001 (the file's schema, which nothing else needs)
    return HEAD + _table(config, CONFIG) + MIDDLE + _table(parts, INVENTORY)


def _table(found: inspect.Type, meanings: dict[str, str]) -> str:
    known = [path for path, _, _ in keys(found)]
    if set(known) != set(meanings):
        raise ValueError(f"keys and meanings differ: {sorted(set(known) ^ set(meanings))}")
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    rows += [f"| `{path}` | {_kind(kind)} | {_default(path, f)} | {meanings[path]} |" for path, f, kind in keys(found)]
    return "\n".join(rows) + "\n"


def _given(found: inspect.Type) -> inspect.Type:
    """An optional type without its `None`."""
    if isinstance(found, inspect.UnionType):
        some = [one for one in found.types if not isinstance(one, inspect.NoneType)]
        return some[0] if len(some) == 1 else inspect.UnionType(tuple(some))
    return found


def _kind(found: inspect.Type) -> str:
    if isinstance(found, inspect.UnionType):
        return " or ".join(_kind(one) for one in found.types)
    if isinstance(found, inspect.LiteralType):
        return " or ".join(f"`{_shown(value)}`" for value in found.values)
    if isinstance(found, inspect.DictType):
        return f"map of {_kind(found.value_type)}"
    if isinstance(found, (inspect.ListType, inspect.VarTupleType)):
        return f"list of {_kind(found.item_type)}"
    if isinstance(found, (inspect.IntType, inspect.FloatType)):
        name = "integer" if isinstance(found, inspect.IntType) else "number"
        signs = (("> ", found.gt), (">= ", found.ge), ("< ", found.lt), ("<= ", found.le))
        return " ".join([name, ", ".join(f"{sign}{limit:g}" for sign, limit in signs if limit is not None)]).strip()
    if isinstance(found, inspect.DateType):
        return "date"
    return "`true` or `false`" if isinstance(found, inspect.BoolType) else "text"


def _default(path: str, field: inspect.Field) -> str:
    if path in _DEFAULTS:
        return _DEFAULTS[path]
    if field.required:
        return "required"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "-" if value is None else f"`{_shown(value)}`"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "[]" if value == () else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
