"""The ledger: every claim with its prediction, measurement, verdict and control, for people, programs and papers."""

import os
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from theory_sim.claims import Claim, Finding

COLOURS = {
    "agrees": "green",
    "disagrees": "red",
    "inconclusive": "yellow",
    "rejected": "green",
    "passed": "red",
}


def console(*, stderr: bool = False) -> Console:
    """Return a terminal that is wide enough for the ledger when nobody tells how wide it is."""
    told = Console(stderr=stderr)
    return (
        told
        if told.is_terminal or "COLUMNS" in os.environ
        else Console(stderr=stderr, width=150, soft_wrap=True)
    )


def ledger_table(findings: Sequence[Finding], width: int = 150) -> Table:
    """Return the ledger as a table for the terminal: one line a claim, its statement cut to the width that is left."""
    rows = [
        (
            finding.ids[0],
            finding.claim,
            finding.predicted or "-",
            measured_words(finding),
            finding.verdict,
            control_words(finding),
        )
        for finding in findings
    ]
    headings = ("claim", "statement", "predicted", "measured [95% interval]", "verdict", "control (measured)")
    widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
    left = width - sum(widths[:1] + widths[2:]) - len(headings)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for heading, needed in zip(headings, widths, strict=True):
        cut = min(needed, max(left, 24)) if heading == "statement" else needed
        table.add_column(heading, no_wrap=True, overflow="ellipsis", width=cut)
    for row in rows:
        cells = [escape(cell) for cell in row]
        cells[4] = f"[{COLOURS[row[4]]}]{cells[4]}[/]"
        cells[5] = f"[{COLOURS[row[5].partition(' ')[0]]}]{cells[5]}[/]"
        table.add_row(*cells)
    return table


def ledger_notes(findings: Sequence[Finding]) -> list[str]:
    """Return one line for each doubt, for what the table's cells cannot hold."""
    return [f"{finding.ids[0]}: {doubt}" for finding in findings for doubt in finding.doubts]


def ledger_summary(findings: Sequence[Finding]) -> str:
    """Return how many claims agree, disagree and stay open, and how many controls were rejected."""
    counts = {
        word: sum(f.verdict == word for f in findings) for word in ("agrees", "disagrees", "inconclusive")
    }
    rejected = sum(finding.control == "rejected" for finding in findings)
    verdicts = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    return f"{len(findings)} claims: {verdicts or 'none'}; {rejected} of {len(findings)} controls rejected"


def ledger_markdown(findings: Sequence[Finding]) -> str:
    """Return the ledger as Markdown: the counts, the claims that do not agree, and a folded table a study."""
    lines = [f"{ledger_summary(findings)}.", ""]
    open_ones = [f for f in findings if f.verdict != "agrees" or f.control != "rejected"]
    if open_ones:
        told = "Those that do not agree, or not surely, and what is known of why"
        lines += [f"<details><summary>{told} ({len(open_ones)})</summary>", ""]
        lines += [*_markdown_rows(open_ones, remarks=True), "", "</details>", ""]
    for study in dict.fromkeys(finding.study for finding in findings):
        mine = [finding for finding in findings if finding.study == study]
        lines += ["<details>", f"<summary><b>{study}</b>, {ledger_summary(mine)}</summary>", ""]
        lines += [*_markdown_rows(mine), "", "</details>"]
    return "\n".join(lines) + "\n"


def _markdown_rows(findings: Sequence[Finding], *, remarks: bool = False) -> list[str]:
    headings = ["claim", "statement", "source", "predicted", "measured [95% interval]", "verdict", "control"]
    headings += ["what is known of why"] if remarks else []
    rows = ["| " + " | ".join(headings) + " |", "| " + " | ".join("---" for _ in headings) + " |"]
    for f in findings:
        cells = [
            ", ".join(f.ids), f.claim, f"{f.source} ({f.label})", f.predicted or "-", measured_words(f), f.verdict,
            control_words(f), *([f.remark or "; ".join(f.doubts) or "-"] if remarks else []),
        ]  # fmt: skip
        rows.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |")
    return rows


