"""`python -m local.versions MODEL [--serve VERSION]`: what has been published, what is served, and rolling back."""

from __future__ import annotations

from typing import Annotated

import typer

from darkroom.bundles import catalog
from darkroom.errors import DarkroomError
from darkroom.settings import Settings, SettingsError
from darkroom.storage import open_store
from local import data
from local.errors import CannotStart


def main(
    model: Annotated[str, typer.Argument(help="model name")] = "crayon",
    serve: Annotated[str | None, typer.Option(help="serve this version from the next start on")] = None,
) -> None:
    """List a model's versions, the served one marked; with --serve, move the mark."""
    try:
        store = open_store(data.prepare(Settings.read()).store_url)
        if serve is not None:
            catalog.set_current(store, model, serve)
        served = catalog.current_version(store, model)
        for version in catalog.versions(store, model):
            manifest = catalog.load_manifest(store, model, version)
            targets = ", ".join(target.name for target in manifest.targets)
            print(f"{'*' if version == served else ' '} {version}  {targets}")
    except (CannotStart, SettingsError) as refused:
        raise SystemExit(f"darkroom: {refused}") from None
    except DarkroomError as refused:
        raise SystemExit(f"darkroom: {refused.detail}") from None
    if serve is not None:
        print("Restart the deployment to serve it.")


if __name__ == "__main__":
    typer.run(main)
