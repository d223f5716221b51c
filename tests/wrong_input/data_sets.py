"""Data sets, and images to predict."""

import json
import shutil

from PIL import Image

from tests.wrong_input.case import refused


@refused("data set 'camvid' is not prepared in", "python main.py prepare")
def data_set_not_prepared(place):
    return place.train(f"--config.data.data_dir={place.folder / 'nothing'}")


@refused("data set 'camvid' is not prepared in", "python main.py prepare")
def inspect_what_is_not_prepared(place):
    data = f"--config.data.data_dir={place.folder / 'nothing'}"
    return ["inspect", "--config=configs/camvid.py:runlocal", data]


@refused("was trained with class 3 'pavement', which is 'road' in the data set now")
def evaluate_with_classes_in_another_order(place):
    run = place.copy_run()
    file = run / "classes.json"
    classes = json.loads(file.read_text())
    classes["names"][3:5] = ["pavement", "road"]
    file.write_text(json.dumps(classes))
    return ["eval", f"--workdir={run}"]


@refused("--examples is 0; give 1 or more")
def inspect_nothing(place):
    return ["inspect", *place.workplace.config(), "--examples=0"]


@refused("data set 'pascal_context/58': name its variant, one of pascal_context/59_alphabetical")
def unknown_variant(place):
    return place.train("--config.data.name=pascal_context/58")


@refused("configs/ade20k.py:recipe=paddle: recipe=paddle: give one of original, mmseg")
def unknown_recipe(place):
    return ["train", "--config=configs/ade20k.py:recipe=paddle", f"--workdir={place.folder / 'a'}"]


@refused("unknown data set 'camvit'", "did you mean 'camvid'?")
def unknown_data_set(place):
    return place.train("--config.data.name=camvit")


@refused("data set 'camvid' needs a source", "train.txt")
def prepare_without_source(place):
    return place.prepare(place.folder)[:-1]


@refused("source", "is not a folder")
def prepare_from_no_folder(place):
    return place.prepare(place.folder / "nothing")


@refused("train.txt: missing", "it is not prepared")
def prepare_from_another_folder(place):
    return place.prepare(place.workplace.source / "train")


@refused("is made without files", "leave out the source")
def prepare_with_a_needless_source(place):
    data = f"--config.data.data_dir={place.folder / 'data'}"
    source = f"--source={place.workplace.source}"
    return ["prepare", "--config=configs/synthetic_scenes.py", data, source]


@refused("3 problems", "train_1.png: missing", "val_2.png: missing", "val_3.png: empty file")
def source_with_missing_files(place):
    source = place.copy_source()
    (source / "train" / "train_1.png").unlink()
    (source / "valannot" / "val_2.png").unlink()
    (source / "val" / "val_3.png").write_bytes(b"")
    return place.prepare(source)


@refused("train_0.png: mode RGB", "train_1.png: 32x24, but its image is 64x48", "label ids 40")
def source_with_faulty_labels(place):
    source = place.copy_source()
    annotations = source / "trainannot"
    Image.new("RGB", (64, 48)).save(annotations / "train_0.png")
    Image.new("L", (32, 24)).save(annotations / "train_1.png")
    for file in (annotations / "train_2.png", source / "valannot" / "val_0.png"):
        Image.new("L", (64, 48), 40).save(file)
    return place.prepare(source)


@refused("val.txt: lists no examples")
def source_with_an_empty_split(place):
    source = place.copy_source()
    (source / "val.txt").write_text("\n")
    return place.prepare(source)


@refused("data set 'camvid' has no split 'test'; it has train, val")
def unknown_split(place):
    return ["eval", f"--workdir={place.finished}", "--split=test"]


@refused("nothing.png: no such file or folder")
def input_that_is_missing(place):
    return place.predict(place.folder / "nothing.png")


@refused("no image in this folder", "png")
def input_without_images(place):
    return place.predict(place.folder)


@refused("is the folder of the images")
def output_that_is_the_input(place):
    images = shutil.copytree(place.workplace.source / "val", place.folder / "images")
    return place.predict(images, images)


@refused("--output ", "is a file; name a folder")
def output_that_is_a_file(place):
    (place.folder / "file").write_text("mine")
    return place.predict(place.workplace.source / "val" / "val_0.png", place.folder / "file")
