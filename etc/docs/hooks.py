"""mkdocs hooks: add files from the top of the repository and from etc/ to the site, and adjust the links to them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# The places of files of the repository in the site. Files in docs/ keep their names; a link to any other is a warning.
PLACES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "vulnerabilities.md",
    "LICENSE": "LICENSE.txt",
    "changelog.d/README.md": "changelog.d/README.md",
    "etc/digsigd.toml": "etc/digsigd.toml",
    "etc/grafana/digsigd.json": "etc/grafana/digsigd.json",
    "etc/prometheus/alerts.yml": "etc/prometheus/alerts.yml",
    "etc/prometheus/alerts_test.yml": "etc/prometheus/alerts_test.yml",
    "etc/systemd/digsigd.service": "etc/systemd/digsigd.service",
    "etc/systemd/digsigd.socket": "etc/systemd/digsigd.socket",
    "etc/yocto/README.md": "etc/yocto/README.md",
    "etc/haproxy/haproxy.cfg": "etc/haproxy/haproxy.cfg",
    "etc/nginx/digsigd.conf": "etc/nginx/digsigd.conf",
    "etc/kubernetes/kustomization.yaml": "etc/kubernetes/kustomization.yaml",
    "etc/get-cst": "etc/get-cst.txt",
}
_LINK = re.compile(r"\]\(([^)#\s:]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the files of `PLACES`."""
    for source, place in PLACES.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Make links between files of the repository links between pages."""
    place = page.file.src_uri
    source = next((source for source, at in PLACES.items() if at == place), f"docs/{place}")

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        if not (ROOT / target).exists():
            return link[0]  # mkdocs warns of it
        at = PLACES.get(target, target.removeprefix("docs/"))
        return f"]({posixpath.relpath(at, posixpath.dirname(place) or '.')}{link[2] or ''})"

    return _LINK.sub(moved, markdown)
