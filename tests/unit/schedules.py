"""A schedule with given trekkpliktige, and all that it starts at one moment."""

from __future__ import annotations

from producer.lane.schedule import Schedule

INTERVAL = 300.0


def schedule_of(*trekkpliktige, now=100.0, jitter=1.0):
    schedule = Schedule(INTERVAL, lambda: jitter)
    schedule.set_trekkpliktige(trekkpliktige, now)
    return schedule


def take_all(schedule, now):
    taken = []
    while (each := schedule.start_next(now)) is not None:
        taken.append(each)
    return taken
