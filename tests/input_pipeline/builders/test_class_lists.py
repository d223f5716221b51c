"""classes.txt as labelling tools and people write it, each form with the same classes."""

import pytest

from danet_jax.base.errors import DataError
from danet_jax.input_pipeline.builders import folder_classes

ROAD, TREE = (128, 64, 128), (0, 200, 7)


def read(folder, text):
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "classes.txt").write_bytes(data)
    return folder_classes.read_classes(folder)


NUMBERED = {
    "commas": "0,road\n1,tree\n",
    "header": "value;label\n0;road\n1;tree\n",
    "header in another language": "Wert;Name\n0;road\n1;tree\n",
    "tabs": "class_id\tclass_name\r\n0\troad\r\n1\ttree\r\n",
    "other order": "name,id\ntree,1\nroad,0\n",
    "a number and a title that mean the same": "class,name\n0,road\n1,tree\n",
    "colons": "0: road\n1: tree\n",
    "id behind": "road: 0\ntree: 1\n",
    "equals signs": "tree = 1\nroad = 0\n",
    "spaces": "1 tree\n0 road\n",
    "id behind after spaces": "road 0\ntree 1\n",
    "dashes": "0 - road\n1 - tree\n",
    "empty lines": "0 road\n\n\n1 tree\n",
    "quotes": '"id","name"\n"0","road"\n"1","tree"\n',
    "empty columns": "0;road;;\n1;tree;;\n",
    "comment": "# id, name\n0, road\n1, tree\n# end\n",
    "yaml": "names:\n  0: road\n  1: tree\n",
    "markdown": "| id | name |\n|----|:----:|\n| 0 | road |\n| 1 | tree |\n",
    "more columns": "Idx\tRatio\tStuff\tName\n0\t0.5\t1\troad\n1\t0.25\t1\ttree\n",
}


@pytest.mark.parametrize("text", NUMBERED.values(), ids=NUMBERED.keys())
def test_lists_with_ids(tmp_path, text):
    classes = read(tmp_path, text)
    assert classes.labels.names == ("road", "tree")
    assert classes.id_map == {0: 0, 1: 1, 255: 255}
    assert not classes.color_ids


PAINTED = {
    "class_dict.csv": "name,r,g,b\nroad,128,64,128\ntree,0,200,7\n",
    "channels in another order": "b,g,r,name\n128,64,128,road\n7,200,0,tree\n",
    "labelmap": "# label:color_rgb:parts:actions\nroad:128,64,128::\ntree:0,200,7:leaf,stem:\n",
    "colour in front": "128 64 128\troad\n0 200 7\t\ttree\n",
    "brackets": "road: (128, 64, 128)\ntree: (0, 200, 7)\n",
    "hexadecimal": "name,color\nroad,#804080\ntree,#00C807\n",
    "opaque": "road,128,64,128,255\ntree,0,200,7,255\n",
    "opaque, names last": "128,64,128,255,road\n0,200,7,255,tree\n",
    "id and colour": "0 road 128 64 128\n1 tree 0 200 7\n",
    "colour and id": "name;red;green;blue;index\nroad;128;64;128;0\ntree;0;200;7;1\n",
    "colour in one column": "road;128,64,128\ntree;0,200,7\n",
    "comments behind": "road 128 64 128  # asphalt\ntree 0 200 7  # also bushes\n",
    "old Macs": "road 128 64 128\rtree 0 200 7\r",
    "QGIS": "# Color Map\nINTERPOLATION:EXACT\n0,128,64,128,255,road\n1,0,200,7,255,tree\n",
    "QGIS with spaces": "0 128 64 128 255 road\n1 0 200 7 255 tree\n",
    "ITK-SNAP": '# IDX -R- -G- -B- -A-\n 0 128 64 128 0 0 0 "road"\n 1 0 200 7 1 1 1 "tree"\n',
    "3D Slicer": "0 road 128 64 128 0\n1 tree 0 200 7 255\n",
    "hexadecimal without a sign": "name,color\nroad,804080\ntree,00C807\n",
    "hexadecimal with opacity": "road #804080ff\ntree #00C807FF\n",
}


@pytest.mark.parametrize("text", PAINTED.values(), ids=PAINTED.keys())
def test_lists_with_colours(tmp_path, text):
    classes = read(tmp_path, text)
    assert classes.labels.names == ("road", "tree")
    assert classes.labels.colors == (ROAD, TREE)
    assert classes.color_ids == {ROAD: 0, TREE: 1}


