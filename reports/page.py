"""Self-contained HTML pages that open offline.

Jinja2 escapes all text. The content security policy allows only the styles and scripts of this package, by their
digest, so that nothing in a label or an id can run. Plots are images, which cannot reach the page around them.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

HERE = Path(__file__).parent


def page(template: str, *, data: dict[str, Any], scripts: tuple[str, ...] = ()) -> str:
    """Return the page of a template in this folder, filled with `data`, that runs `scripts` of this folder."""
    style = (HERE / "style.css").read_text(encoding="utf-8")
    texts = [(HERE / script).read_text(encoding="utf-8") for script in scripts]
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["image"] = image_address
    policy = "; ".join(
        [
            "default-src 'none'",
            f"style-src {digest(style)}",
            "img-src data:",
            f"script-src {' '.join(map(digest, texts)) or chr(39) + 'none' + chr(39)}",
            "media-src 'self' file: blob: data:" if scripts else "media-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    filled: str = environment.get_template(template).render(policy=policy, style=style, scripts=texts, **data)
    return filled


def digest(text: str) -> str:
    """Return the expression that allows one inline text in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def image_address(svg: str) -> str:
    """Return an SVG as a data address for an ``img`` element."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
