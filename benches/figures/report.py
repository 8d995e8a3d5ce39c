"""Figures as rows, on the terminal as they come and in docs/performance.md at the end."""

import re
import sys

from measure import Series

BEGIN = "<!-- begin of what scripts/bench writes -->"
END = "<!-- end of what scripts/bench writes -->"
MISSED = "Aims that are not met"


def text(value, unit):
    if value >= 100:
        return f"{value:,.0f} {unit}"
    return f"{value:.1f} {unit}" if value >= 1 else f"{value:.2f} {unit}"


def shown(value):
    """A series as its median, its minimum and its length; a figure as it is."""
    if isinstance(value, Series):
        median = text(value.median, value.unit)
        return median if len(value.values) == 1 else f"{median} ({text(value.least, value.unit)}; {len(value.values)})"
    return str(value)


class Report:
    def __init__(self):
        self.sections = []
        self.missed = []

    def section(self, title, note=""):
        self.sections.append({"title": title, "note": note, "rows": [], "blocks": []})
        print(f"\n{title}", file=sys.stderr, flush=True)

    def row(self, what, value, floor=None, compare="ratio", aim=None, unit=None, at_least=False):
        """One figure. `compare` says how it stands to its floor: by its ratio, its difference or not at all (`none`). The aim is for
        the ratio or difference where there is one, else for the figure itself, and is the most that meets it, or the least."""
        measured, against, judged = shown(value), "", None
        if isinstance(value, Series):
            judged, unit = value.median, value.unit
        compared = floor is not None and compare != "none"
        if compared:
            judged = value.median / floor.median if compare == "ratio" else value.median - floor.median
            against = f"{judged:.2f} ×" if compare == "ratio" else f"{'+' if judged >= 0 else '−'}{text(abs(judged), unit)}"
        goal = met = ""
        if aim is not None:
            sign = "≥" if at_least else "≤"
            goal = f"{sign} {aim:g} ×" if compared and compare == "ratio" else f"{sign} {aim:g} {unit}" + (" more" if compared else "")
            met = "yes" if (judged >= aim if at_least else judged <= aim) else "no"
            if met == "no":
                self.missed.append(what)
        cells = [what, measured, shown(floor) if floor is not None else "", against, goal, met]
        self.sections[-1]["rows"].append(cells)
        print("  " + " | ".join(cell for cell in cells if cell), file=sys.stderr, flush=True)

    def block(self, text_block):
        """Output of a program that prints its own table."""
        self.sections[-1]["blocks"].append(text_block)
        print(text_block, file=sys.stderr, flush=True)

    def markdown(self, machine):
        """The sections by their titles."""
        return {section["title"]: markdown(section, machine) for section in self.sections}

    def write(self, path, machine, whole):
        """Replaces sections of the page that were measured again, or all of them. What is above the mark is written by hand."""
        with open(path, encoding="utf-8") as file:
            by_hand, mark, rest = file.read().partition(BEGIN)
        measured, end, after = rest.partition(END)
        if not mark or not end:
            raise SystemExit(f"bench: {path} no longer has its marks '{BEGIN}' and '{END}'")
        sections = self.markdown(machine)
        if not whole:
            sections = titled(measured) | sections
        with open(path, "w", encoding="utf-8") as file:
            file.write("\n\n".join([by_hand + BEGIN, missed(sections), *sections.values(), END + after]))


def markdown(section, machine):
    parts = [f"## {section['title']}"]
    if section["note"]:
        parts.append(section["note"])
    if section["rows"]:
        table = ["| what | quire | floor, same run | against it | aim | met |", "| --- | --- | --- | --- | --- | --- |"]
        parts.append("\n".join(table + ["| " + " | ".join(cells) + " |" for cells in section["rows"]]))
    parts += [f"```text\n{block}\n```" for block in section["blocks"]]
    return "\n\n".join([*parts, f"Measured on {machine}."])


def titled(measured):
    """The sections of the page as it is, by their titles."""
    found = {}
    for part in re.split(r"^(?=## )", measured, flags=re.MULTILINE)[1:]:
        found[part.partition("\n")[0].removeprefix("## ")] = part.rstrip()
    return {title: text for title, text in found.items() if title != MISSED}


def missed(sections):
    """The list of the aims that are missed, from the rows of all sections."""
    lines = []
    for title, section in sections.items():
        for row in re.findall(r"^\| (.*) \| no \|$", section, flags=re.MULTILINE):
            what, quire, floor, against, aim = row.split(" | ")
            compared = f", against a floor of {floor}: {against}" if against else ""
            lines.append(f"- {title}: {what}: {quire}{compared}; the aim is {aim}")
    return "\n\n".join([f"## {MISSED}", "\n".join(lines) if lines else "None."])
