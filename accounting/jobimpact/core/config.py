"""One typed schema for node and host, read from YAML. Unknown keys are errors.

The file is `$JOBIMPACT_CONFIG` or `/etc/jobimpact/jobimpact.yaml`; relative paths in it start at its folder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
import yaml
from msgspec import Meta, Struct, field

from jobimpact.core.errors import ConfigError
from jobimpact.core.progress import SOCKET

if TYPE_CHECKING:
    from yaml import SafeLoader
else:
    # The one in C, where PyYAML was built with it, is several times faster: an inventory can be long.
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

__all__ = ["Config", "Node", "config_path", "convert_yaml", "each_cluster", "load_config", "read_yaml"]

DEFAULT_PATH = "/etc/jobimpact/jobimpact.yaml"

T = TypeVar("T")

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,64}\Z")]
Positive = Annotated[float, Meta(gt=0, le=1e9)]
NotNegative = Annotated[float, Meta(ge=0, le=1e9)]
Count = Annotated[int, Meta(ge=1, le=1 << 60)]
IdleWatts = dict[str, NotNegative]


class _Keys(Struct, frozen=True, forbid_unknown_fields=True):
    """Every section: a key that it does not know is an error."""


class LocalStore(_Keys, frozen=True):
    """One SQLite file per node in a folder: one machine, a lab, trying it out."""

    path: Annotated[str, Meta(min_length=1)] = "/var/lib/jobimpact"


class Retention(_Keys, frozen=True):
    """For how many days the server keeps what it can have again, or needs for pictures alone."""

    books_days: Annotated[int, Meta(ge=2, le=3660)] = 7
    profile_days: Annotated[int, Meta(ge=2, le=3660)] = 90


class InfluxStore(_Keys, frozen=True):
    """InfluxDB 1.x, 2.x or 3.x: nodes write points to it, accounting reads them, Grafana shows them."""

    url: Annotated[str, Meta(pattern=r"^https?://")]
    path: Annotated[str, Meta(min_length=1)] = "/var/lib/jobimpact"
    database: Name = "jobimpact"
    org: str | None = None
    token_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    outbox_mb: Annotated[int, Meta(ge=1, le=100_000)] = 64
    retention: Retention = field(default_factory=Retention)


class VictoriaStore(_Keys, frozen=True):
    """VictoriaMetrics, for clusters that outgrow one InfluxDB: the same points, read with PromQL."""

    url: Annotated[str, Meta(pattern=r"^https?://")]
    path: Annotated[str, Meta(min_length=1)] = "/var/lib/jobimpact"
    token_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    outbox_mb: Annotated[int, Meta(ge=1, le=100_000)] = 64


class Store(_Keys, frozen=True):
    """Where nodes write energies and accounting reads them: one of these; none is `local`."""

    local: LocalStore | None = None
    influxdb: InfluxStore | None = None
    victoriametrics: VictoriaStore | None = None

    @property
    def server(self) -> InfluxStore | VictoriaStore | None:
        """Where points go; None: the nodes' own files are the store."""
        return self.influxdb or self.victoriametrics

    @property
    def folder(self) -> Path:
        """Where a node's daemon keeps its books, whichever store they go to."""
        return Path((self.server or self.local or LocalStore()).path)


class Slurm(_Keys, frozen=True):
    """Slurm's records, by its own command, or by PySlurm in a process of its own."""

    via: Literal["sacct", "pyslurm"] = "sacct"
    clusters: tuple[Name, ...] = ()
    python: Annotated[str, Meta(min_length=1)] | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=86400)] = 600.0


class Oar(_Keys, frozen=True):
    """OAR's records, from its PostgreSQL as a role that may only read."""

    dsn: Annotated[str, Meta(min_length=1)]
    password_file: str | None = None
    full_names: bool = False
    timeout_s: Annotated[float, Meta(gt=0, le=86400)] = 600.0


class LocalScheduler(_Keys, frozen=True):
    """Records in a JSON Lines file: what stands in for a scheduler on a machine without one."""

    path: Annotated[str, Meta(min_length=1)]


class Scheduler(_Keys, frozen=True):
    """Where job records come from: one of these."""

    slurm: Slurm | None = None
    oar: Oar | None = None
    local: LocalScheduler | None = None


class Rapl(_Keys, frozen=True):
    """Intel and AMD counters for CPU packages and DRAM, by the kernel's powercap tree."""

    root: str = "/sys/class/powercap"
    idle_w: IdleWatts = field(default_factory=dict)
    max_w: dict[str, Positive] = field(default_factory=dict)