def explain(claim: Claim, finding: Finding | None) -> str:
    """Return all that a claim says of itself, with its latest verdict."""
    lines = [f"{', '.join(claim.ids)}: {claim.statement}", ""]
    lines.append(f"source      {claim.source}")
    lines.append(f"label       {claim.label}")
    for title, text in (
        ("derivation", claim.derivation),
        ("tolerance", claim.tolerance_reason),
        ("control", claim.control_reason),
        ("remark", claim.remark),
    ):
        # The first line stands beside its title, the others below it.
        wrapped = [part for line in text.split("\n") for part in textwrap.wrap(line, 96)]
        lines += [f"{title if n == 0 else '':<12}{line}" for n, line in enumerate(wrapped)]
    if finding is None:
        return "\n".join([*lines, "verdict     not measured yet: no results"])
    lines.append(f"predicted   {finding.predicted or '-'}")
    lines.append(f"measured    {measured_words(finding)}")
    lines += [f"window      {finding.window}"] if finding.window else []
    lines.append(f"verdict     {finding.verdict}")
    lines.append(f"            control {control_words(finding)}")
    return "\n".join([*lines, *(f"doubt       {doubt}" for doubt in finding.doubts)])


def write_generated(findings: Sequence[Finding], figures: Iterable[Path], folder: Path) -> list[Path]:
    r"""Write what the paper includes: `ledger.tex`, `numbers.tex` and `figures.tex`, and the ledger as Markdown.

    `numbers.tex` defines `\predicted`, `\measured`, `\verdict` and `\control`, each taking a claim's id; a
    second claim with the same id has `b` appended, a third `c`, a 27th `-27`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [rf"\newcommand{{\{name}}}[1]{{\csname claim@#1@{name}\endcsname}}" for name in _FIELDS]
    rows, seen = [], dict[str, int]()
    for finding in findings:
        first = finding.ids[0]
        seen[first] = seen.get(first, 0) + 1
        number = seen[first]
        key = first + ("" if number == 1 else chr(ord("a") + number - 1) if number <= 26 else f"-{number}")
        values = (finding.predicted, measured_words(finding), finding.verdict, finding.control)
        for name, value in zip(_FIELDS, values, strict=True):
            numbers.append(rf"\expandafter\def\csname claim@{key}@{name}\endcsname{{{_tex(value)}}}")
        rows.append(" & ".join(_tex(x) for x in (key, finding.claim, *values)) + r" \\")
    included = []
    for figure in sorted(figures):
        path = os.path.relpath(figure, folder.parent)
        included.append(rf"\expandafter\def\csname figure@{figure.stem}\endcsname{{{Path(path).as_posix()}}}")
    files = {
        "numbers.tex": "\n".join(numbers),
        "ledger.tex": "\n".join([_TABLE_HEAD, *rows, _TABLE_FOOT]),
        "figures.tex": "\n".join(included),
        "ledger.md": ledger_markdown(findings),
    }
    for name, text in files.items():
        temporary = folder / f".{name}.tmp"
        temporary.write_text(text + "\n")
        os.replace(temporary, folder / name)
    return [folder / name for name in files]


def measured_words(finding: Finding) -> str:
    """Return the measurement and its interval in a few characters."""
    if np.isnan(finding.measured):
        return "-"
    return f"{number(finding.measured)} [{number(finding.low)}, {number(finding.high)}]"


def control_words(finding: Finding) -> str:
    """Return whether the control was rejected, in how many of its cells unless in all, and its measurement."""
    refuted, cells = finding.control_cells
    share = f" in {refuted} of {cells}" if 0 < refuted < cells else ""
    return f"{finding.control}{share} ({number(finding.control_measured)})"


def number(value: float) -> str:
    """Return a number with four significant digits, `-` when there is none."""
    return "-" if np.isnan(value) else f"{value:.4g}"


_TABLE_HEAD = r"""\begin{xltabular}{\linewidth}{@{}lXllll@{}}
\toprule
claim & statement & predicted & measured [95\%] & verdict & control \\
\midrule
\endhead"""
_TABLE_FOOT = r"""\bottomrule
\end{xltabular}"""
_FIELDS = ("predicted", "measured", "verdict", "control")


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)


_TEX = {character: "\\" + character for character in "_%&#${}"} | {
    "\\": r"\textbackslash{}",
    "^": r"\^{}",
    "~": r"$\sim$",
    "<": r"$<$",
    ">": r"$>$",
    "±": r"$\pm$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
}
