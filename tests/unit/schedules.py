"""A schedule of those that a test names, and all that it gives out at one moment: for tests of schedules."""

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
