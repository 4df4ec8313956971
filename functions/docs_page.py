"""/docs: Swagger UI over /openapi.json, in one page that loads nothing from afar."""

from __future__ import annotations

import functools
from importlib import resources

_SWAGGER_UI = "aws_lambda_powertools.event_handler.openapi.swagger_ui"


@functools.cache
def page() -> str:
    """An HTML page that shows the document. Swagger UI ships inside powertools, so that nothing is loaded from afar."""
    ui = resources.files(_SWAGGER_UI)
    style, script = (
        ui.joinpath(f"swagger-ui{name}").read_text(encoding="utf-8") for name in (".min.css", "-bundle.min.js")
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Darkroom API</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<div id="swagger-ui"></div>
<script>{script}</script>
<script>
SwaggerUIBundle({{dom_id: "#swagger-ui", deepLinking: true, url: new URL("openapi.json", location).href}})
</script>
</body>
</html>
"""
