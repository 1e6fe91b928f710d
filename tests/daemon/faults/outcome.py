"""A story's recording through the real replay, its books beside the truth, and beside plain differences."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.daemon.faults.naive import naive_joules
from tests.daemon.faults.story import Story
from tests.daemon.faults.tape import Json, Tape

from jobimpact.core.config import Config, Node, Sources
from jobimpact_daemon.replay import replay

__all__ = ["Outcome", "outcome", "write"]


@dataclass
class Outcome:
    """What came of one story, in joules by holder."""

    story: Story
    tape: Tape
    told: Json
    truth: dict[str, float]
    """But for what nobody can know."""
    whole: dict[str, float]
    """All of it: what a tool that knows of nothing unknown must be set against."""
    ours: dict[str, float]
    naive: dict[str, float]
    by_domain: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    """(domain, holder) → truth, ours."""
    took_s: float = 0.0

    def within(self, holder: str) -> float:
        """How far from the truth a holder may be, in joules."""
        story = self.story
        rule = story.within if holder == story.watch or story.others is None else story.others
        return rule.of(self.truth[holder])

    def comparable(self) -> bool:
        """Whether a plain tool's joules are those of the same domains."""
        return not self.story.domains

    def unknown_s(self) -> float:
        """Told as unknown, the longest of the domains."""
        return max((one["unknown_s"] for one in self.told["domains"].values()), default=0.0)


def write(path: Path, lines: list[Json]) -> Path:
    """A recording as a file."""
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path


def config(story: Story) -> Config:
    """What the site has set."""
    return Config(node=Node(name="n1", idle_w=dict(story.idle_w), sources=Sources()))


def outcome(story: Story) -> Outcome:
    """Play it."""
    began = time.process_time()
    tape = story.make()
    lines = tape.lines()
    with tempfile.TemporaryDirectory() as folder:
        told = replay(config(story), write(Path(folder, "recording"), lines))
    domains = counted(story, tape)
    found = Outcome(story, tape, told, {}, {}, {}, naive_joules(lines))
    holders = {"idle", "system", *(job.run for job in tape.world.jobs)}
    for domain in domains:
        hidden = [*story.hidden.get(domain, ()), *story.off]
        books = told["domains"].get(domain, {"holders": {}})["holders"]
        for holder in sorted(holders | books.keys()):
            true_j = tape.world.truth(holder, domain, hidden)
            ours_j = books.get(holder, 0) / 1e6
            found.by_domain[domain, holder] = true_j, ours_j
            found.whole[holder] = found.whole.get(holder, 0.0) + tape.world.truth(holder, domain)
            found.truth[holder] = found.truth.get(holder, 0.0) + true_j
            found.ours[holder] = found.ours.get(holder, 0.0) + ours_j
    found.took_s = time.process_time() - began
    return found


def counted(story: Story, tape: Tape) -> list[str]:
    """The domains whose energy is compared: the rest only where the node has a meter."""
    if story.domains:
        return list(story.domains)
    rest = ["rest"] if any(meter.domain == "node" for meter in tape.meters) else []
    return [*tape.world.node.domains(), *rest]