@pytest.mark.parametrize(
    "text",
    [
        "class id\nsky 0\nroad 2\ncar 1\nbus 4\n",
        "id name\n4 bus\n1 car\n2 road\n0 sky\n",
        "id;name\n4;bus\n1;car\n2;road\n0;sky\n",
    ],
)
def test_a_title_says_that_numbers_are_ids(tmp_path, text):
    classes = read(tmp_path, text)
    assert classes.labels.names == ("sky", "car", "road", "bus")
    assert classes.id_map == {0: 0, 1: 1, 2: 2, 4: 3, 255: 255}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("# land cover\n\nroad\ntree\n", ("road", "tree")),
        ("// land cover\nroad\n\n# green\ntree\n", ("road", "tree")),
        ("- road\n- tree\n", ("road", "tree")),
        ('["road", "tree"]', ("road", "tree")),
        ('"road"\n"tree"\n', ("road", "tree")),
        ('"road",\n"tree"\n', ("road", "tree")),
        ("class,description\nroad,asphalt\ntree,and bushes\n", ("road", "tree")),
        ("Bäume\nStraße\n".encode("utf-16"), ("Bäume", "Straße")),
    ],
)
def test_lists_of_names(tmp_path, text, names):
    classes = read(tmp_path, text)
    assert classes.labels.names == names
    assert classes.id_map == {0: 0, 1: 1, 255: 255}


@pytest.mark.parametrize(
    "names",
    [
        ("#1", "#2"),
        ("C# major", "lot #5"),
        ("route 66", "highway 101"),
        ("stage: 1", "stage: 2"),
        ("class 0", "class 1", "class 2"),
        ("50 euro", "20 dollar", "10 pound"),
        ("2.5D thing", "3D thing"),
        ("n01440764 tench", "n01443537 goldfish"),
        ("[void]", "road"),
        ("red", "green", "blue"),
        ("wall, brick", "wall, 2 storeys"),
        ("a:b", "c=d"),
    ],
)
def test_names_stay_as_they_are(tmp_path, names):
    classes = read(tmp_path, "\n".join(names))
    assert classes.labels.names == names
    assert classes.labels.raw_ids == tuple(range(len(names)))


def test_numbers_and_colours_of_a_name_are_told_from_those_of_its_class(tmp_path):
    classes = read(tmp_path, "zone 1,255,0,0\nzone 2,0,255,0\n")
    assert classes.labels.names == ("zone 1", "zone 2")
    assert classes.color_ids == {(255, 0, 0): 0, (0, 255, 0): 1}
    classes = read(tmp_path, "7,2 lanes\n11,1 lane, wide\n")
    assert classes.labels.names == ("2 lanes", "1 lane, wide")
    assert classes.id_map == {7: 0, 11: 1, 255: 255}
    classes = read(tmp_path, "0 255 0 0 1 lane\n1 0 255 0 2 lanes\n")
    assert classes.labels.names == ("1 lane", "2 lanes")


@pytest.mark.parametrize(
    "text",
    [
        "0,road,\n1,tree,0 200 7\n",
        "1;tree;0 200 7\n0;road;\n",
        "0,road,\n1,tree,#00C807\n",
        "id,name,color\n0,road,\n1,tree,0 200 7\n",
        "id,name,color\n0,road,\n1,tree,#00C807\n",
        "| id | name | color |\n|--|--|--|\n| 0 | road |  |\n| 1 | tree | 0 200 7 |\n",
        "0: road\n1: tree 0 200 7\n",
        "name,color\nroad,\ntree,0 200 7\n",
        "name,color\nroad,\ntree,#00C807\n",
        "road,\ntree,0 200 7\n",
        "road:\ntree: (0, 200, 7)\n",
        "road\ntree #00C807\n",
        "id,name,color,remark\n0,road,,\n1,tree,0 200 7,5\n",
    ],
)
def test_a_class_may_have_no_colour(tmp_path, text):
    classes = read(tmp_path, text)
    assert classes.labels.names == ("road", "tree")
    assert classes.id_map == {0: 0, 1: 1, 255: 255}
    assert classes.color_ids == {TREE: 1}


