"""What ``shapekd cross`` prints."""

from nnunet_shapekd.across.table import lines


def test_the_table_names_models_where_there_are_several_and_shows_intervals():
    def row(dataset, where, model, **numbers):
        whose = {"dataset": dataset, "where": where, "model": model, "class": "mean", "distance_unit": "mm"}
        return {**whose, "n_cases": 16, "n_patients": 8, "p": 0.0078, "p_holm": 0.02, **numbers}

    dice = {
        "metric": "dice",
        "baseline_mean": 0.8,
        "model_mean": 0.75,
        "difference": -0.05,
        "low": -0.08,
        "high": -0.01,
    }
    hd95 = {"metric": "hd95", "baseline_mean": 9.0, "model_mean": 7.5, "difference": -1.5, "low": -3.0, "high": 0.25}
    rows = [row("There", "across", model, **numbers) for numbers in (dice, hd95) for model in ("B", "C")]
    models = [{"name": name, "dataset": "Here", "weights_sha256": {"0": "", "1": ""}} for name in "ABC"]
    text = "\n".join(lines({"models": models, "datasets": [], "confidence": 0.95, "rows": rows}))
    assert "Trained on Here, folds 0, 1; they predict together" in text
    found = [" ".join(line.split()) for line in text.splitlines() if line.startswith("There")]
    assert found[1] == "There across C 16 8 80.00 75.00 -5.00 -8.00 to -1.00 0.008 0.020"
    assert found[3] == "There across C 16 8 9.00 7.50 -1.50 -3.00 to +0.25 0.008 0.020"
