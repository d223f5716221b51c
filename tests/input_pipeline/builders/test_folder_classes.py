import json

import pytest

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import folder_classes
from danet_jax.input_pipeline.labels import standard_color
from tests.input_pipeline.folder import refused, write_folder


def read_classes(folder, text, name="classes.json"):
    text = text if isinstance(text, str) else json.dumps(text)
    (folder / name).write_text(text, encoding="utf-8")
    return folder_classes.read_classes(folder)


def test_classes_txt(tmp_path):
    text = "\ufeffroad 128 64 128\ntraffic light\n  sky 10  1 2 3 \r\n42\nroute 66\n\n"
    classes = read_classes(tmp_path, text, "classes.txt")
    assert classes.labels.names == ("road", "traffic light", "sky 10", "42", "route 66")
    assert classes.color_ids == {(128, 64, 128): 0, (1, 2, 3): 2}
    assert classes.labels.colors[0] == (128, 64, 128)
    assert classes.labels.colors[1] == standard_color(1) == (128, 0, 0)
    assert classes.labels.colors[2] == (1, 2, 3)
    assert classes.labels.raw_ids == (0, 1, 2, 3, 4)
    assert classes.id_map == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 255: 255}


@pytest.mark.parametrize(
    "names", [("1 cent", "2 cent", "5 cent"), ("0", "1", "2"), ("tree, palm", "tree, oak")]
)
def test_names_that_only_look_like_such_a_list(tmp_path, names):
    assert read_classes(tmp_path, "\n".join(names), "classes.txt").labels.names == names


def test_classes_json(tmp_path):
    content = {
        "classes": [
            {"name": "a", "ids": [7, 65535], "color": [128, 0, 0]},
            {"name": "b", "ids": [3]},
            {"name": "c"},
        ],
        "ignore": [0, [0, 0, 0], 9],
    }
    classes = read_classes(tmp_path, content)
    assert classes.id_map == {7: 0, 65535: 0, 3: 1, 2: 2, 0: 255, 9: 255}
    assert classes.color_ids == {(128, 0, 0): 7, (0, 0, 0): 0}
    assert classes.labels.raw_ids == (7, 3, 2)
    # The first of the standard palette is taken.
    assert classes.labels.colors == ((128, 0, 0), (0, 128, 0), (128, 128, 0))


def test_255_is_ignored_unless_it_is_a_class_or_others_are(tmp_path):
    def id_map(**other):
        return read_classes(tmp_path, {"classes": [{"name": "a"}, {"name": "b"}], **other}).id_map

    assert id_map() == {0: 0, 1: 1, 255: 255}
    assert id_map(ignore=[]) == {0: 0, 1: 1}
    assert id_map(ignore=[[9, 9, 9]]) == {0: 0, 1: 1, 65536: 255}
    assert id_map(classes=[{"name": "a"}, {"name": "b", "ids": [255]}]) == {0: 0, 255: 1}


def test_made_up_colours_differ(tmp_path):
    taken = standard_color(200)
    listed = [{"name": str(id)} for id in range(254)] + [{"name": "x", "color": list(taken)}]
    colors = read_classes(tmp_path, {"classes": listed}).labels.colors
    assert len({*colors}) == 255
    assert (0, 0, 0) not in colors


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "classes.json: empty file"),
        ("[" * 100_000, "classes.json: "),
        (
            '{"classes": [{"name": "a", "ids": [' + "9" * 5000 + "]}]}",
            "classes.json: ",
        ),
        ('{"classes": [{"name": "\\ud800"}]}', "holds the control character"),
        ({"classes": [{"name": " "}]}, "a class without a name"),
        ('{"classes": [\n{"name": "a"},]}', "classes.json: Expecting value in line 2, column 15"),
        ([], "classes.json: no list of classes; it looks like"),
        ({"classes": []}, "classes.json: labels: 0 classes"),
        ({"classes": ["a"]}, 'classes.json, class 0: "a"; give an object with a "name"'),
        ({"classes": [{"name": "a", "colour": 1}]}, "unknown 'colour'; known are color, ids, name"),
        ({"classes": [{"name": "a"}], "ignored": []}, "unknown 'ignored'; known are classes, ign"),
        ({"classes": [{"name": "a", "ids": 3}]}, "'a': \"ids\" is 3; give a list of numbers"),
        ({"classes": [{"name": "a", "ids": []}]}, '"ids" is []; give a list of numbers'),
        ({"classes": [{"name": "a", "ids": [65536]}]}, "id 65536; ids are numbers from 0 to 65535"),
        ({"classes": [{"name": "a", "ids": [True]}]}, "id True; ids are numbers"),
        ({"classes": [{"name": "a", "color": [1, 2]}]}, "colour [1, 2]; give red, green, blue"),
        ({"classes": [{"name": "a", "color": [1, 2, 256]}]}, "colour [1, 2, 256]; give red"),
        ({"classes": [{"name": "a"}], "ignore": 255}, '"ignore" is 255; give a list, [0, 255]'),
        ({"classes": [{"name": "a"}], "ignore": ["x"]}, "ignore: id 'x'; ids are numbers"),
        (
            {"classes": [{"name": "a", "ids": [1]}, {"name": "b"}]},
            "classes.json: id 1 is both 'a' and 'b'",
        ),
        ({"classes": [{"name": "a"}], "ignore": [0]}, "id 0 is both 'a' and ignored"),
        (
            {"classes": [{"name": name, "color": [1, 2, 3]} for name in "ab"]},
            "colour (1, 2, 3) is both 'a' and 'b'",
        ),
        ({"classes": [{"name": "a"}, {"name": "a"}]}, "class names given more than once: a"),
    ],
)
def test_contradictions_in_classes_json_are_named(tmp_path, content, says):
    with pytest.raises(DataError) as caught:
        read_classes(tmp_path, content)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a\n\nb\n", "classes.txt, line 2: empty, but each line is a class"),
        ("\n", "classes.txt: empty; give the name of a class on each line"),
        ("a 1 2 256\n", "classes.txt, 'a': colour [1, 2, 256]; give red, green, blue in 0-255"),
    ],
)
def test_mistakes_in_classes_txt_are_named(tmp_path, text, says):
    with pytest.raises(DataError) as caught:
        read_classes(tmp_path, text, "classes.txt")
    assert says in str(caught.value)


def test_a_list_in_another_encoding_is_named(tmp_path):
    source = write_folder(tmp_path / "mine")
    (source / "classes.txt").write_bytes("Straße".encode("latin-1"))
    assert "classes.txt: not a text in UTF-8" in refused(source)
