"""The report's page: what it says, that it needs nothing else, and what is in its pictures."""

from __future__ import annotations

import base64
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nnunet_shapekd import drawing
from nnunet_shapekd.evaluation import plausibility
from nnunet_shapekd.evaluation.compare import compare_evaluations
from nnunet_shapekd.evaluation.evaluate import Judging, evaluate_folders
from nnunet_shapekd.evaluation.metrics import METRICS
from nnunet_shapekd.evaluation.record import Evaluation
from nnunet_shapekd.evaluation.results import write_evaluation
from nnunet_shapekd.report import figures, overlays, page, pictures, tables
from nnunet_shapekd.report.runs import Run
from nnunet_shapekd.training.curves import training_curves

SPACING = (1.0, 1.0, 8.0)  # x, y, z


class Page(HTMLParser):
    """Tags with attributes, and the text a reader sees."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self._hidden = False
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)
        self.text = re.sub(r"\s+", " ", self.text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag in ("style", "script")

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        if not self._hidden:
            self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def block(shift: int = 0, thickness: int = 6, label: int = 1) -> np.ndarray:
    """A label map (4, 24, 32) with a box in slices 1 and 2 that is larger in slice 2, and one of label 2 inside it."""
    labels = np.zeros((4, 24, 32), np.uint8)
    labels[1, 6 : 6 + thickness, 8 + shift : 16 + shift] = label
    labels[2, 6 : 8 + thickness, 8 + shift : 16 + shift] = label
    labels[1:3, 8:10, 10 + shift : 12 + shift] = 2
    return labels


def write(array: np.ndarray, path: Path, spacing=SPACING) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


def dataset(root: Path, shifts: dict[str, dict[str, int]], images: bool = True) -> list[Evaluation]:
    """Evaluations of models whose boxes are shifted by so many pixels in each case."""
    labels = {"background": 0, "LVC": 1, "MLV": 2}
    cases = list(next(iter(shifts.values())))
    for i, case in enumerate(cases):
        write(block(), root / "labelsTr" / f"{case}.nii.gz")
        if images:
            noise = np.random.default_rng(i).normal(size=(4, 24, 32)).astype(np.float32)
            write(noise, root / "imagesTr" / f"{case}_0000.nii.gz")
    (root / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".nii.gz"}))
    evaluations = []
    for model, of_case in shifts.items():
        for case, shift in of_case.items():
            write(block(shift), root / model / f"{case}.nii.gz")
        evaluations.append(evaluate_folders(root / "labelsTr", root / model, Judging(processes=1), name=model))
    return evaluations


@pytest.fixture
def unrendered(monkeypatch):
    """Figures are made, but what they look like is another test's matter: rendering them takes seconds."""
    monkeypatch.setattr(drawing, "png", lambda figure: b"\x89PNG" + bytes(20))


CASES = {f"p{patient}_{phase}": patient for patient in range(1, 4) for phase in ("ED", "ES")}


@pytest.fixture(scope="module")
def evaluations(tmp_path_factory) -> list[Evaluation]:
    """Two models and six cases of three patients with ED and ES; p3_ES is A's worst case and p2_ED is B's."""
    root = tmp_path_factory.mktemp("data")
    a = dict.fromkeys(CASES, 1) | {"p3_ES": 6}
    b = dict.fromkeys(CASES, 2) | {"p2_ED": 5, "p1_ES": 0}
    return dataset(root, {"A": a, "B": b})


@pytest.fixture(scope="module")
def report(evaluations, tmp_path_factory) -> Page:
    """The report of both, with their comparison."""
    out = tmp_path_factory.mktemp("report") / "out"
    path = page.write_report(evaluations, compare_evaluations(evaluations), out)
    assert path == out / "index.html"
    found = Page(path)
    found.folder = out
    return found


