"""``evaluate robustness``: figures worked out by hand, on files, on the command line, and drawn."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_encoder import ColourEncoder
from conftest import PngMaker
from encoder_folder import make_encoder_folder
from PIL import Image
from typer.testing import CliRunner

from embedsearch.commands.app import app
from embedsearch.encoders.compound import JoinedEncoder
from embedsearch.errors import DataError, MissingExtraError, OutputError
from embedsearch.training.augment.corruptions import CORRUPTIONS
from embedsearch.training.evaluate import evaluate_captions, evaluate_category, robustness_plot
from embedsearch.training.evaluate.robustness import (
    LEVELS,
    Measured,
    Subjects,
    evaluate_robustness,
    read_subjects,
    robustness_figures,
    spoilt_embeddings,
)


class Blind(ColourEncoder):
    """The colour encoder without its text tower."""

    @property
    def info(self) -> Any:
        return replace(super().info, has_text=False)


def at(*degrees: float) -> np.ndarray:
    """Unit vectors in the plane, (N, 2), at these angles: nearness can be read off."""
    radians = np.radians(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)


def subjects(count: int, **told: Any) -> Subjects:
    files = [(Path(f"{number}.png"), "here") for number in range(count)]
    plain: dict[str, Any] = {"captions": [], "owners": np.empty(0, np.int64), "labels": None}
    return Subjects(files, **{**plain, **told})


@pytest.fixture
def album(tmp_path: Path, png: PngMaker) -> Path:
    """Six colours, two pictures of each, as all three kinds of ground truth."""
    told, rows, copies = [], [], []
    for colour in ("red", "green", "blue", "yellow", "purple", "white"):
        for number in (1, 2):
            file = f"{colour}{number}.png"
            png(tmp_path / file, colour, size=(36 + 2 * number, 30))
            # A corner that tells the two apart.
            with Image.open(tmp_path / file) as image:
                image.paste("black", (0, 0, 9 * number, 8))
                image.save(tmp_path / file)
            told.append(json.dumps({"file": file, "captions": [f"something {colour}"]}))
            rows.append(f"{file},things,{colour}")
            copies.append(f"{file},{colour}{number},{'original' if number == 1 else 'copy'},none")
    (tmp_path / "captions.jsonl").write_text("\n".join(told))
    (tmp_path / "meta.csv").write_text("\n".join(["file,set,label", *rows]))
    (tmp_path / "copies.csv").write_text("\n".join(["file,original_id,kind,transform", *copies]))
    return tmp_path


def test_agreement_and_recall_are_worked_out_from_angles() -> None:
    clean, spoilt = at(0, 40, 80), at(0, 70, 20)  # 70 is nearest to 80, 20 as near to 0 as to 40
    figures = robustness_figures(spoilt, clean, subjects(3), None)
    assert figures == {
        "agreement": pytest.approx(np.cos(np.radians([0, 30, 60])).mean()),
        "R@1": pytest.approx(1 / 3),
    }


def test_captions_look_for_their_picture_among_the_spoilt_ones() -> None:
    clean = at(*range(0, 60, 5))  # twelve pictures
    asked = subjects(12, captions=[("", "")] * 2, owners=np.array([0, 11]))
    texts = at(0, 55)
    assert robustness_figures(clean, clean, asked, texts)["text_R@10"] == 1
    # The first picture is now the farthest from its caption; the last stays the nearest to its.
    spoilt = clean.copy()
    spoilt[0] = at(170)[0]
    assert robustness_figures(spoilt, clean, asked, texts)["text_R@10"] == 0.5


def test_labels_are_looked_for_in_the_set_and_the_picture_itself_is_left_out() -> None:
    clean = at(0, 10, 60, 70, 11, 200)
    labels = [("s", "a"), ("s", "a"), ("s", "b"), ("s", "b"), ("t", "a"), ("t", "c")]
    asked = subjects(6, labels=labels)
    # Those of set t have nobody of their label, and are nobody's neighbours in set s.
    assert robustness_figures(clean, clean, asked, None)["label_R@1"] == 1
    spoilt = at(0, 50, 60, 70, 11, 200)  # the second a is now nearest to a b
    assert robustness_figures(spoilt, clean, asked, None)["label_R@1"] == 0.75
    alone = subjects(6, labels=[("s", str(number)) for number in range(6)])
    assert "label_R@1" not in robustness_figures(clean, clean, alone, None)


def test_clean_pictures_get_the_figures_of_the_other_tasks(
    album: Path, encoder: ColourEncoder
) -> None:
    _, (by_words,) = evaluate_robustness(album / "captions.jsonl", [encoder])
    whole = evaluate_captions(album / "captions.jsonl", encoder)
    assert by_words.clean["text_R@10"] == whole["text_to_image"]["R@10"]
    assert by_words.clean["agreement"] == pytest.approx(1, abs=1e-5)
    _, (by_label,) = evaluate_robustness(album / "meta.csv", [encoder])
    labels = evaluate_category(album / "meta.csv", encoder)
    assert by_label.clean["label_R@1"] == labels["overall"]["R@1"] == 1
    assert by_label.clean["R@1"] == 1


def test_worse_pictures_are_found_less_and_every_level_is_told(
    album: Path, encoder: ColourEncoder
) -> None:
    pictures, (told,) = evaluate_robustness(album / "captions.jsonl", [encoder], workers=2)
    assert pictures == 12
    assert [(n, s) for n, levels in told.levels.items() for s in levels] == list(LEVELS)
    cosines = [figures["agreement"] for figures in told.levels["occlusion"].values()]
    assert cosines == sorted(cosines, reverse=True) and cosines[0] > 0.9 > cosines[-1]
    # A mean colour hardly feels blur and noise, but very much what stands in front.
    means = told.means()
    assert means["blur"]["agreement"] > 0.99 > means["occlusion"]["agreement"]
    assert means["occlusion"]["agreement"] == pytest.approx(np.mean(cosines))
    each = [means[name]["R@1"] for name in CORRUPTIONS]
    assert means["all"]["R@1"] == pytest.approx(np.mean(each))


def test_the_same_seed_spoils_alike_and_threads_change_nothing(
    album: Path, encoder: ColourEncoder
) -> None:
    files = read_subjects(album / "meta.csv", None, 0).files
    first, other, threaded = (
        spoilt_embeddings(files, [encoder], seed=seed, workers=workers)[0]
        for seed, workers in ((5, 1), (6, 1), (5, 3))
    )
    assert first.shape == (1 + len(LEVELS), 12, 49)
    assert (first == threaded).all()
    assert (first[0] == other[0]).all() and (first[1] != other[1]).any()


def test_all_encoders_of_a_run_are_measured_and_an_ensemble_lies_between_its_parts(
    album: Path,
) -> None:
    one, two = ColourEncoder(), Blind(seed=1)
    joined = JoinedEncoder([one, ColourEncoder(seed=1)], [1, 1])
    _, told = evaluate_robustness(album / "captions.jsonl", [one, two, joined])
    assert [measured.id for measured in told] == [one.info.id, two.info.id, joined.info.id]
    assert "text_R@10" in told[0].clean and "text_R@10" not in told[1].clean
    # Rotated spaces have the same cosines, so here the mean of the two is either.
    for name, strength in LEVELS:
        figures = [measured.levels[name][strength]["agreement"] for measured in told]
        assert figures == pytest.approx([figures[0]] * 3, abs=1e-4)


def test_a_sample_is_drawn_by_the_seed_and_keeps_the_captions_of_its_pictures(album: Path) -> None:
    drawn = read_subjects(album / "captions.jsonl", 5, 1)
    assert drawn == drawn and len(drawn.files) == 5
    for (text, _), owner in zip(drawn.captions, drawn.owners, strict=True):
        assert text.removeprefix("something ") in drawn.files[owner][0].name
    again, other = (read_subjects(album / "captions.jsonl", 5, seed) for seed in (1, 2))
    assert drawn.files == again.files != other.files
    assert len(read_subjects(album / "captions.jsonl", 99, 1).files) == 12


def test_of_copies_the_originals_are_spoilt(album: Path) -> None:
    files = [file.name for file, _ in read_subjects(album / "copies.csv", None, 0).files]
    assert files == [f"{c}1.png" for c in ("red", "green", "blue", "yellow", "purple", "white")]


def test_bad_ground_truth_is_named(album: Path, encoder: ColourEncoder) -> None:
    (album / "odd.csv").write_text("file,colour\nred1.png,red\n")
    with pytest.raises(DataError, match=r"odd\.csv: is ground truth neither of category"):
        read_subjects(album / "odd.csv", None, 0)
    (album / "bad.csv").write_text("file,set,label\ngone.png,s,a\n")
    with pytest.raises(DataError, match=r"bad\.csv, line 2: \S*gone\.png cannot be used"):
        evaluate_robustness(album / "bad.csv", [encoder])
    (album / "none.csv").write_text("file,original_id,kind,transform\nred1.png,r,copy,none\n")
    with pytest.raises(DataError, match="no picture of kind original"):
        read_subjects(album / "none.csv", None, 0)


# The command and the plot


def test_the_command_sets_encoders_side_by_side_and_draws_them(album: Path) -> None:
    folders = [str(make_encoder_folder(album / f"e{seed}", seed=seed)) for seed in (0, 1)]
    told = [word for folder in folders for word in ("--encoder", folder)]
    command = ["evaluate", "robustness", str(album / "meta.csv"), *told, "--sample", "6"]
    done = CliRunner().invoke(app, [*command, "--out", str(album / "plot.png")])
    assert done.exit_code == 0, done.output
    assert "6 pictures, each clean and spoilt" in done.stdout
    assert f"B {folders[1]}" in done.stdout
    assert len(re.findall(r"^\s+(?:\d\S* %|\S+ stops?|quality \d+)", done.stdout, re.M)) == len(
        LEVELS
    ) - len(CORRUPTIONS)
    assert re.search(r"^all .*\([+-]0\.\d{3}\)", done.stdout, re.M)
    with Image.open(album / "plot.png") as plot:
        assert plot.width > 1500 and len(plot.convert("L").getcolors() or []) > 20
    figures = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert figures["pictures"] == 6
    assert [one["spec"] for one in figures["encoders"]] == folders
    levels = figures["encoders"][0]["corruptions"]["jpeg"]
    assert [level["told"] for level in levels] == [f"quality {n}" for n in (50, 30, 20, 10, 5)]
    assert levels[0].keys() == {"strength", "told", "agreement", "R@1", "label_R@1"}


def test_options_that_belong_to_robustness_are_refused_elsewhere(album: Path) -> None:
    captions = str(album / "captions.jsonl")
    for words in (["--sample", "5"], ["--out", "x.png"], ["--encoder", "a", "--encoder", "b"]):
        done = CliRunner().invoke(app, ["evaluate", "captions", captions, *words])
        assert done.exit_code == 2 and "only for robustness" in done.output
    many = [word for number in range(8) for word in ("--encoder", str(number))]
    done = CliRunner().invoke(app, ["evaluate", "robustness", captions, *many])
    assert done.exit_code == 2 and "7 at most" in done.output


def one_measured(spec: str = "x") -> Measured:
    figures = {"agreement": 0.5, "R@1": 0.5}
    levels = {name: dict.fromkeys(one.levels, figures) for name, one in CORRUPTIONS.items()}
    return Measured(spec, f"{spec}-0", figures, levels)


def test_a_plot_takes_any_name_and_says_which_formats_there_are(tmp_path: Path) -> None:
    robustness_plot.draw([one_measured("_$x$" * 40)], tmp_path / "plot.svg")
    assert "<svg" in (tmp_path / "plot.svg").read_text()
    with pytest.raises(OutputError, match=r"plot\.txt: name a file that ends in \.png"):
        robustness_plot.draw([one_measured()], tmp_path / "plot.txt")
    with pytest.raises(OutputError, match="there is no folder"):
        robustness_plot.draw([one_measured()], tmp_path / "gone" / "plot.png")


def test_without_matplotlib_the_install_command_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r'pip install "embedsearch\[train\]"'):
        robustness_plot.draw([one_measured()], tmp_path / "plot.png")
