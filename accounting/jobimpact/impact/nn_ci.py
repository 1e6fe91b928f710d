"""The four estimates of NN-CI for training and querying a network: energy and greenhouse gases. Pure.

    nn-et   PUE x (n_acc x P_acc + n_srv x P_srv) x t / 1000          training, kWh
    nn-eq   PUE x n_srv x P_srv x t / 1000                            querying, kWh
    nn-emb  sum over the hardware of CI / tau x E_manufacture x n     gCO2e
    nn-c    sum over the data centres of E x CI / tau                 gCO2e

`tau` is the part of the electricity that arrives. Source: github.com/teto1992/NN-CI, commit 00be112, and its GPT-3
manifest. nn-emb puts the whole hardware on the model, however short its use; here it stands beside what of it falls on
the hours of use.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from jobimpact.core.errors import ConfigError

__all__ = ["Estimates", "NnCi", "Phase", "PhaseEstimate", "estimate", "nn_c", "nn_emb", "nn_eq", "nn_et"]

Number = Annotated[float, Meta(ge=0, le=1e12)]
Tau = Annotated[float, Meta(ge=1e-6, le=1)]
Hours = Annotated[float, Meta(ge=1, le=1e8)]
Pue = Annotated[float, Meta(ge=1, le=5)]


class _Keys(Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Made(_Keys, frozen=True, kw_only=True):
    """Hardware, by the electricity that making one piece took."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    count: Number
    manufacturing_kwh: Number
    gco2e_per_kwh: Number
    tau: Tau | None = None
    """Of the factory's electricity; default: the data centre's, as NN-CI has it."""


class Query(_Keys, frozen=True, kw_only=True):
    """A phase: its energy, or the machines whose power and hours give it, and what its electricity emits."""

    energy_kwh: Number | None = None
    servers: Number | None = None
    server_power_w: Number | None = None
    duration_hours: Number | None = None
    pue: Pue | None = None
    gco2e_per_kwh: Number
    tau: Tau | None = None
    hardware: list[Made] = field(default_factory=list)


class Training(Query, frozen=True, kw_only=True):
    """As well with accelerators, whose power is their own."""

    accelerators: Number | None = None
    accelerator_power_w: Number | None = None


Phase = Query | Training


class NnCi(_Keys, frozen=True):
    """Training, querying, or both."""

    training: Training | None = None
    query: Query | None = None
    lifetime_hours: Hours | None = None
    """Of the hardware: for what of it falls on the hours of use."""


class PhaseEstimate(Struct, frozen=True):
    """One phase. Grams of CO2e; `amortised_gco2e` is None where lifetime or hours are not known."""

    energy_kwh: float
    operation_gco2e: float
    hardware_gco2e: dict[str, float]
    embodied_gco2e: float
    amortised_gco2e: float | None


class Estimates(Struct, frozen=True):
    """Both phases together. `reason` says why there is no amortised figure."""

    phases: dict[str, PhaseEstimate]
    energy_kwh: float
    operation_gco2e: float
    embodied_gco2e: float
    total_gco2e: float
    embodied_share: float | None
    """Of the total; None: both are 0."""
    amortised_gco2e: float | None
    amortised_total_gco2e: float | None
    amortised_share: float | None
    lifetime_hours: float | None
    reason: str | None
    notes: tuple[str, ...]


def nn_et(
    accelerators: float, accelerator_power_w: float, servers: float, server_power_w: float, hours: float, pue: float
) -> float:
    """The electricity of a training, kWh."""
    return pue * (accelerators * accelerator_power_w + servers * server_power_w) * hours / 1000


def nn_eq(servers: float, server_power_w: float, hours: float, pue: float) -> float:
    """The electricity of answering queries, kWh."""
    return servers * hours * pue * server_power_w / 1000


def nn_emb(hardware: Iterable[tuple[float, float, float, float]]) -> float:
    """What making the hardware emitted, all of it.

    Args:
        hardware: for each kind its pieces, kWh to make one, emission per kWh, and tau of the factory.

    Returns:
        The unit of the emission: gCO2e, where it is per kWh in g.
    """
    return sum(ci / tau * kwh * count for count, kwh, ci, tau in hardware)


def nn_c(centres: Iterable[tuple[float, float, float]]) -> float:
    """What the electricity emitted.

    Args:
        centres: for each data centre its kWh, emission per kWh, and tau.

    Returns:
        The unit of the emission: gCO2e, where it is per kWh in g.
    """
    return sum(kwh * ci / tau for kwh, ci, tau in centres)


