"""Figures, what they should be, and where they are kept."""

from bench import figures, page
from bench.figures import Figure
from bench.medians import in_turns, percentile


def test_a_target_is_met_up_to_its_bound():
    assert Figure(name="a", value=0.6, at_least=0.6).met
    assert not Figure(name="a", value=0.59, at_least=0.6).met
    assert Figure(name="a", value=1.5, at_most=1.5).met
    assert not Figure(name="a", value=1.51, at_most=1.5).met
    assert Figure(name="a", value=1).met is None


def test_a_part_that_is_measured_alone_leaves_the_other_figures(monkeypatch, tmp_path):
    monkeypatch.setattr(figures, "FIGURES", tmp_path / "build" / "bench.json")

    figures.keep([Figure(name="a", value=1), Figure(name="b", value=1, at_least=2)], stays=bool)
    figures.keep([Figure(name="a", value=3)], stays=lambda name: name == "b")

    assert figures.read(figures.FIGURES) == [
        {"name": "a", "value": 3, "unit": "ratio", "target": "", "met": None},
        {"name": "b", "value": 1, "unit": "ratio", "target": "≥ 2", "met": False},
    ]

    figures.keep([Figure(name="a", value=4)], stays=lambda name: name == "a")

    assert [each["name"] for each in figures.read(figures.FIGURES)] == ["a"]


def test_the_page_keeps_what_people_wrote(monkeypatch, tmp_path):
    written = page.PAGE.read_text()
    copy = tmp_path / "page.md"
    copy.write_text(written)
    monkeypatch.setattr(page, "PAGE", copy)
    monkeypatch.setattr(figures, "DETAILS", tmp_path / "details.json")
    measured = [Figure(name="a new figure", value=1.5, at_most=2, details={"spread": [1.4, 1.6]})]
    figures.keep_details(measured, stays=bool)

    page.write(stays=bool)
    page.write(stays=bool)

    row = "| a new figure | 1.5 | 1.4 to 1.6 | ≤ 2 | yes |  |"
    assert copy.read_text().splitlines().count(row) == 1
    assert without_marked(copy.read_text()) == without_marked(written)


def test_the_page_keeps_figures_that_were_measured_elsewhere(monkeypatch, tmp_path):
    written = page.PAGE.read_text()
    copy = tmp_path / "page.md"
    copy.write_text(written)
    monkeypatch.setattr(page, "PAGE", copy)
    monkeypatch.setattr(figures, "DETAILS", tmp_path / "details.json")
    name = "GetImage ÷ no-op, SQLite"
    figures.keep_details([Figure(name=name, value=0.8, at_least=0.6)], stays=bool)

    page.write(stays=bool)

    differing = set(written.splitlines()) ^ set(copy.read_text().splitlines())
    assert {line.partition(" | ")[0] for line in differing if line.startswith("| ")} == {f"| {name}"}
    assert f"| {name} | 0.8 |  | ≥ 0.6 | yes |  |" in differing

    page.write(stays=lambda other: other == name)

    assert "list of 100" not in copy.read_text()
    assert f"| {name} | 0.8 |" in copy.read_text()


def without_marked(text):
    lines, inside = [], False
    for line in text.splitlines():
        inside = inside and not line.startswith("<!-- end of ")
        lines += [] if inside else [line]
        inside = inside or ": written by make bench -->" in line
    return lines


def test_runs_take_turns_and_the_ratio_is_the_middle_one():
    order = []
    values = {"a": iter([0, 1, 6, 3]), "b": iter([0, 1, 2, 2])}

    def run(name):
        order.append(name)
        return next(values[name])

    turns = in_turns({name: lambda name=name: run(name) for name in values}, rounds=3)

    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert turns.ratios("a", "b") == [1, 3, 1.5]
    assert turns.ratio("a", "b") == 1.5


def test_a_percentile_is_a_value_that_so_many_do_not_exceed():
    assert percentile(range(1, 301), 0.99) == 297
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([1, 2, 3], 0.99) == 3
    assert percentile([5], 0.99) == 5