def test_the_page_loads_nothing_from_anywhere(report):
    for tag, attributes in report.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            target = attributes.get(name) or ""
            assert tag != "link" and not re.match(r"(https?:)?//", target), (tag, target)
    assert "url(" not in report.html and "@import" not in report.html
    (policy,) = (m["content"] for m in report.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_figure_is_in_the_page_and_a_file(report):
    embedded = [base64.b64decode(i["src"].removeprefix("data:image/png;base64,")) for i in report.all("img")]
    files = {path.name: path.read_bytes() for path in (report.folder / "figures").iterdir()}
    assert sorted(embedded) == sorted(files.values())
    assert set(files) == {
        f"{n}.png" for n in ("dice", "hd95", "nsd", "assd", "worst", "median", "best", "bland_altman")
    }
    assert all(data.startswith(b"\x89PNG") for data in embedded)
    assert all(len(image["alt"]) > 20 for image in report.all("img"))
    links = {a["href"] for a in report.all("a") if not a["href"].startswith("#")}
    assert links == {f"figures/{name}" for name in files}


def test_links_inside_the_page_lead_somewhere(report):
    ids = {attributes["id"] for _, attributes in report.tags if "id" in attributes}
    assert {a["href"][1:] for a in report.all("a") if a["href"].startswith("#")} <= ids


def test_headings_hold_no_buttons_without_script(report):
    # the script makes them: without it there is nothing that does nothing
    assert not report.all("button")


def test_what_is_missing_is_said(report):
    assert "A: Not known: give --run A=FOLD_FOLDER." in report.text
    assert "nan" not in words(report.text)


def test_verdicts_and_too_few_patients_are_at_the_top_and_in_the_tables(report, evaluations):
    (verdict,) = compare_evaluations(evaluations)["verdicts"]
    assert verdict["text"] in report.text[: report.text.index("Metrics")]
    assert "Difference of each patient" in report.text


def test_numbers_are_the_evaluations(evaluations):
    table = tables.metrics_table(evaluations[0])
    values = [row["dice"] for row in evaluations[0].rows if row["class"] == "LVC"]
    cell = table.rows[0][1]
    expected = f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}"
    assert (cell.text, cell.detail) == (expected, f"median {100 * np.median(values):.1f}, n 6")
    assert cell.sort == pytest.approx(100 * np.mean(values))
    assert table.columns[1:] == ["Dice (%)", "IoU (%)", "NSD at 1 mm (%)", "HD95 (mm)", "HD (mm)", "ASSD (mm)"]


def test_worst_median_and_best_are_of_the_last_model(report):
    # B: p2_ED is shifted most, p1_ES not at all, and the others are equal: the first two by name are before p3_ED
    assert re.findall(r"(Worst|Median|Best): (p\d_E[DS])", report.text) == [
        ("Worst", "p2_ED"),
        ("Median", "p2_ES"),
        ("Best", "p1_ES"),
    ]


@pytest.mark.parametrize(
    ("dice", "expected"),
    [
        ({"b": 0.5, "a": 0.5, "c": 0.9, "d": 0.9, "e": 0.7}, {"worst": "a", "median": "e", "best": "c"}),
        ({"a": 0.5, "b": 0.5}, {"worst": "a", "best": "b"}),
        ({"b": 0.4}, {"only": "b"}),
        ({}, {}),
    ],
)
def test_of_equal_cases_the_first_by_name_is_chosen(dice, expected):
    assert overlays.chosen_cases(dice) == expected


def test_names_are_escaped(evaluations, tmp_path, unrendered):
    name, bad = '<b>A</b> & "co" {{ 7 * 7 }} $\\frac$', "<script>alert(1)</script>"
    classes = {bad: (1,), "MLV": (2,)}
    rows = [{**row, "class": bad if row["class"] == "LVC" else "MLV"} for row in evaluations[0].rows]
    odd = replace(evaluations[0], name=name, classes=classes, rows=rows, cardiac={})
    found = Page(page.write_report([odd], None, tmp_path / "out"))
    assert len(found.all("script")) == 1 and not found.all("b")
    assert name in found.text and bad in found.text


def test_one_case_of_one_model_without_images_is_enough(tmp_path, unrendered):
    (only,) = dataset(tmp_path / "data", {"A": {"case": 1}}, images=False)
    found = Page(page.write_report([only], None, tmp_path / "out"))
    assert "The only case: case" in found.text
    assert "Give their folder with --images" in found.text
    assert "None: this needs volumes" in found.text
    assert "on 1 case of 1 patient;" in found.text
    assert "±–" in found.text.replace(" ", "")  # of one case there is no standard deviation
    assert "nan" not in words(found.text)
    assert "shapekd compare" not in found.text


def test_undefined_values_are_dashes_and_the_rule_for_empty_masks_is_counted(evaluations, tmp_path, unrendered):
    rows = [dict(row) for row in evaluations[0].rows]
    for row in rows:
        if row["class"] == "MLV":
            row.update(dict.fromkeys(METRICS, math.nan), empty="both")
    (missed,) = (row for row in rows if (row["case"], row["class"]) == ("p1_ED", "LVC"))
    missed.update(dice=0.0, iou=0.0, nsd=0.0, hd95=51.2, hd=51.2, assd=51.2, empty="prediction")
    changed = replace(evaluations[0], rows=rows)
    table = tables.metrics_table(changed)
    assert [(cell.text, cell.detail) for cell in table.rows[1][1:]] == [("–", "n 0")] * 6
    assert [[cell.text for cell in row] for row in tables.empty_table([changed]).rows] == [
        ["A", "LVC", "0", "1", "0", "6"],
        ["A", "MLV", "6", "0", "0", "6"],
    ]
    found = Page(page.write_report([changed], None, tmp_path / "out"))
    assert "nan" not in words(found.text) and "None " not in found.text.replace("None: this", "")