class Nvml(_Keys, frozen=True):
    """NVIDIA GPUs, by the driver's library."""

    deadline_s: Positive = 0.5


class Amdsmi(_Keys, frozen=True):
    """AMD GPUs, by AMD's library; needs the extra `amd`."""

    deadline_s: Positive = 0.5


class Hwmon(_Keys, frozen=True):
    """Power sensors of the board: Jetson's INA3221, Grace's and ACPI's power meters."""

    root: str = "/sys/class/hwmon"
    period_s: Positive = 0.1


class PmCounters(_Keys, frozen=True):
    """Cray's own counters of node, CPU, memory and accelerators."""

    root: str = "/sys/cray/pm_counters"


class Ipmi(_Keys, frozen=True):
    """The whole node's power by its BMC: DCMI, through ipmitool or freeipmi."""

    via: Literal["auto", "ipmitool", "freeipmi"] = "auto"
    host: str | None = None
    port: Annotated[int, Meta(ge=1, le=65535)] = 623
    username: str | None = None
    password_file: str | None = None
    period_s: Annotated[float, Meta(ge=1, le=3600)] = 10.0
    deadline_s: Positive = 8.0
    latency_s: Positive = 15.0
    excludes: tuple[Literal["cpu", "dram", "gpu"], ...] = ()


class Redfish(_Keys, frozen=True):
    """The whole node's power by its BMC, over HTTP."""

    url: Annotated[str, Meta(pattern=r"^https?://")]
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None
    verify: bool = True
    chassis: str | None = None
    control: str | None = None
    period_s: Annotated[float, Meta(ge=1, le=3600)] = 10.0
    deadline_s: Positive = 10.0
    latency_s: Positive = 15.0
    excludes: tuple[Literal["cpu", "dram", "gpu"], ...] = ()


class Kwollect(_Keys, frozen=True):
    """A wattmeter by Kwollect's API, as Grid'5000 has it."""

    url: Annotated[str, Meta(pattern=r"^https?://")]
    node: Name | None = None
    metric: Name = "wattmetre_power_watt"
    username: str | None = None
    password_file: str | None = None
    ca_file: str | None = None


class WattCsv(_Keys, frozen=True):
    """A wattmeter by the CSV file that its own program writes, followed as it grows."""

    path: Annotated[str, Meta(min_length=1)]
    watts: str = "watts"
    time: str = "time"
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","


class Wattmeter(_Keys, frozen=True):
    """The whole node's power at its plug: one of these."""

    kwollect: Kwollect | None = None
    csv: WattCsv | None = None
    period_s: Annotated[float, Meta(ge=0.1, le=3600)] = 10.0
    deadline_s: Positive = 10.0
    latency_s: Positive = 1.0
    excludes: tuple[Literal["cpu", "dram", "gpu"], ...] = ()


class Model(_Keys, frozen=True):
    """Power modelled from CPU utilisation, for a machine with no meter at all."""

    tdp_w: Positive | None = None
    idle_w: NotNegative | None = None


class Sources(_Keys, frozen=True):
    """The sources that are switched on; without this section, those that need no settings."""

    rapl: Rapl | None = None
    nvml: Nvml | None = None
    amdsmi: Amdsmi | None = None
    hwmon: Hwmon | None = None
    pmcounters: PmCounters | None = None
    ipmi: Ipmi | None = None
    redfish: Redfish | None = None
    wattmeter: Wattmeter | None = None
    model: Model | None = None


def _found_sources() -> Sources:
    """Those that need no word of where to look, and cost nothing where they find nothing."""
    return Sources(rapl=Rapl(), nvml=Nvml(), amdsmi=Amdsmi(), hwmon=Hwmon(), pmcounters=PmCounters(), model=Model())


def _short_hostname() -> str:
    return os.uname().nodename.partition(".")[0] or "localhost"


class Node(_Keys, frozen=True):
    """One node: how it samples, and what it is where that cannot be found."""

    name: Name = field(default_factory=_short_hostname)
    interval_s: Annotated[float, Meta(ge=0.1, le=30)] = 1.0
    marks: str = "/run/jobimpact/marks"
    mark_owners: tuple[Name, ...] = ()
    progress: Annotated[str, Meta(min_length=1, max_length=100)] | None = SOCKET
    policy: Literal["default", "cpu_time", "exclusive"] = "default"
    idle_w: IdleWatts = field(default_factory=dict)
    max_gap_s: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    slurmd: tuple[Name, ...] = ()
    cpus: Count | None = None
    mem_bytes: Count | None = None
    gpus: tuple[str, ...] = ()
    proc_root: str = "/proc"
    sys_root: str = "/sys"
    cgroup_root: str = "/sys/fs/cgroup"
    sources: Sources = field(default_factory=_found_sources)


