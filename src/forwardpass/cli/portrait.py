"""A model's facts as text for people. Knows no files: everything shown is in the facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from forwardpass.cli.output import title

Facts = dict[str, Any]


def portrait(facts: Facts) -> str:
    """All facts of one version, some lines of text."""
    return "\n".join([title(f"{facts['name']} {facts['version']}"), *(f"  {line}" for line in _lines(facts))])


def _lines(facts: Facts) -> Iterator[str]:
    if facts.get("description"):
        yield " ".join(facts["description"].split())
    if "artifact" in facts:
        yield from _artifact(facts["artifact"])
    if "problem" in facts:
        yield from _problem(facts["problem"])
        return
    yield from {"cascade": _cascade, "remote": _remote}.get(facts.get("composed", ""), _engine)(facts)
    yield f"limits    {_pairs(facts['limits'])}"
    if facts["sample"]:
        yield f"sample    {facts['sample']['file']} ({facts['sample']['content_type']})"
    if facts["tags"]:
        yield f"tags      {_pairs(facts['tags'])}"


def _engine(facts: Facts) -> Iterator[str]:
    """What a model with an artifact takes, does and gives."""
    yield "takes"
    yield from (f"  {_input(item)}" for item in facts["inputs"])
    for stage in ("preprocess", "postprocess"):
        if facts[stage]:
            yield stage
            yield from (f"  {number}. {step}" for number, step in enumerate(facts[stage], 1))
    yield "gives"
    yield from (f"  {_tensor(item)}" for item in facts["outputs"])
    yield f"batching  {'rows of several requests run together' if facts['batched'] else 'every request by itself'}"


def _cascade(facts: Facts) -> Iterator[str]:
    escalation = facts["escalation"]
    yield f"cascade   {' → '.join(facts['members'])}"
    yield f"unsure    below {escalation['threshold']:g} of {escalation['confidence']}, and then"
    price = f", price {escalation['price']:g}" if escalation["price"] else ""
    most = escalation["max_cost_per_day"]
    day = "" if most is None else f", at most {most:g} a day"
    limits = f"for {escalation['timeout']:g} s, at most {escalation['max_share']:.0%} of rows"
    yield f"          asks the next {limits}{price}{day}"
    if escalation["audit"]:
        yield f"audit     {escalation['audit']:.1%} of the sure rows"


def _remote(facts: Facts) -> Iterator[str]:
    remote = facts["remote"]
    name = remote["model"] or facts["name"]
    version = f" version {remote['version']}" if remote["version"] else ""
    yield f"remote    {name}{version} at {', '.join(remote['urls'])}"
    most = f"{remote['concurrency']} batches at a time each"
    yield f"          {most}, {remote['timeout']:g} s for an answer, tried again {remote['retries']} times"


def _artifact(artifact: Facts) -> Iterator[str]:
    opsets = [f"{domain} opset {version}" for domain, version in artifact.get("opsets", {}).items()]
    about = [size_in_words(artifact["bytes"]), artifact.get("backend", ""), *opsets, artifact.get("producer", "")]
    yield f"artifact  {artifact['file']} ({', '.join(item for item in about if item)})"
    for way in ("inputs", "outputs"):
        if way in artifact:
            yield f"  {way:<7} {'; '.join(_tensor(item) for item in artifact[way])}"


def _problem(problem: Facts) -> Iterator[str]:
    yield f"cannot be used: {' '.join(problem['message'].split())}"
    if problem["line"] is not None:
        yield f"see {problem['file']}, line {problem['line']}"


def _input(item: Facts) -> str:
    about = [item["description"], *_range(item), *([] if item["required"] else ["may be left out"])]
    if item["categories"]:
        about.append(f"one of {', '.join(item['categories'])}")
    about += [f"at most {item[key]} {what}" for key, what in _MOST.items() if item[key] is not None]
    kind = _tensor(item) if item["type"] == "tensor" else f"{item['name']}: {item['type']}{_axes(item['shape'][1:])}"
    return "; ".join([kind, *(part for part in about if part)])


_MOST = {"max_length": "characters", "max_pixels": "pixels"}


def _range(item: Facts) -> list[str]:
    low, high = item["minimum"], item["maximum"]
    if low is None and high is None:
        return []
    if low is None or high is None:
        return [f"at most {high:g}" if low is None else f"at least {low:g}"]
    return [f"{low:g} to {high:g}"]


def _tensor(item: Facts) -> str:
    return f"{item['name']}: {item['datatype']}{_axes(item['shape']) or '[]'}"


def _axes(shape: list[int | None]) -> str:
    return f"[{', '.join('?' if axis is None else str(axis) for axis in shape)}]" if shape else ""


def _pairs(values: Facts) -> str:
    return ", ".join(
        f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items()
    )


def size_in_words(count: int) -> str:
    """``1735`` → ``1.7 KiB``."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