def test_several_models_without_a_comparison_stand_side_by_side(evaluations, tmp_path, unrendered):
    found = Page(page.write_report(evaluations, None, tmp_path / "out"))
    assert "run shapekd compare for the differences" in found.text
    assert "Comparison" not in found.text


def test_the_cases_of_each_value_have_tables_of_their_own(evaluations, tmp_path, unrendered):
    phases = {case: "" if case == "p3_ES" else case[-2:] for case in CASES}
    write_comparison([replace(one, groups={"phase": phases}) for one in evaluations], tmp_path)
    read, comparison = page.read_folders([tmp_path])
    found = Page(page.write_report(read, comparison, tmp_path / "out"))
    (row,) = (
        row
        for row in comparison["by"]
        if (row["model"], row["value"], row["class"], row["metric"]) == ("B", "ES", "LVC", "dice")
    )
    (cells,) = (
        [cell.text for cell in cells]
        for cells in tables.by_value_tables(comparison, read[0])["dice"][0].rows
        if cells[0].text == "phase ES: LVC"
    )
    assert cells[1:3] == [f"{100 * row[key]:.1f}" for key in ("baseline_mean", "model_mean")]
    for text in ("phase ES: LVC", "phase (not known): mean of the classes", "A, phase ED", "B, phase (not known)"):
        assert text in found.text
    comparison["by"][0].pop("value")
    (tmp_path / "comparison.json").write_text(json.dumps(comparison))
    with pytest.raises(ValueError, match=r"comparison\.json .*`shapekd compare`"):
        page.read_folders([tmp_path])


def test_what_does_not_belong_together_is_listed_together(evaluations, tmp_path):
    a, b = evaluations
    other = replace(
        b,
        reference=b.reference.parent,
        classes={"LVC": (1,)},
        tolerance=2.0,
        rows=[r for r in b.rows if r["case"] != "p1_ED"],
    )
    with pytest.raises(
        ValueError, match=r"reference: A .*, B .*\n.*classes: A.*\n.*tolerance: A 1.0, B 2.0\n.*only A has: p1_ED"
    ):
        page.write_report([a, other], None, tmp_path / "out")
    with pytest.raises(ValueError, match="called A: .*--name"):
        page.write_report([a, a], None, tmp_path / "out")
    with pytest.raises(ValueError, match="shapekd evaluate"):
        page.write_report([], None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_failed_report_leaves_nothing_and_an_earlier_one_as_it_was(evaluations, tmp_path, monkeypatch, unrendered):
    out = tmp_path / "out"
    page.write_report(evaluations[:1], None, out)
    before = (out / "index.html").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(page, "_render", lambda content: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            page.write_report(evaluations, None, out)
    assert (out / "index.html").read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["out"]
    page.write_report(evaluations, None, out)  # replaces it
    assert (out / "index.html").read_bytes() != before
    (tmp_path / "mine").mkdir()
    for name in ("index.html", "thesis.txt"):
        (tmp_path / "mine" / name).write_text("mine")
    with pytest.raises(ValueError, match=re.escape(str(tmp_path / "mine"))):
        page.write_report(evaluations, None, tmp_path / "mine")
    assert {p.name: p.read_text() for p in (tmp_path / "mine").iterdir()} == dict.fromkeys(
        ("index.html", "thesis.txt"), "mine"
    )


def write_comparison(evaluations: list[Evaluation], folder: Path) -> dict:
    """What compare writes, as far as a report reads it."""
    for evaluation in evaluations:
        write_evaluation(evaluation, folder / evaluation.name)
    comparison = compare_evaluations(evaluations)
    (folder / "comparison.json").write_text(json.dumps(comparison))
    return comparison


def test_an_evaluation_of_another_name_in_a_comparisons_folder_is_an_error(evaluations, tmp_path):
    write_comparison(evaluations, tmp_path)
    write_evaluation(replace(evaluations[1], name="C"), tmp_path / "B")
    with pytest.raises(ValueError, match="A, B, .* A, C: .*shapekd compare"):
        page.read_folders([tmp_path])


def test_the_models_of_a_comparison_come_first_in_its_order(evaluations, tmp_path, unrendered):
    a, b = evaluations
    c = replace(a, name="C")
    found = Page(page.write_report([c, b, a], compare_evaluations([a, b]), tmp_path / "out"))
    assert "A · B · C" in found.text and "Not in this comparison: C." in found.text
    with pytest.raises(ValueError, match="B .* A, C"):
        page.write_report([a, c], compare_evaluations([a, b]), tmp_path / "none")


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c.pop("models"),
        lambda c: c.pop("notes"),
        lambda c: c.pop("confidence"),
        lambda c: c.update(verdicts=["text"]),
        lambda c: c.update(rows=None),
        lambda c: c.update(baseline="C"),
        lambda c: c["rows"][-1].pop("p_holm"),
        lambda c: c["rows"][-1].update(low="much"),
        lambda c: c["patient_differences"][-1].pop("patient"),
    ],
)
def test_a_damaged_comparison_is_an_error_that_says_what_to_do(evaluations, tmp_path, damage):
    comparison = write_comparison(evaluations, tmp_path)
    damage(comparison)
    (tmp_path / "comparison.json").write_text(json.dumps(comparison))
    with pytest.raises(ValueError, match=r"comparison\.json .*`shapekd compare`"):
        page.read_folders([tmp_path])