class Rte(_Keys, frozen=True):
    """RTE's eCO2mix: France, quarter hours, direct emissions; no key."""

    url: Annotated[str, Meta(pattern=r"^https?://")] = "https://reseaux-energies-rte.opendatasoft.com"
    ca_file: str | None = None


class ElectricityMaps(_Keys, frozen=True):
    """Electricity Maps: hourly, life-cycle, by token."""

    token_file: Annotated[str, Meta(min_length=1)]
    zone: Name
    url: Annotated[str, Meta(pattern=r"^https?://")] = "https://api.electricitymaps.com/v3"
    ca_file: str | None = None


class Entsoe(_Keys, frozen=True):
    """ENTSO-E's transparency platform: generation by kind, weighted with life-cycle factors; by token."""

    token_file: Annotated[str, Meta(min_length=1)]
    domain: Name
    url: Annotated[str, Meta(pattern=r"^https?://")] = "https://web-api.tp.entsoe.eu/api"
    ca_file: str | None = None


class GridCsv(_Keys, frozen=True):
    """Carbon intensity over time from a CSV file with a header."""

    path: Annotated[str, Meta(min_length=1)]
    basis: Literal["lifecycle", "direct"]
    time: str = "time"
    value: str = "gco2e_per_kwh"
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] = ","


class Market(_Keys, frozen=True):
    """The site's contract: reported beside the location-based figure, never in place of it."""

    gwp_kgco2e_per_kwh: NotNegative
    source: Annotated[str, Meta(min_length=1, max_length=200)]


class Grid(_Keys, frozen=True):
    """The electricity of the site: its zone, and where its carbon intensity over time comes from."""

    zone: Name = "WOR"
    provider: Literal["annual", "rte", "electricitymaps", "entsoe", "csv"] = "annual"
    rte: Rte = field(default_factory=Rte)
    electricitymaps: ElectricityMaps | None = None
    entsoe: Entsoe | None = None
    csv: GridCsv | None = None
    cache: Annotated[str, Meta(min_length=1)] = "/var/lib/jobimpact/grid.db"
    deadline_s: Positive = 30.0
    market: Market | None = None


class Embodied(_Keys, frozen=True):
    """How the machines' idle time is told: by what it was, or by a fixed part of active use."""

    idle_share: Literal["measured", "fixed"] = "measured"
    active_utilisation: Annotated[float, Meta(gt=0, le=1)] = 0.65
    window_months: Annotated[int, Meta(ge=1, le=60)] = 12


class Nightly(_Keys, frozen=True):
    """When `jobimpact schedule` accounts, and how far it looks back for late records."""

    at: Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "02:30"
    look_back_days: Annotated[int, Meta(ge=1, le=366)] = 3


Address = Annotated[str, Meta(pattern=r"^[^\s<>\"(),:;\[\]\\\\]+@[A-Za-z0-9.-]+\Z", max_length=254)]
HostPort = Annotated[str, Meta(pattern=r"^(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.*-]+):\d{1,5}\Z")]
Day = Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_WORKDAYS: tuple[Day, ...] = ("monday", "tuesday", "wednesday", "thursday", "friday")


class Lab(_Keys, frozen=True):
    """A lab, which is an account of the scheduler."""

    name: str | None = None
    heads: tuple[Name, ...] = ()


class Access(_Keys, frozen=True):
    """Who may see more than their own jobs: root and these groups all, the head of a lab its."""

    groups: tuple[Name, ...] = ("jobimpact",)


class Service(_Keys, frozen=True):
    """Where users are answered: a socket on the accounting host, and for login nodes TCP with munge."""

    socket: Annotated[str, Meta(min_length=1)] = "/run/jobimpact/answers.sock"
    listen: HostPort | None = None
    ask: HostPort | None = None
    munge_socket: str | None = None
    user: Name = "jobimpact"
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 3.0


class Findings(_Keys, frozen=True):
    """From when on a job's use of what it held is told as a finding."""

    min_run_s: NotNegative = 300.0
    min_coverage: Annotated[float, Meta(ge=0, le=1)] = 0.9
    gpu_use: Annotated[float, Meta(ge=0, le=1)] = 0.25
    cpu_use: Annotated[float, Meta(ge=0, le=1)] = 0.4
    memory_use: Annotated[float, Meta(ge=0, le=1)] = 0.25
    time_use: Annotated[float, Meta(ge=0, le=1)] = 0.2
    min_array_failures: Annotated[int, Meta(ge=2, le=1_000_000)] = 3


