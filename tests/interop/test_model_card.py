"""The model card of a weights folder: its facts are the run's, and texts do nothing in it."""

import html.parser
import json
import re
import shutil

import pytest
from PIL import Image

from danet_jax.base.errors import UserError
from danet_jax.interop import model_card, weights_files
from tests.interop.folders import HOSTILE, change, export_by_command, filled_in, photo
from tests.runs import succeed


def sections(card):
    return dict(re.findall(r"^##? (.+?)\n\n(.*?)(?=^##? |\Z)", card, re.M | re.S))


def test_the_card_says_what_is_known(exported, finished):
    card = (exported / "README.md").read_text()
    parts = sections(card)
    titles = ["Data", "Recipe", "Scores", "How to use it", "Limits", "Licence"]
    assert list(parts) == ["DANet on camvid", *titles]
    assert "Trained on the split train, 8 images" in parts["Data"]
    assert "Evaluated on the split val, 4 images" in parts["Data"]
    assert "| 3 | road | 128, 64, 128 | 0." in parts["Data"]
    assert len(re.findall("^- [A-Z]", parts["Recipe"], re.M)) == 10
    assert "Length: 24 steps of 2, 6 epochs" in parts["Recipe"]
    (record,) = json.loads((finished / "report" / "evaluations.json").read_text())["evaluations"]
    score = f"{record['metrics']['mean_iou']:.4f}"
    assert "| 1 | val | 4 | whole image, " in parts["Scores"]
    assert f"| {score} |" in parts["Scores"]
    assert "crops of 32×32" in parts["Limits"]
    assert "evaluated on val of camvid alone" in parts["Limits"]
    assert "TO-BE-FILLED-IN" in parts["Licence"]


def test_the_card_begins_with_what_hubs_read(exported):
    yaml = pytest.importorskip("yaml")
    _, front, _ = (exported / "README.md").read_text().split("---\n", 2)
    found = yaml.safe_load(front)
    assert found["library_name"] == "danet-jax"
    assert found["pipeline_tag"] == "image-segmentation"
    assert "semantic-segmentation" in found["tags"]
    assert found["license"] == "TO-BE-FILLED-IN"


def test_the_cards_lines_of_python_work(exported, tmp_path, monkeypatch):
    code = re.search("```python\n(.*?)```", (exported / "README.md").read_text(), re.S)[1]
    assert len(code.splitlines()) == 3
    folder = shutil.copytree(exported, tmp_path / "folder")
    Image.fromarray(photo()).save(folder / "photo.jpg")
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(code, names)
    assert names["labels"].shape == (37, 61)


class Elements(html.parser.HTMLParser):
    """Collects the elements of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags = set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)


def test_texts_from_data_do_nothing_in_the_card(workplace, changed_run, tmp_path):
    folder = export_by_command(workplace, changed_run, tmp_path / "folder")
    card = (folder / "README.md").read_text()
    assert "\x1b" not in card
    assert list(sections(card))[1] == "Data"
    assert "- Loss: a program's own, lab.own\\_loss; weights: " in card
    (row,) = [line for line in card.splitlines() if line.startswith("| 3 |")]
    # As many cells as the others have: none of the text's own bars is one.
    assert len(re.findall(r"(?<!\\)\|", row)) == len(re.findall(r"\|", "| | | | |"))
    markdown = pytest.importorskip("markdown_it")
    parser = markdown.MarkdownIt("commonmark").enable("table")
    page = parser.render(f"| a |\n| --- |\n| {model_card.escaped(HOSTILE)} |\n")
    assert Elements(page).tags == {"table", "thead", "tbody", "tr", "th", "td"}


def test_evaluations_of_other_checkpoints_are_not_the_cards(workplace, finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)

    def add(notes):
        (first,) = notes["evaluations"]
        other = first | {"step": 20, "split": "elsewhere"}
        trained = first | {"split": "train[:3]", "images": 3, "versions": {"jax": "9.9"}}
        notes["evaluations"] += [other, trained]

    change(workdir / "report" / "evaluations.json", add)
    folder = export_by_command(workplace, workdir, tmp_path / "folder")
    card = (folder / "README.md").read_text()
    assert "elsewhere" not in card
    assert "Evaluated on the split train\\[:3\\], 3 images" in card
    assert "Evaluation 2 ran with jax 9.9" in card
    assert "can be of the same images" in card


def test_imported_weights_are_said_to_be(workplace, finished, tmp_path):
    torch = tmp_path / "torch"
    arguments = (f"--workdir={finished}", f"--output={torch}", "--format=torch")
    succeed(workplace.run("export", *arguments))
    workdir = tmp_path / "run"
    file = torch / "model.safetensors"
    succeed(
        workplace.run(
            "import-torch", f"--checkpoint={file}", f"--workdir={workdir}", *workplace.config()
        )
    )
    folder = export_by_command(workplace, workdir, tmp_path / "folder")
    recipe = sections((folder / "README.md").read_text())["Recipe"]
    assert "Start: network from model.safetensors (SHA-256 " in recipe
    assert "No step was trained in this run" in recipe
    source = json.loads((folder / "manifest.json").read_text())["source"]["weights"]
    assert source["file"] == "model.safetensors"


@pytest.mark.parametrize(
    ("front", "says"),
    [
        ("license: TO-BE-FILLED-IN\n", "line 2, `license: TO-BE-FILLED-IN`"),
        ("license:   'TO-BE-FILLED-IN'\n", "line 2, `license:   'TO-BE-FILLED-IN'`"),
        ("license:\n", "line 2, `license:`"),
        ("license: ''  # later\n", "line 2, `license: ''  # later`"),
        ("tags: []\n", "names no licence"),
        (None, "names no licence"),
    ],
)
def test_a_card_without_a_licence_is_refused_with_the_line(front, says, exported, tmp_path):
    folder = filled_in(exported, tmp_path / "folder")
    weights_files.check_licence(folder)
    text = "# A card\n" if front is None else f"---\n{front}---\n# A card\n"
    (folder / "README.md").write_text(text)
    with pytest.raises(UserError) as caught:
        weights_files.check_licence(folder)
    assert says in str(caught.value)


def test_both_places_of_the_licence_are_to_be_filled_in(exported):
    with pytest.raises(UserError) as caught:
        weights_files.check_licence(exported)
    assert str(caught.value).count("TO-BE-FILLED-IN") == 2
