"""What is asked of the accounting host and what it says, whichever way it goes: in this process or over a socket."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from jobimpact.core.records import DomainKind, Profile, Progress
from jobimpact.results.record import JobResult
from jobimpact.results.sums import Ending, SumImpact, Sums

__all__ = [
    "Answerer",
    "Answers",
    "Details",
    "DetailsQuery",
    "Ending",
    "Group",
    "Period",
    "PeriodQuery",
    "Place",
    "Query",
    "SumImpact",
    "Sums",
    "Who",
]


class Who(msgspec.Struct, frozen=True):
    """Who asks."""

    uid: int
    name: str
    """As the accounting host knows the uid; the uid as digits where it does not."""
    admin: bool = False
    """May see all jobs."""
    labs: tuple[str, ...] = ()
    """Accounts whose jobs they may see as their head."""
    numbered: bool = True
    """No other user is called by the digits of this uid."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the scheduler may call them: it tells the digits of a uid whose name it does not know."""
        return tuple(filter(None, (self.name, str(self.uid) if self.numbered else "")))


class Query(msgspec.Struct, frozen=True, tag="jobs"):
    """Jobs by their ids, or all that fit; each empty or None leaves that open."""

    ids: tuple[str, ...] = ()
    """As users write them, steps cut off: `123`, `123_4`, `123+1`."""
    users: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    clusters: tuple[str, ...] = ()
    from_s: float | None = None
    """Epoch seconds: jobs that were there at any time in [from_s, to_s)."""
    to_s: float | None = None
    rows: int = 2000
    """Of each id, or of all, so many jobs in full; of more there are only the sums."""
    live: bool = True
    """Ask the nodes' books for jobs that are not in the results, too."""


class Group(msgspec.Struct, frozen=True):
    """What was found for one id, or for what was asked as a whole."""

    asked: str
    """The id; empty: everything that fits."""
    jobs: tuple[JobResult, ...] = ()
    """By start; empty where there are more than were asked for in full."""
    sums: Sums | None = None
    """None: nothing was found."""
    trouble: str | None = None
    """Why this may not be all."""
    shared: dict[str, str] = {}
    """Where the jobs are not in full, what all have in common: `cluster`, `user`, `account`, `partition`, `name`."""


class Answers(msgspec.Struct, frozen=True):
    """What a query is answered with. An id that is not there and one that is not theirs look the same."""

    groups: tuple[Group, ...]
    nothing_yet: bool = False
    """Nothing was ever accounted."""


class Details(msgspec.Struct, frozen=True):
    """What one incarnation of a job has beside its row."""

    profile: Profile | None = None
    progress: tuple[Progress, ...] = ()


class DetailsQuery(msgspec.Struct, frozen=True, tag="details"):
    """One incarnation of a job, for what it has beside its row."""

    cluster: str
    key: str


class PeriodQuery(msgspec.Struct, frozen=True, tag="period"):
    """A user's, a lab's or the cluster's time."""

    of: Literal["user", "lab", "cluster"]
    name: str
    """The user's, the account's or the cluster's."""
    from_s: float
    to_s: float
    """Epoch seconds: jobs that ended in [from_s, to_s)."""
    before: int = 3
    """How many spans of the same length before it are told, to compare with."""
    cluster: str | None = None


class Place(msgspec.Struct, frozen=True):
    """One of those that a period's sums are split by: a user of a lab, a lab of a cluster, a model, a day."""

    name: str
    sums: Sums


class Period(msgspec.Struct, frozen=True):
    """A time and what was in it."""

    query: PeriodQuery
    sums: Sums
    before: tuple[Sums, ...] = ()
    """The spans before, the latest first, each as long as this one is accounted for; they end where not all of one is
    accounted. Without impacts."""
    by: dict[str, tuple[Place, ...]] = {}
    """Split by `user` (labs and clusters), `lab` (users and clusters), `day`, `partition`, `model`; the largest energy
    first, days in order and without impacts. What has none of its kind is under the empty name; beyond 500 models the
    others are one, the last: `(12 others)`."""
    worst: tuple[JobResult, ...] = ()
    """The jobs with the most energy that did not complete, at most five."""
    most: tuple[JobResult, ...] = ()
    """The jobs with the most energy, at most five."""
    median: Sums | None = None
    """What the median user of the same lab had, number by number; None: there are too few to stay anonymous."""
    accounted_to_s: float | None = None
    """Up to when all jobs of this time are accounted for; None: not from its begin on."""
    median_lab: str | None = None
    """Which lab the median is of."""
    median_users: int = 0
    """Of so many users, the one of this report among them."""
    title: str | None = None
    """What the site calls the lab; None: by its account."""
    kinds: dict[DomainKind, float | None] = {}
    """Joules by kind of part, so far as known; a kind that no job had is not there."""
    lacking: dict[DomainKind, int] = {}
    """Of how many jobs a kind of part that they had is not known."""
    methods: dict[DomainKind, tuple[str, ...]] = {}
    """How each kind of part was measured, all that any job has."""
    factors: tuple[str, ...] = ()
    """The versions of the factors that the impacts were made with."""


class Answerer(Protocol):
    """Where answers come from.

    Raises (each):
        StoreError: it cannot be reached, or cannot say.
        ConfigError: it is not set up.
    """

    def jobs(self, query: Query) -> Answers:
        """Jobs, as far as the asker may see them."""

    def details(self, cluster: str, key: str) -> Details:
        """Power over time and progress of an incarnation; empty where there are none, or it is not theirs."""

    def period(self, query: PeriodQuery) -> Period:
        """A time of a user, a lab or a cluster.

        Raises:
            StoreError: it is not theirs to see, or cannot be read.
        """

    def close(self) -> None:
        """Let go of files and sockets."""