class Report(_Keys, frozen=True):
    """What reports say beside the figures."""

    price_per_kwh: NotNegative | None = None
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")] = "EUR"
    contact: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    link: Annotated[str, Meta(pattern=r"^https?://", max_length=500)] | None = None
    profile_kwh: NotNegative = 0.01


class Smtp(_Keys, frozen=True):
    """The mail server."""

    host: Annotated[str, Meta(pattern=r"^[A-Za-z0-9.:-]{1,255}\Z")] = "localhost"
    port: Annotated[int, Meta(ge=1, le=65535)] = 25
    tls: Literal["none", "starttls", "tls"] = "starttls"
    ca_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 30.0


class Ldap(_Keys, frozen=True):
    """Addresses by `ldapsearch`."""

    uri: Annotated[str, Meta(pattern=r"^ldap[is]?://")]
    base: Annotated[str, Meta(min_length=1)]
    user_attribute: Name = "uid"
    mail_attribute: Name = "mail"
    bind_dn: str | None = None
    password_file: str | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 10.0


class Addresses(_Keys, frozen=True):
    """Where users get their mail: the map first, then LDAP, then the domain behind their names."""

    map_file: str | None = None
    ldap: Ldap | None = None
    domain: Annotated[str, Meta(pattern=r"^[A-Za-z0-9.-]{1,253}\Z")] | None = None


class Mail(_Keys, frozen=True):
    """Reports by mail after each nightly accounting. Until `send` is true they are only put into a folder."""

    enabled: bool = False
    send: bool = False
    preview: Annotated[str, Meta(min_length=1)] = "/var/lib/jobimpact/mail"
    sender: Address | None = None
    sender_name: Annotated[str, Meta(min_length=1, max_length=100)] = "jobimpact"
    reply_to: Address | None = None
    smtp: Smtp = field(default_factory=Smtp)
    addresses: Addresses = field(default_factory=Addresses)
    min_kwh: NotNegative = 1.0
    min_failed_kwh: NotNegative = 0.1
    digest: Literal["off", "weekly", "monthly"] = "weekly"
    digest_day: Day = "monday"
    labs: Literal["off", "weekly", "monthly"] = "monthly"
    per_user: Annotated[int, Meta(ge=0, le=1000)] = 3
    per_night: Annotated[int, Meta(ge=1, le=1_000_000)] = 500
    days: tuple[Day, ...] = _WORKDAYS
    holidays_file: str | None = None
    opt_out_file: str | None = None
    unsubscribe: Annotated[str, Meta(pattern=r"^(mailto:|https://)\S+\Z", max_length=500)] | None = None
    admins: tuple[Address, ...] = ()


class Config(_Keys, frozen=True):
    """The whole file. `path` is where it was read, for messages and relative paths."""

    cluster: Name = "cluster"
    store: Store = field(default_factory=Store)
    results: Annotated[str, Meta(min_length=1)] = "sqlite:////var/lib/jobimpact/results.db"
    scheduler: Scheduler = field(default_factory=lambda: Scheduler(slurm=Slurm()))
    inventory: str = "/etc/jobimpact/nodes.yaml"
    node: Node = field(default_factory=Node)
    factors: str | None = None
    grid: Grid = field(default_factory=Grid)
    embodied: Embodied = field(default_factory=Embodied)
    nightly: Nightly = field(default_factory=Nightly)
    labs: dict[str, Lab] = field(default_factory=dict)
    access: Access = field(default_factory=Access)
    service: Service = field(default_factory=Service)
    findings: Findings = field(default_factory=Findings)
    report: Report = field(default_factory=Report)
    mail: Mail = field(default_factory=Mail)


def config_path(given: str | None) -> Path:
    """The configuration file: as given, else by the environment, else the system's."""
    return Path(given or os.environ.get("JOBIMPACT_CONFIG") or DEFAULT_PATH)


def each_cluster(config: Config) -> list[Config]:
    """The configuration of each cluster whose jobs are accounted for: of one slurmdbd several may be."""
    names = config.scheduler.slurm.clusters if config.scheduler.slurm else ()
    return [msgspec.structs.replace(config, cluster=name) for name in names or (config.cluster,)]