@pytest.mark.parametrize("content", ["", "[]", "{", '{"models": "AB"}'])
def test_what_is_no_comparison_is_an_error(tmp_path, content):
    (tmp_path / "comparison.json").write_text(content)
    with pytest.raises(ValueError, match=r"comparison\.json .*`shapekd compare`"):
        page.read_folders([tmp_path])


def test_the_command_reads_what_evaluate_and_compare_write(evaluations, tmp_path, capsys, unrendered):
    write_comparison(evaluations, tmp_path / "compared")
    assert page.run([tmp_path / "compared"], tmp_path / "one") == 0
    assert str(tmp_path / "one" / "index.html") in capsys.readouterr().out
    read, found = page.read_folders([tmp_path / "compared" / "A", tmp_path / "compared" / "B"])
    assert [e.name for e in read] == ["A", "B"] and found is None
    with pytest.raises(FileNotFoundError, match=r"summary\.json .* comparison\.json: .*shapekd evaluate"):
        page.read_folders([tmp_path])
    with pytest.raises(ValueError, match="shapekd compare"):
        page.read_folders([tmp_path / "compared"] * 2)
    with pytest.raises(ValueError, match="NAME=FOLD_FOLDER"):
        page.run([tmp_path / "compared"], tmp_path / "two", runs=["A"])
    with pytest.raises(ValueError, match=r"--run C=\.\.\., D=\.\.\.: no such model; there are A, B"):
        page.run([tmp_path / "compared"], tmp_path / "two", runs=["D=fold_0", "C=fold_0"])
    with pytest.raises(FileNotFoundError, match=r"checkpoint_final\.pth"):
        page.run([tmp_path / "compared"], tmp_path / "two", runs=[f"A={tmp_path}"])
    with pytest.raises(FileNotFoundError, match="--images"):
        page.run([tmp_path / "compared"], tmp_path / "two", images=tmp_path / "nowhere")
    assert not (tmp_path / "two").exists()


# --- overlays --------------------------------------------------------------------------------------------------------


def a_case(reference: np.ndarray, model: np.ndarray, spacing=(8.0, 1.0, 1.0), image: np.ndarray | None = None):
    counts = np.ones(reference.shape, bool)
    return overlays.Case({"one": (1,), "two": (2,)}, image, reference, {"A": model}, counts, spacing)


def test_the_slices_are_the_largest_reference_and_the_most_wrong():
    wrong = block()
    wrong[1, 14:22, 8:16] = 1
    assert a_case(block(), wrong).slices() == {2: "largest reference area", 1: "most pixels wrong"}
    assert a_case(block(), block()).slices() == {2: "largest reference area"}
    empty = np.zeros_like(block())
    assert a_case(empty, empty).slices() == {2: "in the middle"}
    assert a_case(empty, wrong).slices() == {1: "most pixels wrong"}


def test_voxels_of_the_ignore_label_do_not_choose_the_slice():
    wrong = block()
    wrong[0] = 1
    case = a_case(block(), wrong)
    counts = np.ones(block().shape, bool)
    counts[0] = False
    assert list(case.slices()) == [2, 0] and list(replace(case, counts=counts).slices()) == [2]


