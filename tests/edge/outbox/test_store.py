from __future__ import annotations

import dataclasses
import logging
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.edge.outbox.setting import ALL, KINDS, START, Time, entry, held, waiting

from forwardpass.edge.outbox.entry import Entry, Kind, Needs
from forwardpass.edge.outbox.schema import OVERHEAD
from forwardpass.edge.outbox.store import Store
from forwardpass.edge.outbox.tally import Minute

ONE = 100 + OVERHEAD  # bytes of an entry as `entry` makes it


class Stores:
    """Opens the same file again and again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.time = Time()
        self._open: list[Store] = []

    def open(self, most_bytes: int = 10**9, allowed: tuple[Needs, ...] = ALL) -> Store:
        self.close()
        self._open.append(Store(self.path, most_bytes, self.time.clock(), allowed))
        return self._open[-1]

    def close(self) -> None:
        for store in self._open:
            store.close()


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    found = Stores(tmp_path / "outbox.sqlite")
    yield found
    found.close()


def add(store: Store, *entries: Entry) -> None:
    store.append(entries, [], {})


def test_entries_come_out_in_the_order_they_were_put_whatever_the_clock_said(stores: Stores) -> None:
    store = stores.open()
    years = 365 * 86_400.0
    made = []
    for jump in (0.0, -30 * years, 50 * years, -50 * years, 1.0):
        stores.time.wall += jump
        made.append(entry(time=stores.time))
        add(store, made[-1])
    again = stores.open()
    found = again.next(KINDS, 100, 10**9)
    assert found == made  # with the times as the device saw them, from both its clocks
    assert [item.at for item in found] != sorted(item.at for item in found)


def test_a_batch_is_bounded_in_entries_and_in_bytes(stores: Stores) -> None:
    store = stores.open()
    made = [entry(size=size) for size in (300, 300, 300, 5000, 300)]
    add(store, *made)
    assert store.next(KINDS, 2, 10**9) == made[:2]
    assert store.next(KINDS, 100, 700) == made[:2]
    assert store.next(KINDS, 2, 10**9, {made[0].id, made[2].id}) == [made[1], made[3]]
    store.remove([item.id for item in made[:3]], "uploaded")
    assert store.next(KINDS, 100, 700) == [made[3]]  # too large for any batch, so alone


def test_bytes_are_counted_exactly_through_everything_and_after_a_restart(stores: Stores) -> None:
    draw = random.Random(7)
    store = stores.open(40 * ONE)
    for _ in range(120):
        kind = draw.choice([Kind.RECORD, Kind.SAMPLE, Kind.ESCALATION])
        add(store, *(entry(kind, draw.randint(20, 900), draw.random()) for _ in range(draw.randint(1, 4))))
        present = waiting(store)
        action = draw.choice(["remove", "aside", "replace", "restart", "nothing"])
        if action == "restart":
            store = stores.open(40 * ONE)
        elif present and action == "remove":
            store.remove(draw.sample(present, min(3, len(present))), "uploaded")
        elif present and action == "aside":
            store.set_aside(draw.choice(present), "why not")
        elif present and action == "replace":
            store.replace(draw.choice(present), b"x" * draw.randint(10, 900))
        assert store.counts()["bytes"] == held(stores.path) <= 40 * ONE


def test_what_is_worth_least_goes_first(stores: Stores) -> None:
    store = stores.open(9 * ONE)
    time = stores.time
    late = entry(Kind.ESCALATION, most_age=60.0, time=time, id="late")
    timely = entry(Kind.ESCALATION, most_age=1e6, time=time, id="timely")
    add(
        store,
        entry(Kind.USAGE, id="usage"),
        entry(Kind.RECORD, id="record-1"),
        entry(Kind.SAMPLE, useful=0.9, id="unsure"),
        late,
        timely,
        entry(Kind.SAMPLE, useful=0.1, id="sure"),
        entry(Kind.RECORD, id="record-2"),
        entry(Kind.SAMPLE, useful=0.1, id="sure-too"),
        entry(Kind.RECORD, id="refused"),
    )
    store.set_aside("refused", "no")
    time.pass_by(100.0)
    gone = []
    before = {*waiting(store), "refused"}
    for number in range(8):
        add(store, entry(Kind.USAGE, id=f"usage-{number}"))
        after = {*waiting(store), *(name for name, _ in store.reasons())}
        gone += sorted(before - after)
        before = after
    assert gone == ["refused", "sure", "sure-too", "unsure", "late", "record-1", "record-2", "timely"]
    assert store.counts()["counts"] == {
        "dropped_escalation": 2, "dropped_record": 3, "dropped_sample": 3
    }  # fmt: skip


def test_it_drops_what_a_plain_list_would_drop(stores: Stores) -> None:
    """Against the stated policy, written down once more without SQL."""
    draw = random.Random(11)
    bound = 3000
    store = stores.open(bound)
    ranks = {Kind.SAMPLE: 0, Kind.RECORD: 2, Kind.ESCALATION: 3}
    kept: list[tuple[float, Entry]] = []  # with when it was put
    for _ in range(400):
        stores.time.pass_by(1.0)
        kind = draw.choices(list(Kind), [1, 8, 8, 8])[0]
        useful, age = draw.choice([0.0, 0.25, 0.5]), draw.choice([None, 5.0, 50.0])
        made = entry(kind, draw.randint(20, 300), useful, time=stores.time)
        made = dataclasses.replace(made, most_age=age if kind is Kind.ESCALATION else None)
        kept.append((stores.time.up, made))
        add(store, made)

        def worth(item: tuple[float, Entry]) -> tuple[float, float, float]:
            put, found = item
            if found.most_age is not None and stores.time.up - put >= found.most_age:
                return (1, 0.0, put)
            return (ranks[found.kind], found.useful if found.kind is Kind.SAMPLE else 0.0, put)

        while sum(len(found.body) + OVERHEAD for _, found in kept) > bound:
            droppable = [item for item in kept if item[1].kind is not Kind.USAGE]
            if not droppable:
                break
            kept.remove(min(droppable, key=worth))
        assert waiting(store) == [found.id for _, found in kept]
    assert {found.kind for _, found in kept} >= {Kind.USAGE}


def test_a_new_entry_that_is_worth_least_is_the_one_that_goes(stores: Stores) -> None:
    store = stores.open(3 * ONE)
    add(store, *(entry(id=f"record-{number}") for number in range(3)))
    add(store, entry(Kind.SAMPLE, useful=1.0, id="sample"))
    assert waiting(store) == ["record-0", "record-1", "record-2"]


def test_usage_alone_over_the_bound_is_kept_and_said(stores: Stores, caplog: pytest.LogCaptureFixture) -> None:
    store = stores.open(3 * ONE)
    with caplog.at_level(logging.WARNING):
        for number in range(10):
            add(store, entry(Kind.USAGE, id=f"usage-{number}"), entry(id=f"record-{number}"))
    assert waiting(store) == [f"usage-{number}" for number in range(10)]
    assert store.counts()["over"]
    assert store.counts()["waiting"] == {"usage": 10, "record": 0, "sample": 0, "escalation": 0}
    assert len([record for record in caplog.records if "usage alone is over" in record.message]) == 1


def test_the_file_stays_near_the_bound(stores: Stores) -> None:
    bound = 1024 * 1024
    store = stores.open(bound)
    for _ in range(40):
        add(store, *(entry(size=1000) for _ in range(100)))
    store.remove(waiting(store)[:1], "uploaded")
    sizes = sum(file.stat().st_size for file in stores.path.parent.iterdir())
    assert sizes < 3 * bound  # 4 MB were put; the log of SQLite takes up to one more


def test_putting_the_same_id_again_changes_nothing(stores: Stores) -> None:
    store = stores.open()
    add(store, entry(size=100, id="one"), entry(size=200, id="two"))
    add(store, entry(size=300, id="one"))
    assert waiting(store) == ["one", "two"]
    assert store.counts()["bytes"] == held(stores.path) == 300 + 2 * OVERHEAD


@pytest.mark.parametrize(
    ("off", "now_up", "expired"),
    [
        (0.0, 5.0, False),
        (7200.0, 5.0, True),  # it was off for longer than that, and its clock says so
        (-50 * 365 * 86_400.0, 5.0, False),  # the clock was lost: what this start has lasted is all that is known
        (-50 * 365 * 86_400.0, 4000.0, True),
    ],
)
def test_an_escalation_expires_by_what_can_be_believed_after_a_restart(
    stores: Stores, off: float, now_up: float, expired: bool
) -> None:
    add(stores.open(), entry(Kind.ESCALATION, most_age=3600.0, id="one", time=stores.time))
    stores.time.start_again(off=off)
    stores.time.up = now_up
    store = stores.open()
    store.remove_expired()
    assert waiting(store) == ([] if expired else ["one"])


def test_a_clock_that_jumps_while_the_device_runs_expires_nothing(stores: Stores) -> None:
    stores.time.wall = 0.0  # 1970, until the network says otherwise
    store = stores.open()
    add(store, entry(Kind.ESCALATION, most_age=3600.0, id="one", time=stores.time))
    stores.time.wall = START
    store.remove_expired()
    assert waiting(store) == ["one"]
    stores.time.up += 3600.0
    store.remove_expired()
    assert waiting(store) == []
    assert store.counts()["counts"] == {"expired_escalation": 1}


def minute(number: int, requests: int = 1) -> Minute:
    return Minute("motor", "3", number, 900.0, requests, 0, requests * 2, requests * 0.5)


def test_minutes_of_usage_become_entries_when_they_are_over_each_once(stores: Stores) -> None:
    store = stores.open()
    now = int(START // 60)
    store.append([], [minute(now, 3)], {})
    store = stores.open()
    store.append([], [minute(now, 4)], {})
    assert waiting(store) == []
    stores.time.pass_by(60.0)
    (found,) = store.next(KINDS, 10, 10**6)
    assert found.kind is Kind.USAGE
    assert found.at == now * 60.0
    assert msgspec.json.decode(found.body) == {
        "model": "motor", "version": "3", "requests": 7, "failed": 0, "rows": 14, "seconds": 3.5
    }  # fmt: skip
    assert [item.id for item in stores.open().next(KINDS, 10, 10**6)] == [found.id]


def test_what_may_not_leave_any_more_is_deleted(stores: Stores) -> None:
    made = [entry(needs=needs, id=needs.name) for needs in Needs]
    add(stores.open(), *made)
    stricter = stores.open(allowed=(Needs.USAGE, Needs.OUTPUTS))
    assert waiting(stricter) == ["USAGE", "OUTPUTS"]
    assert stricter.counts()["counts"] == {"withheld": 2}
    assert waiting(stores.open()) == ["USAGE", "OUTPUTS"]


def test_usage_that_may_not_leave_any_more_is_deleted_before_its_minute_is_over(stores: Stores) -> None:
    stores.open().append([], [minute(int(START // 60))], {})
    stores.time.pass_by(60.0)
    assert waiting(stores.open(allowed=(Needs.OUTPUTS,))) == []
    assert waiting(stores.open()) == []


def test_a_file_that_is_no_outbox_is_set_aside(stores: Stores, caplog: pytest.LogCaptureFixture) -> None:
    stores.path.write_bytes(b"not a database at all, but some text" * 200)
    store = stores.open()
    with caplog.at_level(logging.ERROR):
        add(store, entry(id="one"))
    assert waiting(store) == ["one"]
    assert store.counts()["counts"] == {"damaged_files": 1}
    assert stores.path.with_name("outbox.sqlite.damaged").read_bytes().startswith(b"not a database")
    assert "is damaged" in caplog.text


def test_a_file_that_is_damaged_while_it_is_used_is_set_aside(stores: Stores) -> None:
    store = stores.open()
    add(store, *(entry(size=4000) for _ in range(50)))
    store.close()
    raw = bytearray(stores.path.read_bytes())
    raw[4096 * 2 :] = b"\xa5" * (len(raw) - 4096 * 2)
    stores.path.write_bytes(raw)
    assert waiting(store) == []
    add(store, entry(id="one"))
    assert waiting(store) == ["one"]
    assert stores.path.with_name("outbox.sqlite.damaged").exists()


def test_a_file_damaged_behind_its_back_is_set_aside_at_the_next_use(stores: Stores) -> None:
    store = stores.open()
    add(store, *(entry(size=4000) for _ in range(50)))
    store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # type: ignore[union-attr]
    store._db.execute("PRAGMA cache_size=1")  # type: ignore[union-attr]
    with stores.path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 4096 * 60)
    with pytest.raises(sqlite3.DatabaseError):
        waiting(store)
    add(store, entry(id="one"))
    assert waiting(store) == ["one"]


def test_a_full_disk_changes_nothing_and_recovers_by_itself(stores: Stores) -> None:
    store = stores.open()
    add(store, entry(id="one"))
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[union-attr]
    store._db.execute(f"PRAGMA max_page_count={pages}")  # type: ignore[union-attr]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        add(store, entry(id="two"), entry(size=100_000, id="large"))
    assert waiting(store) == ["one"]
    store._db.execute("PRAGMA max_page_count=1000000")  # type: ignore[union-attr]
    add(store, entry(id="three"))
    assert waiting(store) == ["one", "three"]
    assert store.counts()["bytes"] == held(stores.path)
