"""Starts a listening post as an add-on of Home Assistant: the Supervisor says where its broker is.

NOT BUILT: nobody has tried it on a Supervisor yet.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path
from urllib.parse import quote

SERVICE = "http://supervisor/services/mqtt"
"""https://developers.home-assistant.io/docs/api/supervisor/endpoints/#service"""

SETTINGS = Path("/config/post.toml")
"""The add-on's own folder of configuration."""


def main() -> None:
    """Become `clapedge listen`."""
    if not SETTINGS.exists():
        sys.exit(f"{SETTINGS} does not exist; put a post.toml and a bundle into the add-on's configuration folder")
    token = os.environ["SUPERVISOR_TOKEN"]
    request = urllib.request.Request(SERVICE, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        broker = json.load(answer)["data"]
    scheme = "mqtts" if broker["ssl"] else "mqtt"
    user, password = (quote(broker[name], safe="") for name in ("username", "password"))
    address = f"{scheme}://{user}:{password}@{broker['host']}:{broker['port']}"
    environment = {**os.environ, "CLAPEDGE_HOME_ASSISTANT": address}
    os.chdir(SETTINGS.parent)
    os.execvpe("clapedge", ["clapedge", "listen", "--config", SETTINGS.name], environment)  # noqa: S606, S607


if __name__ == "__main__":
    main()
