"""Data sets, and images to predict."""

import json
import shutil

import cv2
import numpy as np
from PIL import Image

from danet_jax.input_pipeline.builders import cityscapes
from tests.input_pipeline.cityscapes import write_cityscapes
from tests.input_pipeline.folder import write_folder
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


@refused(
    "5 problems",
    "train_0.png: mode L; images are 8-bit RGB",
    "train_1.png: mode RGBA; images are 8-bit RGB",
    "train_2.png: mode I;16; images are 8-bit RGB",
    "val_0.png: 16-bit colour; images are 8-bit RGB",
    "val_1.png: mode CMYK; images are 8-bit RGB",
)
def source_with_images_of_other_modes(place):
    source = place.copy_source()
    for index, mode in enumerate(("L", "RGBA", "I;16")):
        Image.new(mode, (64, 48)).save(source / "train" / f"train_{index}.png")
    cv2.imwrite(str(source / "val" / "val_0.png"), np.zeros((48, 64, 3), np.uint16))
    Image.new("CMYK", (64, 48)).save(source / "val" / "val_1.png", format="JPEG")
    return place.prepare(source)


@refused(
    "3 problems",
    "train_0.png: does not decode (",
    "train_1.png: does not decode (not a readable image, or torn)",
    "valannot/val_0.png: does not decode (",
    "it is not prepared",
)
def source_with_torn_files(place):
    source = place.copy_source()
    for torn in (source / "train" / "train_0.png", source / "valannot" / "val_0.png"):
        torn.write_bytes(torn.read_bytes()[:-60])
    (source / "train" / "train_1.png").write_text("an error page")
    return place.prepare(source)


@refused(
    "2 problems",
    "2 labels (gtFine/train/ulm/ulm_000002_000019_gtFine_labelIds.png, ",
    "were converted to train ids already (0 to 18 and 255): give the distribution's own",
)
def train_ids_for_raw_ids(place):
    source = write_cityscapes(place.folder / "cityscapes")
    # Or its records, which are in order, would be kept.
    shutil.rmtree(source / "leftImg8bit" / "test")
    ids = np.resize([*range(19), 255], (24, 48)).astype(np.uint8)
    for city in ("train/ulm", "val/munster"):
        (label,) = (source / "gtFine" / city).glob("*_labelIds.png")
        Image.fromarray(ids).save(label)
    return place.prepare(source, "configs/cityscapes.py")


@refused(
    "2 problems",
    "2 labels (labels/train/photo_0.png, labels/val/photo_0.png) look like Cityscapes' raw "
    "labelIds (0 to 33), where train ids (0 to 18) are expected: give the *_labelTrainIds.png",
)
def raw_ids_for_train_ids(place):
    source = write_folder(place.folder / "mine")
    (source / "classes.txt").write_text("\n".join(cityscapes.NAMES) + "\n")
    ids = np.resize(np.arange(34), (24, 32)).astype(np.uint8)
    for split in ("train", "val"):
        Image.fromarray(ids).save(source / "labels" / split / "photo_0.png")
    return place.prepare(source, "configs/folder.py:classes=19")


@refused("val.txt: lists no examples")
def source_with_an_empty_split(place):
    source = place.copy_source()
    (source / "val.txt").write_text("\n")
    return place.prepare(source)


@refused("data set 'camvid' has no split 'test'; it has train, val")
def unknown_split(place):
    return ["eval", f"--workdir={place.finished}", "--split=test"]


@refused("split 'val[:0]' of data set 'camvid' has no examples")
def part_of_a_split_without_examples(place):
    return ["eval", f"--workdir={place.finished}", "--split=val[:0]"]


@refused("nothing.png: no such file or folder")
def input_that_is_missing(place):
    return place.predict(place.folder / "nothing.png")


@refused("scan.tif: pixels are floating-point numbers of unknown range; save it as 8-bit RGB")
def input_of_floats(place):
    Image.new("F", (64, 48)).save(place.folder / "scan.tif")
    return place.predict(place.folder / "scan.tif")


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
