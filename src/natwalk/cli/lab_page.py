"""The laboratory's matrix as one HTML page that needs nothing else."""

from __future__ import annotations

from html import escape
from string import Template
from typing import Final

from natwalk import __version__
from natwalk.cli.lab_pair import PairResult
from natwalk.nat import kind_spec

_PAGE: Final = Template("""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>natwalk: what gets through</title>
<style>
  :root { color-scheme: light dark; --ink: #1c2430; --soft: #667085; --paper: #fff; --line: #d8dee8;
    --direct: #cdeedd; --relay: #fdebc2; --none: #e6e9ef; --bad: #f9c9c9; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e7ecf3; --soft: #9aa6b8; --paper: #12161d; --line: #313a48;
      --direct: #1d4d38; --relay: #5a4513; --none: #2a313d; --bad: #6b2323; } }
  body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
    max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
  h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
  p { margin: .25rem 0 1rem; color: var(--soft); }
  .scroll { overflow-x: auto; }
  table { border-collapse: separate; border-spacing: 4px; }
  th { font-weight: 600; text-align: left; padding: .3rem .5rem; white-space: nowrap; }
  thead th { text-align: center; font-size: .85rem; }
  td { width: 7rem; height: 3.2rem; border-radius: .5rem; text-align: center; font-weight: 600; }
  td small { display: block; font-weight: 400; color: var(--soft); }
  .direct { background: var(--direct); } .relay { background: var(--relay); }
  .none { background: var(--none); } .bad { background: var(--bad); outline: 2px solid #c33; }
  .key span { display: inline-block; padding: .1rem .6rem; border-radius: .4rem; color: var(--ink);
    margin-right: .5rem; }
  details { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; margin: .5rem 0; }
  pre { overflow-x: auto; font-size: .8rem; }
</style>
<h1>What gets through: $good of $all pairs as expected</h1>
<p>natwalk $version. Side a (rows) and side b (columns) are real processes in network namespaces, each behind
$routers of that kind, with a server outside. Median time to the final path: $median s.</p>
<p class="key"><span class="direct">direct</span><span class="relay">relay</span>
<span class="none">no path</span> <span class="bad">not as expected</span></p>
<div class="scroll"><table>
<thead><tr><th></th>$heads</tr></thead>
<tbody>
$rows
</tbody>
</table></div>
$failures
<h2>The kinds</h2>
<ul>
$kinds
</ul>
</html>
""")
_WORDS: Final = {"direct": "direct", "relay": "relay", "none": "no path"}


def page(kinds: list[str], results: list[PairResult], *, engine: bool) -> str:
    """The page for the ``results`` of every pair of ``kinds``."""
    found = {(result.nat_a, result.nat_b): result for result in results}
    rows = "\n".join(
        f'<tr><th scope="row">{escape(a)}</th>{"".join(_cell(found[a, b]) for b in kinds)}</tr>'
        for a in kinds
    )
    times = sorted(result.seconds for result in results)
    return _PAGE.substitute(
        good=sum(result.ok for result in results),
        all=len(results),
        version=escape(__version__),
        routers="the engine in user space" if engine else "nftables rules of the kernel",
        median=f"{times[len(times) // 2]:.1f}",
        heads="".join(f'<th scope="col">{escape(kind)}</th>' for kind in kinds),
        rows=rows,
        failures="\n".join(_failure(result) for result in results if not result.ok),
        kinds="\n".join(f"<li>{escape(str(kind_spec(kind)))}</li>" for kind in kinds),
    )


def _cell(result: PairResult) -> str:
    style = result.found if result.ok else "bad"
    word = _WORDS.get(result.found, result.found)
    return (
        f'<td class="{escape(style)}" title="{escape(result.reason)}">{escape(word)}'
        f"<small>{result.seconds:.1f} s</small></td>"
    )


def _failure(result: PairResult) -> str:
    said = escape("\n".join(result.trace))
    return (
        f"<details open><summary>{escape(result.nat_a)} with {escape(result.nat_b)}: expected "
        f"{escape(result.expected.value)}, found {escape(result.found)} in {result.seconds:.1f} s"
        f"</summary><pre>{said}</pre></details>"
    )