def load_config(path: Path) -> Config:
    """Read and check a configuration.

    Raises:
        ConfigError: names the file, the key and what is allowed.
    """
    raw = read_yaml(path)
    config = _convert(path, raw, Config)
    _check_choices(path, config, raw)
    base = path.resolve().parent

    def placed(name: str) -> str:
        return str(base / name)

    return msgspec.structs.replace(
        config,
        store=_placed(config.store if config.store.server else Store(local=config.store.local or LocalStore()), base),
        results=_placed_url(config.results, base),
        scheduler=_placed(config.scheduler, base),
        inventory=placed(config.inventory),
        factors=None if config.factors is None else placed(config.factors),
        grid=_placed(config.grid, base),
        service=_placed(config.service, base),
        mail=_placed(config.mail, base),
        node=msgspec.structs.replace(
            config.node,
            marks=placed(config.node.marks),
            progress=None if config.node.progress is None else placed(config.node.progress),
            sources=_placed(config.node.sources, base),
        ),
    )


_FILES = (
    *("password_file", "token_file", "ca_file", "path", "cache", "socket", "munge_socket", "preview"),
    *("map_file", "holidays_file", "opt_out_file"),
)


def _placed(found: Any, base: Path) -> Any:
    """The same settings with the paths of their files made whole."""
    given = {name: getattr(found, name) for name in found.__struct_fields__}
    whole = {name: str(base / given[name]) for name in _FILES if given.get(name)}
    whole |= {name: _placed(one, base) for name, one in given.items() if isinstance(one, Struct)}
    return msgspec.structs.replace(found, **whole)


def _placed_url(url: str, base: Path) -> str:
    scheme, _, rest = url.partition(":///")
    return f"{scheme}:///{base / rest}" if scheme == "sqlite" and rest else url


def _check_choices(path: Path, config: Config, raw: object) -> None:
    scheduler = config.scheduler
    if [scheduler.slurm, scheduler.oar, scheduler.local].count(None) != 2:
        raise ConfigError(f"{path}: scheduler: exactly one of slurm, oar, local")
    _check_store(path, config.store)
    # To Slurm they are the same in capitals.
    if scheduler.slurm and len({one.lower() for one in scheduler.slurm.clusters}) < len(scheduler.slurm.clusters):
        raise ConfigError(f"{path}: scheduler.slurm.clusters: a name stands there twice")
    _check_mail(path, config.mail)
    # Without a path it would be a database in memory, gone with the night.
    if not re.match(r"sqlite:///[^?]+\Z", config.results):
        raise ConfigError(f"{path}: results: {config.results!r}: a sqlite:/// URL, a file's path and nothing else")
    if config.grid.provider != "annual" and getattr(config.grid, config.grid.provider) is None:
        raise ConfigError(f"{path}: grid.{config.grid.provider}: its settings are missing")
    wattmeter = config.node.sources.wattmeter
    if wattmeter and (wattmeter.kwollect is None) == (wattmeter.csv is None):
        raise ConfigError(f"{path}: node.sources.wattmeter: exactly one of kwollect, csv")
    # A section that is there but empty (`rapl:`) means the source with its defaults off: say so, do not guess.
    sources = (raw.get("node") or {}).get("sources") or {} if isinstance(raw, dict) else {}
    for name, section in sources.items():
        if section is None:
            raise ConfigError(f"{path}: node.sources.{name}: empty: write {{}} to switch it on, or take it out")


def _check_store(path: Path, store: Store) -> None:
    if [store.local, store.influxdb, store.victoriametrics].count(None) < 2:
        raise ConfigError(f"{path}: store: exactly one of local, influxdb, victoriametrics")
    server = store.server
    if server is not None:
        key = f"{path}: store.{'influxdb' if store.influxdb else 'victoriametrics'}"
        if server.token_file and (server.username or server.password_file):
            raise ConfigError(f"{key}: token_file, or username and password_file: not both")
        if (server.username is None) != (server.password_file is None):
            raise ConfigError(f"{key}: username and password_file go together")


def _check_mail(path: Path, mail: Mail) -> None:
    if mail.enabled and mail.sender is None:
        raise ConfigError(f"{path}: mail.sender: an address that reports come from is needed")
    if mail.enabled and mail.addresses == Addresses():
        raise ConfigError(f"{path}: mail.addresses: one of map_file, ldap, domain is needed")
    if (mail.smtp.username is None) != (mail.smtp.password_file is None):
        raise ConfigError(f"{path}: mail.smtp: username and password_file go together")
    if mail.smtp.username is not None and mail.smtp.tls == "none":
        raise ConfigError(f"{path}: mail.smtp.tls: none would send the password in the open")


