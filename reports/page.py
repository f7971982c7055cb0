"""Self-contained pages: one file, opened offline, with a policy that forbids everything else.

All text is escaped by jinja2. Styles and scripts stand in the page and are allowed by their digest
alone, so that nothing a label or an id brings along can run; plots are images of their own.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

HERE = Path(__file__).parent


def page(template: str, *, data: dict[str, Any], scripts: tuple[str, ...] = ()) -> str:
    """Fill a template of this folder.

    Parameters
    ----------
    template : str
        Name of the file.
    data : dict
        What it shows; strings are escaped.
    scripts : tuple of str
        Names of the script files it runs.
    """
    style = (HERE / "style.css").read_text(encoding="utf-8")
    texts = [(HERE / script).read_text(encoding="utf-8") for script in scripts]
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["image"] = image
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
    """Return a policy's word for one inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def image(svg: str) -> str:
    """Return an SVG as the address of an image: it cannot reach the page it stands in."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
