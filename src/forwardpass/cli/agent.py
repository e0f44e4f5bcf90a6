"""``forwardpass agent``: runs a bundle on this device. Its words are those of ``forwardpass.edge.main``."""

from __future__ import annotations

from typing import Any

import typer


def agent(context: typer.Context) -> None:
    """Run a bundle on this device, with or without a network.

    `forwardpass agent --help` lists the options. Serves V1 and V2 over HTTP on localhost, takes rows
    from MQTT, folders, stdin or cameras (agent.yaml in its home), and keeps itself up to date.

    \b
    Example:
      forwardpass agent --home /var/lib/forwardpass --bundle digits-1.bundle --trust bundle.pub
    """
    from forwardpass.device import main

    raise typer.Exit(main(["agent", *context.args]))


# how the command is registered: all that follows its name is handed on as it is
SETTINGS: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}
