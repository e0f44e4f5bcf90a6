"""The status of an agent for people, who may be tired: what runs, then how much, then what is wrong where.

What is wrong stands on a line of its own that begins with ``!``. Knows nothing of how the agent comes to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

Json = Mapping[str, Any]
Line = tuple[str, str]  # what it is about ("" as above), and the text


def show(status: Json, now: float | None = None) -> str:
    """All of it; ``now`` in seconds since the epoch."""
    return "\n".join(f"{name:<12}{text}" for name, text in _lines(status, time.time() if now is None else now))


def _lines(status: Json, now: float) -> Iterator[Line]:
    yield from _model(status)
    yield "agent", f"{status['agent']}, process {status['pid']}, up {duration(status['uptime'])}, {status['address']}"
    minute, total = status["last_minute"], status["total"]
    yield (
        "last minute",
        f"{minute['predictions']:.1f} predictions/s, {minute['rows']:.1f} rows/s, {minute['errors']:.2f} errors/s; "
        f"p50 {_milliseconds(minute['p50'])}, p99 {_milliseconds(minute['p99'])}",
    )
    yield "total", ", ".join(_many(total[what], what[:-1]) for what in ("predictions", "rows", "errors"))
    if status["restarts"]:
        yield _wrong(f"a worker died or hung, and was started again, {_many(status['restarts'], 'time')}")
    follow = status["follow_up"]
    if follow["waiting"] or follow["dropped"] or follow["failed"]:
        yield "follow-up", _listed(follow)
    for item in status["composed"]:
        yield from _COMPOSED[item["kind"]](item)
    for kind in ("inputs", "outputs"):
        for item in status[kind]:
            yield from _way(kind[:-1], item)
    for service in status["services"]:
        yield from _outbox(service) if service["name"] == "outbox" else _updates(service, now)
    last = status["last_contact"]
    if status["services"] or last is not None:
        yield "contact", "no server was reached yet" if last is None else f"a server was reached {_ago(last, now)}"


def _model(status: Json) -> Iterator[Line]:
    named = f"{status['model']} version {status['version']} (slot {status['slot']}), " if status["model"] else ""
    yield "model", named + ("ready" if status["ready"] else "NOT READY")
    if status["reason"]:
        yield _wrong(status["reason"])
    if status["watching"] is not None:
        yield "", f"new; kept in {duration(status['watching'])}, if it stays well"


# What has parts elsewhere


def _cascade(item: Json) -> Iterator[Line]:
    yield (
        "cascade",
        f"{item['model']}: {_many(item['rows'], 'row')}, answered by {_listed(item['answered'])}; "
        f"{item['escalated']} escalated, {sum(item['provisional'].values())} provisional",
    )
    reasons = {why.replace("_", " "): count for why, count in item["provisional"].items() if count}
    if reasons:
        yield "", f"provisional, because: {_listed(reasons)}"
    if item["spent_today"]:
        yield "", f"{item['spent_today']:g} spent today"
    audit = item["audit"]
    if audit["asked"]:
        low, high = (100 * bound for bound in audit["interval"])
        share = 100 * audit["disagreement"]
        yield (
            "",
            f"of {audit['asked']} sure rows that were asked about too, {share:.1f} % differ ({low:.1f} to {high:.1f})",
        )
    for name, state in item["breakers"].items():
        yield from _breaker(name, state)
    for why in item["out_of_reach"].values():
        yield _wrong(why)


def _remote(item: Json) -> Iterator[Line]:
    for server in item["servers"]:
        yield "remote", f"{item['model']} at {server['url']}: {server['sent']} sent, {server['failed']} failed"
        if not server["healthy"]:
            yield _wrong(server["reason"] or "it has not said yet that it is ready")
        else:
            yield from _breaker("it", server["breaker"])


def _breaker(name: str, state: str) -> Iterator[Line]:
    if state == "open":
        yield _wrong(f"{name} is left alone for a while, after it failed again and again")
    elif state == "half_open":
        yield "", f"{name} failed again and again; the next rows try it"


_COMPOSED = {"cascade": _cascade, "remote": _remote}


# What comes in, goes out, and runs beside


def _way(kind: str, item: Json) -> Iterator[Line]:
    waiting = f", {item['waiting']} waiting" if item.get("waiting") else ""
    yield kind, f"{item['name']}: {_listed(item['counts'])}{waiting}"
    if item.get("last_failure"):
        yield "", f"the last that failed was {item['last_failure']}"
    if item["problem"]:
        yield _wrong(item["problem"])
    yield from _restarts(item)


def _outbox(outbox: Json) -> Iterator[Line]:
    waiting = {kind: count for kind, count in outbox.get("waiting", {}).items() if count}
    held = f"{_size(outbox['bytes'])} of {_size(outbox['most_bytes'])}; " if "bytes" in outbox else ""
    yield "outbox", f"waiting: {_listed(waiting) or 'nothing'}; {held}privacy: {outbox['privacy']}"
    if outbox.get("counts"):
        yield "", _listed({what.replace("_", " "): count for what, count in outbox["counts"].items()})
    if outbox["lost"]:
        yield _wrong(f"lost since the start: {_listed(outbox['lost'])}")
    if outbox.get("set_aside"):
        yield _wrong(f"{_many(outbox['set_aside'], 'entry', 'entries')} the server refused; set aside")
    yield from _problems(outbox)


def _updates(updates: Json, now: float) -> Iterator[Line]:
    if "state" not in updates:
        yield "updates", "not looked for (no --updates)"
    else:
        looked = "" if updates["last_check"] is None else f"; last looked {_ago(updates['last_check'], now)}"
        yield "updates", f"{updates['state']}; channel {updates['channel']} of {updates['url']}{looked}"
        if updates["state"] != "waiting" and updates["release"]:
            received = f"{_size(updates['received_bytes'])} of {_size(updates['total_bytes'])} here"
            yield "", f"version {updates['release']}, {received}"
        failed, told = updates["failed"], f"{updates['last_error']} {updates.get('bundle_error')}"
        if failed and failed["why"] not in told:
            yield _wrong(f"version {failed['version']} was not kept, {_ago(failed['at'], now)}: {failed['why']}")
    yield from _problems(updates)


def _problems(service: Json) -> Iterator[Line]:
    for key, text in service.items():
        if key.endswith("error") and text:
            what = key.removesuffix("error").replace("_", " ").replace("last ", "").strip()
            yield _wrong(f"{what}: {text}" if what else text)
    yield from _restarts(service)


def _restarts(item: Json) -> Iterator[Line]:
    if item.get("restarts"):
        yield _wrong(f"it ended unforeseen and was begun again, {_many(item['restarts'], 'time')}: {item['ended']}")


# Words


def _wrong(text: str) -> Line:
    return "", f"! {text}"


def _listed(counts: Json) -> str:
    return ", ".join(f"{number} {what}" for what, number in counts.items())


def _many(count: int, one: str, more: str = "") -> str:
    return f"{count} {one if count == 1 else more or one + 's'}"


def _ago(then: float, now: float) -> str:
    return f"{duration(now - then)} ago"


def _size(count: float) -> str:
    return f"{count / 1e3:.1f} kB" if count < 1e6 else f"{count / 1e6:.1f} MB"


def duration(seconds: float) -> str:
    """Such as `3 d 4 h`, `12 min 5 s`."""
    rest = max(0, round(seconds))
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:.1f} ms"