@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [
        ((10, 200, 200), (8.0, 1.5, 1.5), 0),
        ((200, 200, 10), (1.5, 1.5, 8.0), 2),
        ((50, 60, 70), (1.0, 1.0, 1.0), 0),
        ((1, 60, 70), (1.0, 2.0, 2.0), 0),
        ((60, 1, 70), (1.0, 2.0, 8.0), 1),
    ],
)
def test_volumes_are_cut_across_the_largest_spacing(shape, spacing, axis):
    assert plausibility.cut_axis(shape, spacing) == axis


def test_pictures_keep_the_true_proportions():
    case = a_case(block(), block(), spacing=(8.0, 3.0, 1.5))
    figure = overlays.overlay(case)
    assert case.aspect == 2 and all(ax.get_aspect() == 2 for ax in figure.axes)
    FigureCanvasAgg(figure).draw()
    ax = figure.axes[1]
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    frame = ax.get_window_extent()
    per_mm = (frame.width / (right - left) / 1.5, frame.height / (bottom - top) / 3.0)
    assert per_mm[0] == pytest.approx(per_mm[1], rel=0.01)


def test_the_crop_holds_all_structures_even_far_ones():
    wrong = block()
    wrong[2, 22, 31] = 1
    rows, columns = a_case(block(), wrong).box([2])
    assert rows.start <= 6 - 4 and rows.stop == 24 and columns.start <= 8 - 4 and columns.stop == 32
    assert a_case(block(), block()).box([2])[1].stop < 32


def test_columns_are_image_reference_and_models_with_the_classes_in_the_legend():
    figure = overlays.overlay(a_case(block(), block(1)), {"A": "Dice 80.0 %"})
    assert [ax.get_title() for ax in figure.axes][:3] == ["image", "reference", "A\nDice 80.0 %"]
    (legend,) = figure.legends
    assert [entry.get_text() for entry in legend.get_texts()] == ["one", "two"]
    # contours, not fills: one set per class that is there
    assert [len(ax.collections) for ax in figure.axes[:3]] == [0, 2, 2]
    assert figure.axes[1].collections[0].get_facecolor().size == 0


def test_nan_in_an_image_is_black():
    shown = overlays.grey_or_colour(np.array([[np.nan, 100.0], [50.0, np.inf]]))
    assert shown[0, 0] == 0 and shown[1, 1] == 0 and shown[0, 1] == 1
    assert (overlays.grey_or_colour(np.full((2, 2), np.nan)) == 0).all()
    assert (overlays.grey_or_colour(np.full((2, 2), 7.0)) == 0).all()


def test_nan_in_a_nifti_file_stays_nan(tmp_path):
    array = np.zeros((2, 3, 4), np.float32)
    array[1, 2, 3] = np.nan
    write(array, tmp_path / "image.nii.gz")
    assert np.isnan(overlays.read_image(tmp_path / "image.nii.gz")[1, 2, 3])


def test_colour_images_of_two_axes_stay_in_colour(tmp_path):
    colours = np.zeros((5, 7, 3), np.uint8)
    colours[..., 1] = 128
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / "case_0000.png"))
    image = overlays.read_image(tmp_path / "case_0000.png")
    assert image.shape == (1, 5, 7, 3)
    assert np.allclose(overlays.grey_or_colour(image[0]), [0, 128 / 255, 0])


def test_png_images_make_a_report_in_pixels(tmp_path):
    for folder in ("labelsTs", "A"):
        (tmp_path / folder).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(block()[2]), str(tmp_path / folder / "case.png"))
    evaluation = evaluate_folders(tmp_path / "labelsTs", tmp_path / "A", Judging(labels=[1, 2], processes=1), name="A")
    (tmp_path / "imagesTs").mkdir()
    colours = np.full((24, 32, 3), 90, np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / "imagesTs" / "case_0000.png"))
    found = Page(page.write_report([evaluation], None, tmp_path / "out"))
    assert "HD95 (px)" in found.text and "on black" not in found.text and "--images" not in found.text


def test_a_case_without_an_image_or_of_another_shape_is_said_in_its_place(evaluations, tmp_path, unrendered):
    folder = tmp_path / "images"
    write(np.zeros((4, 24, 31), np.float32), folder / "p2_ED_0000.nii.gz")
    (folder / "p1_ES_0000.nii.gz").write_bytes(b"no image")
    found = Page(page.write_report(evaluations, None, tmp_path / "out", images=folder))
    assert "p2_ED_0000.nii.gz has shape (4, 24, 31), the reference (4, 24, 32)" in found.text
    assert "has no p2_ES_0000 image" in found.text
    assert "p1_ES_0000.nii.gz: cannot be read" in found.text
    assert len([image for image in found.all("img") if "contours of the reference" in image["alt"]]) == 3