def estimate(asked: NnCi) -> Estimates:
    """All four, by phase and together.

    Raises:
        ConfigError: names the key that is missing or one too many.
    """
    given: dict[str, Phase | None] = {"training": asked.training, "query": asked.query}
    there = {name: phase for name, phase in given.items() if phase is not None}
    if not there:
        raise ConfigError("training: missing: give training, query, or both")
    phases = {name: _phase(name, phase, asked.lifetime_hours) for name, phase in there.items()}
    energy, operation, embodied = (
        sum(getattr(one, name) for one in phases.values())
        for name in ("energy_kwh", "operation_gco2e", "embodied_gco2e")
    )
    parts = [one.amortised_gco2e for one in phases.values()]
    known = [part for part in parts if part is not None]
    amortised = sum(known) if len(known) == len(parts) else None
    return Estimates(
        phases=phases,
        energy_kwh=energy,
        operation_gco2e=operation,
        embodied_gco2e=embodied,
        total_gco2e=embodied + operation,
        embodied_share=_share(embodied, operation),
        amortised_gco2e=amortised,
        amortised_total_gco2e=None if amortised is None else amortised + operation,
        amortised_share=None if amortised is None else _share(amortised, operation),
        lifetime_hours=asked.lifetime_hours,
        reason=None if amortised is not None else _why(asked.lifetime_hours),
        notes=tuple(note for name, phase in there.items() for note in _notes(name, phase, asked.lifetime_hours)),
    )


def _phase(name: str, phase: Phase, lifetime_hours: float | None) -> PhaseEstimate:
    energy = _energy_kwh(name, phase)
    tau = 1.0 if phase.tau is None else phase.tau
    made: dict[str, float] = {}
    for at, one in enumerate(phase.hardware):
        if one.name in made:
            raise ConfigError(f"{name}.hardware[{at}].name: {one.name!r} is there already")
        factory = tau if one.tau is None else one.tau
        made[one.name] = nn_emb([(one.count, one.manufacturing_kwh, one.gco2e_per_kwh, factory)])
    embodied = sum(made.values())
    amortised = None
    if not phase.hardware:
        amortised = 0.0
    elif lifetime_hours is not None and phase.duration_hours is not None:
        amortised = embodied * phase.duration_hours / lifetime_hours
    return PhaseEstimate(energy, nn_c([(energy, phase.gco2e_per_kwh, tau)]), made, embodied, amortised)


def _energy_kwh(name: str, phase: Phase) -> float:
    """As given, or by the machines; what is 0 is given."""
    kinds = [("servers", "server_power_w")]
    if isinstance(phase, Training):
        kinds.append(("accelerators", "accelerator_power_w"))
    values: dict[str, Any] = {key: getattr(phase, key) for pair in kinds for key in pair}
    there = [key for key, value in values.items() if value is not None]
    if phase.energy_kwh is not None:
        more = [*there, *(["pue"] if phase.pue is not None else [])]
        if more:
            raise ConfigError(f"{name}.{more[0]}: either energy_kwh, or machines with their power and PUE")
        return phase.energy_kwh
    for count, power in kinds:
        if (values[count] is None) != (values[power] is None):
            missing = count if values[count] is None else power
            raise ConfigError(f"{name}.{missing}: missing: {count} and {power} go together")
    if not there:
        raise ConfigError(f"{name}: no energy: give energy_kwh, or {' or '.join(f'{c} and {p}' for c, p in kinds)}")
    if phase.duration_hours is None:
        raise ConfigError(f"{name}.duration_hours: missing: power needs hours to be energy")
    pue = 1.0 if phase.pue is None else phase.pue
    servers, server_w = values["servers"] or 0.0, values["server_power_w"] or 0.0
    if not isinstance(phase, Training):
        return nn_eq(servers, server_w, phase.duration_hours, pue)
    return nn_et(
        phase.accelerators or 0.0, phase.accelerator_power_w or 0.0, servers, server_w, phase.duration_hours, pue
    )


def _share(embodied: float, operation: float) -> float | None:
    return embodied / (embodied + operation) if embodied + operation else None


def _why(lifetime_hours: float | None) -> str:
    return "no lifetime_hours is given" if lifetime_hours is None else "a phase has no duration_hours"


def _notes(name: str, phase: Phase, lifetime_hours: float | None) -> Iterable[str]:
    """What was assumed, and what looks like another unit."""
    if phase.pue is None and phase.energy_kwh is None:
        yield f"{name}: PUE 1 is assumed: none is given"
    if phase.tau is None:
        yield f"{name}: tau 1 is assumed (no electricity lost on its way): none is given"
    for what, value in (
        ("", phase.gco2e_per_kwh),
        *((f" of {one.name}", one.gco2e_per_kwh) for one in phase.hardware),
    ):
        if 0 < value < 1:
            yield f"{name}: gco2e_per_kwh{what} is {value:g}: grams are meant; are these kilograms?"
    if lifetime_hours is not None and phase.duration_hours is not None and phase.duration_hours > lifetime_hours:
        yield f"{name}: it lasts longer than its hardware: more than all of it is counted"
