"""Tables as Markdown and as LaTeX (booktabs)."""

from collections.abc import Sequence

LATEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}",
         "^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "×": r"$\times$", "↓": r"$\downarrow$",
         "<": r"\textless{}", ">": r"\textgreater{}", "−": "$-$", "†": r"$\dagger$", "‡": r"$\ddagger$",
         "²": r"$^2$", "§": r"\S{}"}  # fmt: skip


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> list[str]:
    """The lines of a table, its cells as they stand; `numbers` aligns all columns but the first to the right."""
    rule = ["---", *["--:" if numbers else "---"] * (len(headings) - 1)]
    return [f"| {' | '.join(headings)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(row)} |" for row in rows)]


def markdown_text(text: str) -> str:
    """Text that breaks no Markdown table and starts no markup of its own."""
    flat = " ".join(str(text).split())
    return "".join(f"\\{c}" if c in "|`<>" else c for c in flat)


def latex_text(text: str) -> str:
    """Text that LaTeX sets as it stands."""
    return "".join(LATEX.get(character, character) for character in text)


def latex_table(headings: Sequence[str], groups: Sequence[Sequence[Sequence[str]]]) -> list[str]:
    r"""The lines of a `tabular` for \usepackage{booktabs}, its cells as they stand, with a rule above each group."""
    lines = [rf"\begin{{tabular}}{{l{'c' * (len(headings) - 1)}}}", r"\toprule", " & ".join(headings) + r" \\"]
    for rows in groups:
        lines += [r"\midrule", *(" & ".join(row) + r" \\" for row in rows)]
    return [*lines, r"\bottomrule", r"\end{tabular}"]