def test_label_maps_that_are_gone_are_said_in_their_place(tmp_path, unrendered):
    evaluations = dataset(tmp_path / "data", {"A": {"one": 1, "two": 2}}, images=False)
    (tmp_path / "data" / "A" / "two.nii.gz").unlink()
    found = Page(page.write_report(evaluations, None, tmp_path / "out"))
    assert re.search(r"Worst: two Not shown: \S*A/two\.nii\.gz is not there any more\.", found.text)
    (tmp_path / "data" / "labelsTr" / "two.nii.gz").unlink()
    found = Page(page.write_report(evaluations, None, tmp_path / "again"))
    assert re.search(r"Not shown: \S*labelsTr/two\.nii\.gz, \S*A/two\.nii\.gz are not there any more", found.text)
    assert found.text.count("not there any more") == 1  # the other case is shown


def test_predictions_are_not_drawn_where_the_reference_says_to_ignore(evaluations, tmp_path):
    labels = block()
    labels[:, :, 16:] = 3
    for folder, array in (("labels", labels), ("A", block(shift=4))):
        write(array, tmp_path / folder / "case.nii.gz")
    only = replace(evaluations[0], reference=tmp_path / "labels", prediction=tmp_path / "A", ignore_label=3)
    case, _ = overlays.read_case("case", [only], None)
    assert case.models["A"][2].any() and not case.models["A"][..., 16:].any()


def test_overlapping_regions_are_drawn_each_with_its_own_voxels(evaluations, tmp_path):
    for folder, shift in (("labels", 0), ("A", 4)):
        write(block(shift), tmp_path / folder / "case.nii.gz")
    regions = {"both": (1, 2), "two": (2,)}
    only = replace(evaluations[0], reference=tmp_path / "labels", prediction=tmp_path / "A", classes=regions)
    case, _ = overlays.read_case("case", [only], None)
    for name, values in regions.items():
        for kinds, labels in ((case.reference, block()), (case.models["A"], block(4))):
            assert np.array_equal(np.isin(kinds, case.classes[name]), np.isin(labels, values))


def test_a_prediction_of_two_axes_is_drawn_over_a_reference_of_one_slice(evaluations, tmp_path):
    write(block()[2:3], tmp_path / "labels" / "case.nii.gz")
    (tmp_path / "A").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(block(4)[2]), str(tmp_path / "A" / "case.nii.gz"))
    only = replace(evaluations[0], reference=tmp_path / "labels", prediction=tmp_path / "A")
    case, _ = overlays.read_case("case", [only], None)
    assert np.array_equal(case.models["A"] != 0, block(4)[2:3] != 0)


def test_the_page_says_that_files_are_read_as_they_are_now(report):
    assert "The files are read as they are now, while the numbers are those of the evaluation." in report.text


# --- runs ------------------------------------------------------------------------------------------------------------


def provenance(role: str | None) -> dict:
    return {
        "role": role,
        "trainer": "nnUNetTrainerMine",
        "settings": {"logit_weight": 1.0},
        "training_cases": ["p4_ED", "p5_ED"],
        "teacher": {"fold": 0, "weights_sha256": "ab" * 32},
        "weights_sha256": "0123456789abcdef" * 4,
    }


def test_a_teacher_is_warned_about_loudly_and_does_not_choose_the_cases(evaluations, tmp_path, monkeypatch, unrendered):
    run = {"A": Run(), "B": Run(provenance=provenance("teacher"))}
    monkeypatch.setattr(page, "read_run", lambda evaluation, folder: run[evaluation.name])
    found = Page(page.write_report(evaluations, None, tmp_path / "out"))
    assert "B is a teacher: it sees the reference labels" in found.text
    assert "A is a teacher" not in found.text
    assert "Worst: p3_ES" in found.text  # A's


def test_a_run_beside_the_predictions_is_found(evaluations, tmp_path):
    import torch

    fold = tmp_path / "nnUNetTrainerX__plans__2d" / "fold_0"
    (fold / "validation").mkdir(parents=True)
    logging = {"train_losses": [0.5, np.float32(0.25)], "val_losses": [0.5, 0.4], "lrs": [0.1, 0.1]}
    checkpoint = {
        "network_weights": {"weight": torch.zeros(2)},
        "trainer_name": "nnUNetTrainerX",
        "init_args": {"plans": {"plans_name": "plans", "dataset_name": "D"}, "configuration": "2d", "fold": 0},
        "current_epoch": 2,
        "logging": logging,
        "shapekd": {"role": "student", "trainer": "nnUNetTrainerShapeKD", "settings": {"temperature": 1.0}},
    }
    torch.save(checkpoint, fold / "checkpoint_final.pth")
    torch.save(checkpoint | {"current_epoch": 1}, fold / "checkpoint_best.pth")
    found_by_itself = replace(evaluations[0], prediction=fold / "validation")
    for evaluation, given in ((found_by_itself, None), (evaluations[0], fold)):
        run = page.read_run(evaluation, given)
        assert run.log == {"train_losses": [0.5, 0.25], "val_losses": [0.5, 0.4]}
        assert (run.provenance["trainer"], run.provenance["epochs"]) == ("nnUNetTrainerShapeKD", 2)
    (fold / "checkpoint_final.pth").write_bytes(b"damaged")
    assert "damaged" in page.read_run(found_by_itself).remark
    with pytest.raises(ValueError, match="damaged"):
        page.read_run(evaluations[0], fold)