class _UniqueKeys(SafeLoader):
    """YAML lets a later key silently replace an earlier one; we do not."""


def _unique_mapping(loader: _UniqueKeys, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if isinstance(key, (list, dict)):
            raise yaml.constructor.ConstructorError(None, None, "a key must be plain", key_node.start_mark)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} twice", key_node.start_mark)
        seen.add(key)
    return dict(loader.construct_pairs(node, deep=True))


_UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(path: Path) -> object:
    """A YAML file as plain objects; an empty one is an empty mapping.

    Raises:
        ConfigError: it cannot be read, or is not YAML (with the line).
    """
    try:
        with path.open(encoding="utf-8") as file:
            found = yaml.load(file, _UniqueKeys)  # noqa: S506 (a SafeLoader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: too deeply nested") from error
    except ValueError as error:  # a date like 2024-02-30
        raise ConfigError(f"{path}: {error}") from error
    return {} if found is None else found


def convert_yaml(path: Path, type_: type[T]) -> T:
    """A YAML file as a typed record.

    Raises:
        ConfigError: names the file, the key and what is allowed.
    """
    return _convert(path, read_yaml(path), type_)


def _convert(path: Path, found: object, type_: type[T]) -> T:
    try:
        return msgspec.convert(found, type_)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error), found, type_)}") from error


def _explain(message: str, found: object, type_: object) -> str:
    """Msgspec's message, the key first, and what is allowed where it does not say so itself."""
    text, _, where = message.partition(" - at `")
    in_key = where.startswith("key` in `")
    key = where.removeprefix("key` in `").rstrip("`").removeprefix("$").lstrip(".")
    place = _place(message, found, key, type_)
    unknown = re.search(r"unknown field `(.*)`", text)
    if unknown:
        full = f"{place}.{unknown[1]}" if place else unknown[1]
        return f"{full}: unknown key; allowed: {', '.join(_allowed(type_, key))}"
    said = f"{'a key in ' if in_key else ''}{place}: {text[0].lower()}{text[1:]}" if place else text
    if text.startswith("Invalid enum value"):
        said += f"; allowed: {', '.join(_allowed(type_, key))}"
    return said


def _place(message: str, found: Any, key: str, type_: object) -> str:
    """Where the wrong value is, with the names of a mapping's entries, all of which msgspec calls `[...]`.

    A wrong entry is the one that alone gives the same message: `found` is cut down to it.
    """
    place, here = "", found
    for step in re.findall(r"[^.\[\]]+|\[[^\]]*\]", key):
        if step == "[...]":
            name = _wrong_entry(message, found, here, type_)
            place, here = f"{place}.{name}", here[name]
        elif step.startswith("["):
            place, here = f"{place}{step}", here[int(step[1:-1])]
        else:
            place, here = f"{place}.{step}", here[step]
    return place.lstrip(".")


def _wrong_entry(message: str, found: Any, mapping: dict[Any, Any], type_: object) -> Any:
    entries = dict(mapping)
    for name, value in entries.items():
        mapping.clear()
        mapping[name] = value
        try:
            msgspec.convert(found, type_)
        except msgspec.ValidationError as error:
            if str(error) == message:
                return name
    return next(iter(entries))


def _allowed(type_: object, key: str) -> list[str]:
    """The keys of a section, or the values of a choice."""
    found = msgspec.inspect.type_info(type_)
    for part in re.findall(r"[^.\[\]]+|\[\.*\]", key):
        found = _below(found, part)
    names: list[str] = []
    for option in found.types if isinstance(found, msgspec.inspect.UnionType) else (found,):
        if isinstance(option, msgspec.inspect.StructType):
            names += [one.encode_name for one in option.fields]
        elif isinstance(option, msgspec.inspect.LiteralType):
            names += [str(value).lower() if isinstance(value, bool) else str(value) for value in option.values]
    return sorted(names)


def _below(found: msgspec.inspect.Type, part: str) -> msgspec.inspect.Type:
    options = found.types if isinstance(found, msgspec.inspect.UnionType) else (found,)
    for option in options:
        if isinstance(option, msgspec.inspect.StructType):
            for one in option.fields:
                if one.encode_name == part:
                    return one.type
        elif isinstance(option, msgspec.inspect.DictType):
            return option.value_type
        elif isinstance(option, (msgspec.inspect.ListType, msgspec.inspect.VarTupleType)):
            return option.item_type
    return found
