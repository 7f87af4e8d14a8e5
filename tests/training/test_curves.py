import matplotlib.pyplot as plt
import pytest
import seaborn as sns
from matplotlib.figure import Figure

from nnunet_shapekd.training.curves import plot_distillation


def test_the_curves_are_readable_after_nnunets_own_plot_has_changed_all_fonts(tmp_path, monkeypatch):
    figures, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **more: figures.append(self) or savefig(self, *args, **more)
    )
    log = {"train_losses": [0.5, -0.2], "val_losses": [0.4, -0.1], "distillation_losses": [0.3, 0.1]}
    sns.set_theme(font_scale=2.5)  # what nnU-Net's plot_progress_png does
    try:
        plot_distillation(log, tmp_path / "curves.png")
    finally:
        plt.rcdefaults()
    (figure,) = figures
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {
        "segmentation loss, training",
        "segmentation loss, validation",
        "distillation loss, training (right)",
    }
    box, page = legend.get_window_extent(), figure.bbox
    assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in (*left.lines, *right.lines)] == list(log.values())
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_a_log_without_distillation_is_an_error(tmp_path):
    with pytest.raises(KeyError, match="distillation_losses"):
        plot_distillation({"train_losses": [], "val_losses": []}, tmp_path / "curves.png")