@pytest.mark.parametrize("values", [[None], [[0.5]], "0.5", 0.5, ["0.5"], None, {0: 0.5}])
def test_a_curve_that_is_no_list_of_numbers_is_left_out_and_said(
    evaluations, tmp_path, monkeypatch, unrendered, values
):
    import torch

    fold = tmp_path / "fold_0"
    fold.mkdir()
    logging = {"train_losses": values, "val_losses": [0.5, np.float32(0.25), 1]}
    checkpoint = {"network_weights": {"weight": torch.zeros(2)}, "logging": logging}
    torch.save(checkpoint, fold / "checkpoint_final.pth")
    run = page.read_run(evaluations[0], fold)
    assert run.log == {"val_losses": [0.5, 0.25, 1.0]} and run.remark.endswith("numbers: train_losses.")
    if values == [None]:
        monkeypatch.setattr(page, "read_run", lambda evaluation, folder: run)
        found = Page(page.write_report(evaluations[:1], None, tmp_path / "out"))
        assert "A: Curves left out, as they are no lists of numbers: train_losses." in found.text


def test_odd_checkpoints_beside_the_predictions_are_said(evaluations, tmp_path):
    import torch

    (tmp_path / "validation").mkdir()
    beside = replace(evaluations[0], prediction=tmp_path / "validation")
    torch.save({"network_weights": [1], "logging": {}}, tmp_path / "checkpoint_final.pth")
    assert "is no checkpoint of nnU-Net" in page.read_run(beside).remark
    torch.save({"network_weights": {}, "logging": [1]}, tmp_path / "checkpoint_final.pth")
    assert page.read_run(beside).remark == "No curves: the checkpoint holds no log."


def test_provenance_counts_lists_and_shortens_hashes(evaluations):
    table = page.provenance_table(evaluations[0], Run(provenance=provenance("student")))
    facts = {row[0].text: row[1] for row in table.rows}
    assert facts["training cases"].text == "2" and facts["training cases"].title == "p4_ED p5_ED"
    assert facts["weights SHA-256"].text == "0123456789ab…"
    assert facts["weights SHA-256"].title == "0123456789abcdef" * 4
    assert facts["teacher: weights SHA-256"].text == "abababababab…"
    assert facts["settings: logit_weight"].text == "1.0"
    assert facts["references"].text == str(evaluations[0].reference)


def test_the_curves_of_all_runs_have_the_same_axes():
    student = {"train_losses": [0.5, -0.5], "val_losses": [0.4, -0.4], "distillation_losses": [0.3, 0.1]}
    stock = {"train_losses": [0.9, 0.1, 0.0], "val_losses": [0.2, 0.2, float("nan")], "mean_fg_dice": [0.0, 0.5, 0.6]}
    figure = training_curves({"stock": stock, "student": student})
    axes = np.array(figure.axes).reshape(3, 2)
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["segmentation loss", "distillation loss", "pseudo Dice"]
    for row in axes:
        assert row[0].get_ylim() == row[1].get_ylim()
    assert len({ax.get_xlim() for ax in axes.flat}) == 1
    assert [t.get_text() for t in axes[1, 0].texts] == ["none"]
    assert len(np.array(training_curves({"stock": stock}).axes)) == 2  # no distillation, no panel


# --- pictures of numbers ---------------------------------------------------------------------------------------------


STYLES = drawing.class_styles(["LVC"])


def test_the_median_is_drawn_above_the_points():
    (ax,) = figures.distributions({"LVC": {"A": {"x": 90.0, "y": 80.0}}}, "Dice (%)", STYLES).axes
    (median,) = (line for line in ax.lines if line.get_color() == "black")
    assert median.get_xdata()[0] == 85 and median.get_zorder() > max(c.get_zorder() for c in ax.collections)


