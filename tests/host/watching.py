"""Whether at any time a request could have found nobody."""

from tests.host.fake_docker import FakeMachine, Moment


def unserved(trace: list[Moment], cache_seconds: dict[str, float]) -> list[str]:
    """The moments at which somebody who asks for a name reaches nobody who answers.

    He may ask Docker now, or be a proxy that keeps what it was told for so many seconds.
    """
    gaps = []
    for index, moment in enumerate(trace):
        until = trace[index + 1].time if index + 1 < len(trace) else moment.time
        for name in moment.named:
            known = [
                earlier.named[name]
                for position, earlier in enumerate(trace[: index + 1])
                if name in earlier.named and end_of(trace, position) > moment.time - cache_seconds[name]
            ]
            for containers in {*known, moment.named[name]}:
                if not containers & moment.answering:
                    gaps.append(f"{name}, from {moment.time:.2f} to {until:.2f}: {sorted(containers)}")
    return gaps


def end_of(trace: list[Moment], position: int) -> float:
    """Until when a moment of the trace lasted."""
    return trace[position + 1].time if position + 1 < len(trace) else trace[position].time


def ended_too_early(machine: FakeMachine, cache_seconds: dict[str, float]) -> list[str]:
    """Temporary and set-aside containers that were told to end while a proxy could still lead requests to them.

    Of the others the program takes the place itself, while a temporary one answers.
    """
    ends = []
    for time, container, id in machine.ended:
        name = container.removesuffix("-next").removesuffix("-previous")
        if name == container or name not in machine.watched or id in machine.inherited_addresses:
            continue
        last = [moment.time for moment in machine.trace if id in moment.named.get(name, ())]
        after = [moment.time for moment in machine.trace if last and moment.time > last[-1]]
        if last and time - (after or [time])[0] < cache_seconds[name]:
            ends.append(f"{container} at {time:.2f}, which had the name until {(after or [time])[0]:.2f}")
    return ends
