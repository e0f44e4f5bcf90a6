"""The cascade as a model folder: ``model.yaml`` with both members and when the second is asked.

It is served beside both members, in one repository. Knows nothing of how the threshold was found.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from forwardpass.config import MODEL_FILE, EscalationConfig
from forwardpass.errors import InvalidInput
from forwardpass.optimize.cascade.results import Calibration


def require_new(folder: Path) -> None:
    """Raises ``InvalidInput`` where there is something at the folder already."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"{folder}: there is something already; choose another --output, or remove it")


def beside(folder: Path) -> Path:
    """Where the reports go: beside the cascade's folder, or beside a model that none is made of."""
    path = folder.absolute()
    return path.with_name(f"{path.name}.calibrate")


def write_cascade(found: Calibration, folder: Path) -> None:
    """Write the folder, with comments that say where its numbers come from."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, Any] = {
        "description": f"{found.small}, which asks {found.large} when unsure",
        "cascade": [found.small, found.large],
        "escalation": _without_defaults(escalation(found)),
        **({"outputs": list(found.outputs)} if found.outputs else {}),
    }
    head = (
        f"# By `forwardpass calibrate`, for {found.aim.words(found.large)}.\n"
        f"# On {found.measured.rows:,} rows that did not choose it: {_percent(found.measured.accuracy.value)} right, "
        f"{_percent(found.measured.share.value)} escalated.\n"
    )
    text = yaml.safe_dump(lines, sort_keys=False, allow_unicode=True)
    (folder / MODEL_FILE).write_text(head + text, encoding="utf-8")


def escalation(found: Calibration) -> EscalationConfig:
    """``max_share`` only where a share was asked for: then it is held in use too."""
    return EscalationConfig(
        confidence=found.confidence,
        threshold=found.threshold,
        temperature=found.temperature,
        max_share=1.0 if found.aim.escalated is None else found.aim.escalated,
        price=found.price,
    )


def _without_defaults(config: EscalationConfig) -> dict[str, Any]:
    least = asdict(EscalationConfig(config.confidence, config.threshold))
    always = ("confidence", "threshold", "temperature")
    return {name: value for name, value in asdict(config).items() if name in always or value != least[name]}


def _percent(share: float | None) -> str:
    return "\u2013" if share is None else f"{100 * share:.2f} %"