def many_classes(evaluation: Evaluation, n: int) -> Evaluation:
    """The first class n times, ever better."""
    first = [row for row in evaluation.rows if row["class"] == "LVC"]
    rows = [{**row, "class": str(i), "dice": i / n, "hd95": float(i)} for i in range(n) for row in first]
    return replace(evaluation, classes={str(i): (i,) for i in range(n)}, rows=rows)


def test_of_many_classes_the_worst_are_drawn_in_their_own_order_and_colours(evaluations, monkeypatch):
    drawn = {}
    monkeypatch.setattr(drawing, "png", lambda figure: b"\x89PNG" + bytes(20))
    monkeypatch.setattr(
        figures, "distributions", lambda values, label, styles, marked: drawn.update({label: (list(values), styles)})
    )
    many = many_classes(evaluations[0], 20)
    dice, hd95, *_ = pictures.distributions([many], "A")
    assert drawn["Dice (%)"][0] == [str(i) for i in range(12)]
    assert drawn["HD95 (mm)"][0] == [str(i) for i in range(8, 20)]
    assert all(styles == drawing.class_styles(list(many.classes)) for _, styles in drawn.values())
    assert dice.caption == "Dice (%): the 12 of 20 classes with the lowest mean of A"
    assert hd95.caption == "HD95 (mm): the 12 of 20 classes with the highest mean of A"
    undefined = [{**row, "dice": math.nan} if row["class"] == "0" else row for row in many.rows]
    pictures.distributions([replace(many, rows=undefined)], "A")
    assert drawn["Dice (%)"][0] == [str(i) for i in range(1, 13)]


def test_of_few_classes_all_are_drawn(report):
    assert "classes with the" not in report.text


def test_a_figure_of_many_models_is_not_higher_than_matplotlib_can_draw():
    of_models = {f"model_{i}" * 500: {"x": 90.0} for i in range(14)}  # the name, in lines, is what needs the height
    figure = figures.distributions({"LVC": of_models}, "Dice (%)", STYLES)
    assert figure.get_figheight() * drawing.DPI < 2**16


def test_names_without_letters_in_the_font_are_drawn_without_a_warning(recwarn):
    figure = figures.distributions({"左心室": {"A": {"x": 90.0}}}, "Dice (%)", drawing.class_styles(["左心室"]))
    assert drawing.png(figure).startswith(b"\x89PNG")
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_a_report_leaves_pyplot_alone():
    code = "import sys, nnunet_shapekd.report.page as p; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_points_of_one_case_are_joined_and_rule_made_values_are_crosses():
    values = {"LVC": {"A": {"x": 90.0, "y": 0.0}, "B": {"x": 80.0, "y": math.nan}}}
    figure = figures.distributions(values, "Dice (%)", STYLES, {"LVC": {"A": {"y"}}})
    (ax,) = figure.axes
    lines = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2]
    assert any(np.array_equal(line, [90, 80]) for line in lines)
    crosses = [c.get_offsets() for c in ax.collections if len(c.get_offsets()) and c.get_sizes()[0] == 26]
    assert [points[:, 0].tolist() for points in crosses] == [[0.0]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["A", "B"]


def test_a_model_with_nothing_defined_is_said_in_its_strip():
    figure = figures.distributions({"LVC": {"A": {"x": math.nan}, "B": {"x": 80.0}}}, "Dice (%)", STYLES)
    assert [text.get_text() for text in figure.axes[0].texts] == ["nothing defined"]


def test_bland_altman_draws_bias_and_limits():
    rows = [
        {"patient": f"p{i}", "index": "LV EF", "unit": "%", "reference": 50.0 + i, "prediction": 52.0 + 2 * i}
        for i in range(3)
    ]
    agreement = [{"index": "LV EF", "unit": "%", "n": 3, "bias": 3.0, "limits_low": 1.04, "limits_high": 4.96}]
    figure = figures.bland_altman({"A": rows}, {"A": agreement})
    (ax,) = figure.axes
    assert sorted(line.get_ydata()[0] for line in ax.lines) == [0, 1.04, 3.0, 4.96]
    assert ax.collections[0].get_offsets().tolist() == [[51.0, 2.0], [52.5, 3.0], [54.0, 4.0]]


def test_colours_differ_and_beyond_them_line_styles_do():
    styles = drawing.class_styles([str(i) for i in range(20)])
    assert len(set(styles.values())) == 20


def test_names_break_where_their_words_end():
    assert drawing.wrapped("nnUNetTrainerShapeKD_50epochs", 20) == "nnUNetTrainerShape\nKD_50epochs"
    assert drawing.wrapped("x" * 45, 20).split("\n") == ["x" * 20, "x" * 20, "x" * 5]
    assert drawing.wrapped("", 20) == ""
