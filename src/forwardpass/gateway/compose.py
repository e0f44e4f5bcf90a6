"""Puts models together that have no artifact: what the control plane calls for ``cascade`` and ``remote``.

In goes what ``model.yaml`` says and a way to the other models, out comes what answers for it. Knows what the kinds are,
not how they work.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from forwardpass.config import EscalationConfig, ModelConfig, RemoteConfig
from forwardpass.errors import InvalidModel
from forwardpass.gateway.cascade import Cascade
from forwardpass.gateway.remote import Remote
from forwardpass.server.composed import Composed, Composer, Composition, Defer
from forwardpass.server.served import clock as server_clock

MEANINGLESS = ("artifact", "preprocess", "postprocess", "replicas", "threads")  # without an artifact


def create_composer(
    urls: Sequence[str] = (),
    defer: Defer | None = None,
    *,
    token_file: Path | None = None,
    withheld: str = "",
    clock: Callable[[], float] = server_clock,
    wall_clock: Callable[[], float] = time.time,
    chance: random.Random | None = None,
) -> Composer:
    """What ``Control`` takes as its composer.

    ``urls`` stand in place of those of every remote model, ``token_file`` in place of the tokens that these name.
    ``defer`` takes the rows that a cascade with ``deferred`` should have asked about, and must neither wait nor raise.
    ``withheld`` says why rows may not leave this machine; then no server is asked about any.
    """
    chances = chance or random.Random()  # noqa: S311 - draws servers and samples, no secrets

    def compose(composition: Composition) -> Composed:
        config = composition.files.config
        _require_plain(config)
        if config.remote is not None:
            remote = _elsewhere(config.remote, urls, token_file)
            return Remote(composition, remote, clock, chances, withheld)
        escalation = _require_cascade(composition.served.name, config)
        return Cascade(composition, escalation, clock, wall_clock, chances, defer)

    return compose


def check_composed(name: str, config: ModelConfig) -> None:
    """Raises ``InvalidModel`` for what can be seen to be wrong with a composed model without starting it."""
    _require_plain(config)
    if config.remote is not None:
        Remote.check(config.remote)
    else:
        _require_cascade(name, config)


def _elsewhere(remote: RemoteConfig, urls: Sequence[str], token_file: Path | None) -> RemoteConfig:
    if token_file is not None:
        remote = replace(remote, token_env=None, token_file=str(token_file))
    return replace(remote, urls=tuple(urls)) if urls else remote


def _require_plain(config: ModelConfig) -> None:
    if config.cascade and config.remote is not None:
        raise InvalidModel("it is either a `cascade` or `remote`, not both; make the remote model a member of its own")
    for key in (*MEANINGLESS, *(("inputs",) if config.cascade else ("escalation", "outputs"))):
        if getattr(config, key) != getattr(ModelConfig(), key):
            kind = "a cascade" if config.cascade else "a remote model"
            raise InvalidModel(f"`{key}` means nothing for {kind}; take it out")


def _require_cascade(name: str, config: ModelConfig) -> EscalationConfig:
    members, escalation = config.cascade, config.escalation
    if len(members) < 2:
        raise InvalidModel(f"cascade: names {len(members)} model; it needs two at least, the cheapest first")
    if name in members or len(set(members)) < len(members):
        raise InvalidModel("cascade: a model is named twice, or is the cascade itself")
    if escalation is None:
        raise InvalidModel("cascade: `escalation` is missing; `forwardpass calibrate` works it out and writes it")
    for key in ("threshold", "max_share", "audit"):
        if not 0 <= getattr(escalation, key) <= 1:
            raise InvalidModel(f"escalation: `{key}` must be between 0 and 1, got {getattr(escalation, key)}")
    for key in ("temperature", "timeout"):
        if not getattr(escalation, key) > 0:
            raise InvalidModel(f"escalation: `{key}` must be above 0, got {getattr(escalation, key)}")
    if escalation.price < 0 or (escalation.max_cost_per_day or 0.0) < 0:
        raise InvalidModel("escalation: `price` and `max_cost_per_day` must be 0 or more")
    return escalation