@pytest.mark.parametrize(
    ("text", "colors"),
    [
        ("lane 1 255 0 0\nlane 2 0 255 0\n", {(255, 0, 0): 0, (0, 255, 0): 1}),
        ("lane 1 255 0 0\nroad 0 0 9\nlane 2 0 255 0\n", None),
        ("route 366 1 2 3\nroad 4 5 6\n", {(1, 2, 3): 0, (4, 5, 6): 1}),
        ("route 66, 1 2 3\nroad 4 5 6\n", {(1, 2, 3): 0, (4, 5, 6): 1}),
        ("route 66  1 2 3\nroad 4 5 6\n", {(1, 2, 3): 0, (4, 5, 6): 1}),
        ("2 lanes 1 2 3\nroad 4 5 6\ncar 7 8 9\n", {(1, 2, 3): 0, (4, 5, 6): 1, (7, 8, 9): 2}),
    ],
)
def test_numbers_that_certainly_belong_to_a_name(tmp_path, text, colors):
    classes = read(tmp_path, text)
    assert classes.color_ids == (colors or {(255, 0, 0): 0, (0, 0, 9): 1, (0, 255, 0): 2})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("background 0 0 0\nroad 128 64 128 1\n", "line 2: 'road 128 64 128 1' ends in 4 numbers"),
        ("road 128 64 128 3\ntree 0 128 0 7\n", "line 1: 'road 128 64 128 3' ends in 4 numbers"),
        ("road\nsky 10 1 2 3\n", "line 2: 'sky 10 1 2 3' ends in 4 numbers.*a comma behind it"),
        ("sky 0 0 9\nroad 1 2 3 4 5\n", "line 2: 'road 1 2 3 4 5' ends in 5 numbers"),
        ("sky 0 0 9\nroad 1 2 3 400\n", "line 2: 'road 1 2 3 400' ends in 4 numbers"),
        ("sky   0  0  9\nroad 10  0  9  1\n", "line 2: 'road 10  0  9  1' ends in 4 numbers"),
        ("sky 0 0 9\nroad 1 2\n", "line 2: 'road 1 2' ends in two numbers"),
        ("0 0 0 sky\nroad\n", "line 1: '0 0 0 sky' begins with numbers"),
        ("0 sky 0 0 9\nroad 1 2 3\n", "line 1: '0 sky 0 0 9' begins with 0 as if"),
        ("0 1 2 3 255 road\n1 4 5 6 tree\n", "line 1: .* begins with more numbers than other"),
        ("0 0 0 sky\n1 128 64 128 road\n", "line 1: '0 0 0 sky' begins with numbers"),
        ("sky,0,\nroad,1,128 64 128\n", "line 1: 'sky,0,' looks like a row of a table"),
        ("sky, blue\nroad, 1 2 3\n", "line 1: 'sky, blue' may be titles of columns or a class"),
        ("0;road\n;tree\n", "line 1: '0;road' looks like a row of a table"),
        ("0=road\n1=\n", "line 1: '0=road' looks like a row of a table"),
        ("0: road\ntree\n", "line 1: '0: road' looks like a row of a table"),
        ("name,id\nroad,7\ntree,\n", "line 3: 'tree,' has an empty cell where .* a number, 7"),
        ("Wert;Name\n0;road\n;tree\n", "line 3: ';tree' has an empty cell"),
        ("name,r,g,b\nroad,1,2,3\ntree,,,\n", "line 3: 'tree,,,' has an empty cell"),
        ("name,r,g,b\nroad,1,2,3\ntree,1,,3\n", "line 3: 'tree,1,,3' has an empty cell"),
        ("1,road\n,tree\n2,car\n", "line 2: ',tree' has an empty cell"),
        ("name,color\nroad,1 2 3\ntree,green\n", "line 3: 'green' is no colour; write three"),
    ],
)
def test_lines_with_other_numbers_than_their_neighbours_are_refused(tmp_path, text, says):
    """They would be taken for a part of the name, or the wrong three for the colour."""
    with pytest.raises(DataError, match=f"classes.txt, {says}"):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class\nroad\ntree\n", r"line 1: 'class' looks like the header"),
        ("#road\ntree\n", r"line 1: '#road' may be a comment or a name"),
        ("sky\n1,road\n2,tree\n3,car\n", r"line 1: 'sky' is written differently from line 2"),
        ("name,id,trainId\nroad,7,0\ntree,8,1\n", r"id and trainid are both columns of numbers"),
        ("0,road\n1,road\n", r"'road' is given more than once\. A class of several ids"),
        ("0,road\n0,tree\n", r"line 1: the numbers of '0,road'.* occurs twice"),
        ("-1,void\n0,road\n", r"'void': id -1; ids are numbers from 0"),
        ("road, tree, car\n", r"one line of several names"),
        ("{0: 'road', 1: 'tree'}", r"holds JSON or the like"),
        ("['road',\n 'tree']", r"holds JSON or the like"),
        ("<annotation/>", r"holds XML or HTML"),
        ("nc: 2\nnames:\n  0: road\n  1: tree\n", r"holds a file of settings"),
        ("ro\x1b[31mad\ntree\n", r"holds the control character '\\x1b'"),
        ("road\0\n", r"holds the control character"),
        ("2\nroad\ntree\n", r"line 1: '2' seems to be the number of classes"),
        (
            "land 1 1 1 255\nsea 0 0 0 255\n",
            "line 1: .* an id and a colour, or a colour and its opa",
        ),
        ("0,128,64,255,road\n1,0,200,255,tree\n", "leave the opacity out, or name the classes"),
        ("class id\nroad 2\ncar 2\n", "titles a column of ids, and one is twice"),
        ("bg,0,0,0\nroad,0.5,0.25,0.5\n", "line 2: .* ends in three fractions"),
        ("road 0.5 0.25 0.5\ncar 0.0 0.0 1.0\n", "line 1: .* ends in three fractions"),
        ("name,red,green,blue\nroad,0.5,0.25,0.5\n", "column red holds other than whole numbers"),
        ("road 804080\ncar 112233\n", "end in six digits, which may be a colour"),
        ("1 255 0 0\n2 0 255 0\n", r"a number and a colour.* write both"),
        ("item {\n  id: 1\n  name: 'road'\n}\n", r"holds a file of settings"),
        ("road\n\ntree\n", r"line 2: empty, but each line is a class"),
    ],
)
def test_what_may_mean_several_things_is_refused(tmp_path, text, says):
    with pytest.raises(DataError, match=f"classes.txt.*{says}"):
        read(tmp_path, text)
