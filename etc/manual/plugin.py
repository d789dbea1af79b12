"""The options of the twistd plugin, as Twisted's command line parser has them."""

from __future__ import annotations

from digsigd.tap import Options
from etc.manual.rest import bold, italic, item, paragraph

# What an option expects, as etc/digsigd.toml and docs/ name it.
VALUES = {"config": "FILE", "listen": "ENDPOINT", "log-format": "text|json", "as": "USER", "machine": "NAME"}


def names() -> list[str]:
    """Return the long names of the options."""
    return [name.rstrip("=") for name in Options().longOpt]


def options() -> str:
    """Return the options with their help."""
    parsed = Options()
    short = {long: letter for letter, long in parsed.synonyms.items() if len(letter) == 1}
    items = []
    for name in names():
        words = [bold(f"-{short[name]}")] if name in short else []
        value = f"\\ =\\ {italic(VALUES.get(name, 'VALUE'))}" if f"{name}=" in parsed.longOpt else ""
        words.append(bold(f"--{name}") + value)
        items.append(item(", ".join(words), paragraph(parsed.docs[name])))
    return "\n".join(items)
