"""A self-contained HTML page in the style of all reports: light and dark, for small and large screens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --ink: #1d2126; --paper: #fff; --line: #d8dce1; --soft: #59616b; --link: #1f5fa8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #15181c; --line: #353b43; --soft: #9aa3ad; --link: #7db4f0; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); overflow-wrap: anywhere; }
body { max-width: 980px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin-bottom: .2rem; } h2 { font-size: 1.2rem; margin-top: 2.6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; } a { color: var(--link); }
p.lead, .small, figcaption { color: var(--soft); } .small, figcaption { font-size: .85rem; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } tbody th { font-weight: 500; }
img { max-width: 100%; height: auto; } figure { margin: 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 1rem 1.5rem; }
svg { display: block; width: 100%; height: auto; max-width: 560px; } svg text { font-family: system-ui, sans-serif !important; }
@media (max-width: 640px) {
  table, tbody, tr, tbody th, td { display: block; width: 100%; } thead { position: absolute; left: -9999px; }
  tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  tbody th, td { border: 0; padding: .1rem 0; } tbody th { font-weight: 600; }
  td[data-head]:not([data-head=""])::before { content: attr(data-head) ": "; color: var(--soft); } td:empty { display: none; }
}
"""


def page(title: str, body: Iterable[str], style: str = "") -> str:
    """The page as HTML text.

    Args:
        title: plain text.
        body: pieces of HTML.
        style: additional CSS.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table of plain texts. The first cell of a row is its heading; on narrow screens every row becomes a card.

    An empty `head` omits the header row. ARIA roles are explicit because a browser does not treat cards as a table.
    """
    top = "".join(f'<th scope="col" role="columnheader">{escape(cell)}</th>' for cell in head)
    top = f'<thead role="rowgroup"><tr role="row">{top}</tr></thead>' if head else ""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    lines = "".join(_line(head, row) for row in rows)
    return f'<table role="table">{title}{top}<tbody role="rowgroup">{lines}</tbody></table>'


def figures(plots: Iterable[tuple[str, str]]) -> str:
    """(plot, caption) pairs, side by side on wide screens."""
    shown = (
        f"<figure>{plot}<figcaption>{escape(caption)}</figcaption></figure>"
        for plot, caption in plots
        if plot
    )
    return f'<div class="plots">{"".join(shown)}</div>'


def _line(head: Sequence[str], row: Sequence[str]) -> str:
    names = head or [""] * len(row)
    first = f'<th scope="row" role="rowheader">{escape(row[0])}</th>' if row else ""
    rest = "".join(
        f'<td role="cell" data-head="{escape(name)}">{escape(cell)}</td>'
        for name, cell in zip(names[1:], row[1:], strict=False)
    )
    return f'<tr role="row">{first}{rest}</tr>'
